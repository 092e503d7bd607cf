"""The tapped twin of a model's train function."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainobs.capture._filling import fill, nbytes
from trainobs.capture._layout import Layout, owned_weights
from trainobs.capture._patches import Patches
from trainobs.capture._replacing import in_this_graph, replaced
from trainobs.records import StepRecord

Selects = Callable[[Any], bool]


class TappedStep:
    """A model's own `train_step`, which also hands over what its taps caught.

    Parameters
    ----------
    model : keras.Model
        A compiled model.
    selects : callable
        Given a layer, whether its site is recorded.
    withhold_update : bool
        Whether the optimizer is kept from updating.
    """

    def __init__(self, model: keras.Model, selects: Selects, *, withhold_update: bool = False) -> None:
        self._model = model
        self._train_step = model.train_step
        self._selects = selects
        self._losses = _losses_of(model)
        compiled = [loss for loss in self._losses if loss is not None]
        self._patches = Patches([model], compiled, withhold_update=withhold_update)
        self._layouts: list[Layout] = []

    def __call__(self, data: Any) -> dict[str, Any]:
        """Run the train step with taps in the model.

        In a graph this runs once per trace, and each trace has a layout of its own, found again
        by the number it returns.
        """
        with self._patches.installed(), self._patches.tracing() as trace:
            logs = in_this_graph(self._train_step)(data)
        losses = [_describe(loss) for loss in self._losses]
        layout = Layout(trace, self._patches.activations, self._selects, losses, owned_weights([self._model]))
        if tf.inside_function():
            self._layouts.append(layout)
        else:
            self._layouts = [layout]
        tensors, layout.tensors = tuple(layout.tensors), []
        return {"logs": logs, "layout": tf.constant(len(self._layouts) - 1), "tensors": tensors}

    def record(self, captured: dict[str, Any], step: int, epoch: int) -> StepRecord:
        """The record of one executed step."""
        layout = self._layouts[int(captured["layout"])]
        return fill(layout, captured["tensors"], step, epoch)

    def nbytes(self, captured: dict[str, Any]) -> int:
        """Memory that the record of an executed step takes."""
        return nbytes(self._layouts[int(captured["layout"])], captured["tensors"])


class TappedTrainFunction:
    """The tapped twin of ``model.train_function``: same arguments, same logs, and a record.

    Keras itself makes it, from the tapped step, so distribution, XLA and steps per execution are
    treated as in the model's own. The model's own train function stays as it is.

    Parameters
    ----------
    model : keras.Model
        A compiled model whose `train_function` was made.
    selects : callable
        Given a layer, whether its site is recorded.
    """

    def __init__(self, model: keras.Model, selects: Selects) -> None:
        self._step = TappedStep(model, selects)
        own = model.train_function
        with replaced(model, "train_step", lambda original, data: self._step(data)):
            try:
                model.make_train_function(force=True)
                self._function = model.train_function
            finally:
                model.train_function = own

    def __call__(self, iterator: Any) -> tuple[Any, dict[str, Any]]:
        """Run one train step; return its logs and what was captured (see `record`)."""
        captured = self._function(iterator)
        return captured["logs"], captured

    def record(self, captured: dict[str, Any], step: int, epoch: int, selects: Selects) -> CapturedStep:
        """The record of one executed step, to be filled when it is asked for."""
        make = functools.partial(self._step.record, captured, step, epoch)
        return CapturedStep(make, step, self._step.nbytes(captured), selects)


class CapturedStep:
    """What a step handed over, and the record that is made of it once somebody looks.

    Parameters
    ----------
    make : callable
        Makes the record.
    step : int
        Its number.
    nbytes : int
        Memory that the record takes.
    selects : callable
        Given a site or another weight, whether the record holds it.
    """

    def __init__(
        self,
        make: Callable[[], StepRecord],
        step: int,
        nbytes: int,
        selects: Selects,
    ) -> None:
        self.step, self.nbytes = step, nbytes
        self._selects = selects
        self._make: Any = make
        self._record: StepRecord | None = None

    def record(self) -> StepRecord:
        """The record; made once."""
        if self._record is None:
            record, self._make = self._make(), None
            sites = tuple(site for site in record.sites if self._selects(site))
            weights = tuple(weight for weight in record.weights if self._selects(weight))
            self._record = dataclasses.replace(record, sites=sites, weights=weights)
        return self._record


def _losses_of(model: keras.Model) -> list[Any]:
    """The compiled loss of each output, None where there is none."""
    losses = model.loss
    if isinstance(losses, dict):
        names = getattr(model, "output_names", None) or list(losses)
        losses = [losses.get(name) for name in names]
    return [keras.losses.get(loss) for loss in keras.tree.flatten(losses)]


def _describe(loss: Any) -> tuple[str, bool]:
    """Name of a loss, and whether it was told to expect logits."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name), bool(getattr(loss, "from_logits", False))
