"""The user's own train step once more, operation by operation."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import op_callbacks

from trainobs.capture._users_lines import Line
from trainobs.capture.inside._lines import this_call, users_line
from trainobs.capture.step import connected, nodes_of, optimizers_of, replaced, variables_by_id

Original = Callable[..., Any]

#: Unlike any seed that somebody chooses.
_SEED = 0x5EC0_1D10


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One operation that ran: what it read and made, in which layer, and the user's line."""

    number: int
    type: str
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    layer: str
    line: Line


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
    """One call of `tape.gradient` that differentiated weights.

    Attributes
    ----------
    operations : tuple of Operation
        Those that ran before it.
    target : tensor
        What was differentiated.
    gradients : dict of int to tensor or None
        By id of what an operation made: the gradient that arrives there.
    weights : dict of int to tensor or None
        By id of the variable: its gradient.
    sources : dict of int to tensor
        By id of the variable: what it was differentiated as.
    tape : tf.GradientTape
        Which may be asked again.
    """

    operations: tuple[Operation, ...]
    target: object
    gradients: dict[int, tf.Tensor | None]
    weights: dict[int, tf.Tensor | None]
    sources: dict[int, tf.Tensor]
    tape: tf.GradientTape

    def sent_by(self, tensor: tf.Tensor, arriving: tf.Tensor | None) -> dict[int, tf.Tensor | None]:
        """What a tensor sends to each weight of the gradient that arrives at it."""
        found = self.tape.gradient(tensor, [*self.sources.values()], arriving)
        return dict(zip(self.sources, found, strict=True))


class Watching:
    """Notes what runs in a train step.

    Parameters
    ----------
    model : keras.Model
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._operations: list[Operation] = []
        self._layers: list[str] = []
        self._tapes: list[tf.GradientTape] = []
        self._is_paused = False
        self._outermost: FrameType | None = None
        self.passes: list[Pass] = []
        self.derivatives: list[tuple[Line, list[tf.Tensor]]] = []

    def run(self, data: object) -> None:
        """Run the train step on a batch, without its update."""
        self._outermost = this_call()
        try:
            with self._installed():
                self._model.train_step(data)
        finally:
            self._outermost = None

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        as_it_was = tf.config.functions_run_eagerly()
        with contextlib.ExitStack() as stack:
            for target, name, wrapper in self._wrappers():
                stack.enter_context(replaced(target, name, wrapper))
            stack.callback(tf.config.run_functions_eagerly, as_it_was)
            tf.config.run_functions_eagerly(True)
            note = self._note  # the same object when it is taken out
            op_callbacks.add_op_callback(note)
            stack.callback(op_callbacks.remove_op_callback, note)
            yield

    def _wrappers(self) -> Iterator[tuple[object, str, Original]]:
        for layer in (self._model, *nodes_of(self._model)):
            yield layer, "call", functools.partial(self._call, layer.name)
        for optimizer in optimizers_of(self._model):
            yield optimizer, "apply", nothing
        yield tf.GradientTape, "__init__", _persistent
        yield tf.GradientTape, "__enter__", self._enter_tape
        yield tf.GradientTape, "__exit__", self._exit_tape
        yield tf.GradientTape, "gradient", self._gradient

    # ---- what stands in for methods ----------------------------------------------------------

    def _call(self, name: str, original: Original, *args: object, **kwargs: object) -> object:
        self._layers.append(name)
        try:
            return getattr(original, "python_function", original)(*args, **kwargs)
        finally:
            self._layers.pop()

    def _enter_tape(self, original: Original, tape: tf.GradientTape) -> tf.GradientTape:
        entered: tf.GradientTape = original(tape)
        for operation in self._operations:  # also what was computed outside of the tape
            self._watch(tape, operation.outputs)
        self._tapes.append(tape)
        return entered

    def _exit_tape(self, original: Original, tape: tf.GradientTape, *error: object) -> object:
        self._tapes = [other for other in self._tapes if other is not tape]
        return original(tape, *error)

    def _gradient(
        self,
        original: Original,
        tape: tf.GradientTape,
        target: tf.Tensor,
        sources: object,
        output_gradients: object = None,
        unconnected_gradients: tf.UnconnectedGradients = tf.UnconnectedGradients.NONE,
    ) -> object:
        own = tf.nest.flatten(sources)
        weights = variables_by_id([self._model])
        if not any(id(source) in weights for source in own):
            taken = original(tape, target, sources, output_gradients, unconnected_gradients)
            assert self._outermost is not None
            self.derivatives.append((users_line(self._outermost), _tensors(taken)))
            return taken
        operations = tuple(self._operations)
        made = [t for operation in operations for t in operation.outputs if is_floating(t)]
        with self._paused():
            found = original(tape, target, [*own, *made], output_gradients)
        named = zip(own, found, strict=False)
        gradients = {id(tensor): gradient for tensor, gradient in zip(made, found[len(own) :], strict=True)}
        of_weights = {id(weights[id(s)]): gradient for s, gradient in named if id(s) in weights}
        asked = {id(weights[id(source)]): source for source in own if id(source) in weights}
        self.passes.append(Pass(operations, target, gradients, of_weights, asked, tape))
        given = tf.nest.pack_sequence_as(sources, found[: len(own)])
        return connected(given, sources, unconnected_gradients)

    # ---- operations --------------------------------------------------------------------------

    def _note(
        self,
        op_type: str | bytes,
        inputs: Sequence[tf.Tensor],
        attrs: object,
        outputs: Sequence[tf.Tensor],
        op_name: str | None = None,
        graph: tf.Graph | None = None,
    ) -> None:
        """TensorFlow calls this after each operation."""
        if self._is_paused or graph is not None or self._outermost is None:
            return
        name = op_type.decode() if isinstance(op_type, bytes) else op_type
        layer = self._layers[-1] if self._layers else ""
        line = users_line(self._outermost)
        operation = Operation(len(self._operations), name, tuple(inputs), tuple(outputs), layer, line)
        self._operations.append(operation)
        for tape in self._tapes:
            self._watch(tape, operation.outputs)

    def _watch(self, tape: tf.GradientTape, tensors: Sequence[tf.Tensor]) -> None:
        """Let the tape know gradients of all that runs, also behind what has none."""
        with self._paused():
            for tensor in filter(is_floating, tensors):
                tape.watch(tensor)

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before


@contextlib.contextmanager
def random_state_restored() -> Iterator[None]:
    """Put back what operations without a graph draw from, and NumPy's own generator.

    An operation keeps a state for each pair of seeds, so they draw with another one of the first meanwhile.
    """
    eager, of_numpy = context.context(), np.random.get_state()  # noqa: NPY002 (users' code draws from it)
    before = eager._seed, getattr(eager, "_rng", None)  # there is none before a seed was set
    eager._seed, eager._rng = _SEED, random.Random(_SEED)
    try:
        yield
    finally:
        eager._seed, eager._rng = before
        np.random.set_state(of_numpy)  # noqa: NPY002


def is_floating(value: object) -> bool:
    """Whether a gradient can flow through a value."""
    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def _tensors(structure: object) -> list[tf.Tensor]:
    return [t for t in tf.nest.flatten(structure, expand_composites=True) if tf.is_tensor(t)]


def _persistent(original: Original, tape: tf.GradientTape, persistent: bool = False, **options: bool) -> None:
    """In place of a tape's `__init__`: it may be asked more than once."""
    original(tape, persistent=True, **options)


def nothing(*args: object, **kwargs: object) -> None:
    """In place of an update."""
