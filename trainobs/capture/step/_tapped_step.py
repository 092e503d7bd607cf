"""A model's own train step with taps in it, and what it hands over."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from trainobs.capture.reading import CompiledLoss, StepPlan, nbytes, owned_weights, plan_step, to_record
from trainobs.capture.step._patches import Patches
from trainobs.capture.step._replacing import in_this_graph
from trainobs.records import SiteRecord, StepRecord, WeightRecord

Selects = Callable[[keras.Layer], bool]
SelectsRecord = Callable[[SiteRecord | WeightRecord], bool]
Loss = Callable[..., tf.Tensor]


class HandedOver(NamedTuple):
    """What one tapped step returns: its logs, the number of its trace's plan, and the tensors in it."""

    logs: object
    plan: tf.Tensor
    tensors: tuple[tf.Tensor, ...]


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
        self._plans: list[StepPlan] = []

    def __call__(self, data: object) -> HandedOver:
        """Run the train step with taps in the model.

        In a graph this runs once per trace, and each trace has a plan of its own, found again
        by the number it returns.
        """
        with self._patches.installed(), self._patches.tracing() as trace:
            logs = in_this_graph(self._train_step)(data)
        losses = [_describe(loss) for loss in self._losses]
        owned = owned_weights([self._model])
        plan, tensors = plan_step(trace, self._patches.activations, self._selects, losses, owned)
        if tf.inside_function():
            self._plans.append(plan)
        else:
            self._plans = [plan]
        return HandedOver(logs, tf.constant(len(self._plans) - 1), tuple(tensors))

    def record(self, handed: HandedOver, step: int, epoch: int) -> StepRecord:
        """The record of one executed step."""
        return to_record(self._plan_of(handed), handed.tensors, step, epoch)

    def captured(self, handed: HandedOver, step: int, epoch: int, selects: SelectsRecord) -> CapturedStep:
        """One executed step, whose record is made when it is asked for."""
        make = functools.partial(self.record, handed, step, epoch)
        return CapturedStep(make, step, nbytes(self._plan_of(handed), handed.tensors), selects)

    def _plan_of(self, handed: HandedOver) -> StepPlan:
        return self._plans[int(handed.plan)]


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
        selects: SelectsRecord,
    ) -> None:
        self.step, self.nbytes = step, nbytes
        self._selects = selects
        self._make: Callable[[], StepRecord] | None = make
        self._record: StepRecord | None = None

    def record(self) -> StepRecord:
        """The record; made once."""
        if self._record is None:
            assert self._make is not None
            record, self._make = self._make(), None  # and with it, the tensors
            sites = tuple(site for site in record.sites if self._selects(site))
            weights = tuple(weight for weight in record.weights if self._selects(weight))
            self._record = dataclasses.replace(record, sites=sites, weights=weights)
        return self._record


def _losses_of(model: keras.Model) -> list[Loss | None]:
    """The compiled loss of each output, None where there is none."""
    losses = model.loss
    if isinstance(losses, dict):
        names = getattr(model, "output_names", None) or list(losses)
        losses = [losses.get(name) for name in names]
    return [keras.losses.get(loss) for loss in keras.tree.flatten(losses)]


def _describe(loss: Loss | None) -> CompiledLoss:
    """What a loss is called, and whether it was told to expect logits."""
    if loss is None:
        return CompiledLoss()
    function = getattr(loss, "fn", loss)  # Keras' loss classes wrap its functions
    makers = (type(loss) if isinstance(loss, keras.losses.Loss) else loss), function
    own = not all(getattr(maker, "__module__", "").startswith("keras.") for maker in makers)
    named = getattr(function, "__name__", "")
    name = getattr(loss, "name", None) or named if own else named
    return CompiledLoss(str(name), bool(getattr(loss, "from_logits", False)), own)
