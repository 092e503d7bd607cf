"""Other settings of the optimizer: smaller steps, clipped gradients, a scaled loss."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import ClassVar

import keras
import numpy as np

from trainobs.capture import updating_optimizer
from trainobs.errors import InvalidArgument, ModelNotReady
from trainobs.mechanisms import Mechanism
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import rebuilt
from trainobs.remedies._treatment import Treatment


def clip_gradients(model: keras.Model, norm: float = 1.0) -> keras.Model:
    """Scale gradients down to a global norm, where theirs is larger (Pascanu et al. 2013)."""
    return _with_optimizer(model, clipnorm=None, clipvalue=None, global_clipnorm=norm)


def lower_learning_rate(model: keras.Model, by: float = 10.0) -> keras.Model:
    """Divide the optimizer's learning rate, which must be a number, no schedule."""
    return _with_optimizer(model, learning_rate=_learning_rate(model) / by)


def warm_up(model: keras.Model, steps: int = 100) -> keras.Model:
    """Let the learning rate grow from 0 to its value over the first steps (Goyal et al. 2017)."""
    rate = _learning_rate(model)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, steps, end_learning_rate=rate)
    return _with_optimizer(model, learning_rate=schedule)


def scale_loss(model: keras.Model) -> keras.Model:
    """Scale the loss before the gradient is taken, so that half precision does not flush it to zero.

    Keras' `LossScaleOptimizer` finds the scale and takes it back (Micikevicius et al. 2018).
    """
    optimizer = _optimizer_of(model)
    inner = type(optimizer).from_config(optimizer.get_config())
    return rebuilt(model, optimizer=keras.optimizers.LossScaleOptimizer(inner))


class _OfOptimizer(Remedy):
    """Fits whatever the finding is; the docstring of each is the sentence that says what it changes."""

    change: ClassVar[staticmethod[..., keras.Model]]

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """Whatever the finding."""
        yield Treatment.of_model(mechanism, self.name, inspect.getdoc(type(self)) or "", type(self).change)


class ClipGradients(_OfOptimizer):
    """Scales gradients down to a global norm of 1."""

    name = "clip gradients"
    change = staticmethod(clip_gradients)


class LowerLearningRate(_OfOptimizer):
    """Divides the learning rate by 10."""

    name = "lower learning rate"
    change = staticmethod(lower_learning_rate)


class WarmUp(_OfOptimizer):
    """Lets the learning rate grow from 0 to its value over 100 steps."""

    name = "warm-up"
    change = staticmethod(warm_up)


class ScaleLoss(_OfOptimizer):
    """Wraps the optimizer in a LossScaleOptimizer."""

    name = "loss scaling"
    change = staticmethod(scale_loss)


def _learning_rate(model: keras.Model) -> float:
    rate = updating_optimizer(_optimizer_of(model)).get_config().get("learning_rate")
    if not isinstance(rate, (int, float, np.floating)):
        raise InvalidArgument(f"The learning rate is a schedule: change that. Received: {rate!r}.")
    return float(rate)


def _with_optimizer(model: keras.Model, **config: object) -> keras.Model:
    optimizer = _optimizer_of(model)
    inner = updating_optimizer(optimizer)
    changed = type(inner).from_config({**inner.get_config(), **config})
    if inner is not optimizer:
        serialised = keras.optimizers.serialize(changed)
        changed = type(optimizer).from_config({**optimizer.get_config(), "inner_optimizer": serialised})
    return rebuilt(model, optimizer=changed)


def _optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer:
    if not model.compiled:
        raise ModelNotReady("The model is not compiled: it has no optimizer to change.")
    return model.optimizer
