"""What is asked of a second look at a batch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture.inside._broken import made_going_back, made_going_forward
from trainobs.capture.inside._constant import constant_softmax
from trainobs.capture.inside._lines import Line, code_at
from trainobs.capture.inside._watching import Operation, Pass, Watching, is_floating, random_state_restored
from trainobs.capture.inside._ways import Ways, is_zero, loudest_way, reads_of
from trainobs.capture.step import prepared, state_restored
from trainobs.records import Broken, Ending, Place

_STOP = "StopGradient"


def second_look(model: keras.Model, x: object, y: object, sample_weight: object) -> BatchLook | None:
    """Look once more at a batch, with the update withheld and all state put back.

    Returns
    -------
    BatchLook or None
        None where the train step can't run without a graph, or differentiates no weight.
    """
    data, watching = prepared(model, x, y, sample_weight), Watching(model)
    # the user's code may need a graph
    with contextlib.suppress(Exception), state_restored(model), random_state_restored():
        watching.run(keras.utils.pack_x_y_sample_weight(*data))
    if not watching.passes:
        return None
    return BatchLook(model, watching.passes, watching.derivatives, keras.tree.flatten(data))


@dataclasses.dataclass(frozen=True, eq=False)
class BatchLook:
    """Answers questions about the operations of one batch.

    Parameters
    ----------
    model : keras.Model
    passes : list of Pass
    derivatives : list of (Line, list of tensors)
        What inner tapes took, and where.
    data : list of tensors
        The batch.
    """

    model: keras.Model
    passes: list[Pass]
    derivatives: list[tuple[Line, list[tf.Tensor]]]
    data: list[tf.Tensor]

    # ---- where a gradient ends ---------------------------------------------------------------

    def ending(self, weight: str) -> Ending | None:
        """Where the gradient of a weight ends, given its path; None for a weight that has one."""
        variable = next((v for v in self.model.variables if v.path == weight), None)
        found = None if variable is None else self._pass_of(variable)
        if variable is None or found is None:
            return None
        gradient = found.weights[id(variable)]
        if not is_zero(gradient):
            return None
        ways = self._ways(found)
        reads = reads_of(ways, variable)
        if not reads:
            return Ending("never")
        return _cut(ways, reads) if gradient is None else _silenced(ways, reads)

    def _pass_of(self, variable: keras.Variable) -> Pass | None:
        asked = (found for found in self.passes if id(variable) in found.weights)
        return next(asked, None)

    def drop(self, weight: str, gain: float) -> Place | None:
        """On the way from a weight to the loss, the operation that takes most of the gradient.

        None where none passes on so little as `gain`.
        """
        variable = next((v for v in self.model.variables if v.path == weight), None)
        found = None if variable is None else self._pass_of(variable)
        if variable is None or found is None:
            return None
        ways = self._ways(found)
        steps = loudest_way(ways, reads_of(ways, variable))
        least, operation = min(steps, default=(np.inf, None), key=lambda step: step[0])
        return place_of(operation) if operation is not None and least <= gain else None

    # ---- what made values broken, or zero ----------------------------------------------------

    def broken(self) -> Broken | None:
        """The operation that made the first NaN or infinite values: on the way forward, else going back."""
        for found in self.passes:
            made = made_going_forward(self._ways(found), found.target)
            if made is not None:
                return Broken("output", place_of(made))
        for found in self.passes:
            made = made_going_back(self._ways(found))
            if made is not None:
                return Broken("gradient", place_of(made))
        return None

    def zeros_from(self, layer: str) -> Place | None:
        """The operation that made the zeros which a layer reads, or else puts out."""
        for found in self.passes:
            ways = self._ways(found)
            own = [operation for operation in ways.operations if operation.layer == layer]
            put_out = own[-1].outputs if own else ()
            for tensor in filter(is_floating, (*_read_by(ways, own), *put_out)):
                origin = ways.origin(tensor, is_zero) if is_zero(tensor) else None
                if origin is not None:
                    return place_of(origin)
        return None

    def flat_derivative(self) -> Place | None:
        """Where an inner tape took a gradient that is exactly zero."""
        flat = (line for line, found in self.derivatives if found and all(map(is_zero, found)))
        line = next(flat, None)
        return None if line is None else Place("", "GradientTape.gradient", *line, code_at(line))

    @functools.cached_property
    def _linked(self) -> dict[int, Ways]:
        return {}

    def _ways(self, found: Pass) -> Ways:
        if id(found) not in self._linked:
            self._linked[id(found)] = Ways(found, self.data)
        return self._linked[id(found)]


def place_of(operation: Operation) -> Place:
    """Where an operation is."""
    return Place(operation.layer, operation.type, *operation.line, code_at(operation.line))


def _read_by(ways: Ways, own: list[Operation]) -> Iterator[tf.Tensor]:
    """What operations of a layer read from others."""
    numbers = {operation.number for operation in own}
    for operation in own:
        for tensor in operation.inputs:
            maker = ways.maker(tensor)
            if maker is not None and maker.number not in numbers:
                yield tensor


def _cut(ways: Ways, reads: list[tf.Tensor]) -> Ending:
    """Where no gradient comes through: the first that stops it, or makes integers or truth values of it; else
    the one at which a gradient arrives, and none at what it read.

    No tape can be made to watch what `tf.stop_gradient` puts out, so no gradient is known to arrive there.
    """
    way, cut = ways.first_behind(reads, lambda tensor: ways.gradient(tensor) is not None)
    if cut is None:
        return Ending("unused", place_of(max((step[0] for step in way), key=_number)) if way else None)
    behind = [*(read for _, read in way[1:]), None]
    for (operation, read), made in zip(way, behind, strict=True):
        if operation.type == _STOP or (is_floating(read) and made is not None and not is_floating(made)):
            return Ending("cut", place_of(operation))
    return Ending("cut", place_of(cut))


def _silenced(ways: Ways, reads: list[tf.Tensor]) -> Ending | None:
    """Where a gradient becomes exactly zero."""
    _, silencer = ways.first_behind(reads, lambda tensor: not is_zero(ways.gradient(tensor)))
    if silencer is None:
        return None
    if silencer.type in _STEPS:  # TensorFlow sends zeros back, but by nature, whatever it reads
        return Ending("cut", place_of(silencer))
    operation, constant = constant_softmax(ways, silencer)
    return Ending("zero", place_of(operation), constant)


#: Step functions: flat wherever they have a slope, so that their registered gradient is zero.
_STEPS = frozenset({"Sign", "Round", "Rint", "Floor", "Ceil", "FloorDiv"})


def _number(operation: Operation) -> int:
    return operation.number
