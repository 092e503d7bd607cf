"""Runs a batch with something changed, the update withheld, and all state put back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture._keras_internals import logits_behind
from trainobs.capture.inside import is_floating, nothing, random_state_restored
from trainobs.capture.intervene._changes import in_place
from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.capture.step import (
    connected,
    optimizers_of,
    penalty_gradient,
    prepared,
    replaced,
    state_restored,
    variables_by_id,
)
from trainobs.counterfactuals import Counterfactual, TriedOut, Untried

Original = Callable[..., Any]
Array = np.ndarray


def try_out(
    model: keras.Model, batch: tuple[object, object, object], changes: tuple[Counterfactual, ...]
) -> TriedOut | Untried:
    """Run a batch (x, y, sample_weight) with these changes, and see which gradients come to the weights.

    Returns
    -------
    TriedOut or Untried
        Untried where a change can't be made in this model, or its train step can't run without a graph.
    """
    data, run = prepared(model, *batch), Run(model)
    try:
        with state_restored(model), random_state_restored():
            return run.on(keras.utils.pack_x_y_sample_weight(*data), changes)
    except NotInPlace as reason:
        return Untried(str(reason))
    except Exception:  # the user's code may need a graph, or what was not changed
        return Untried("the train step does not run without a graph, or not with this change")


class Run:
    """One run of a model's own train step, without a graph.

    Parameters
    ----------
    model : keras.Model
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._outputs: list[tf.Tensor] = []  # prediction by prediction, and the logits behind it
        self._squares: list[tuple[float, int]] = []
        self._gradients: dict[int, tf.Tensor | None] = {}
        self._scale = 1.0

    def on(self, data: object, changes: tuple[Counterfactual, ...]) -> TriedOut | Untried:
        """What comes of a batch."""
        with self._installed(), in_place(self._model, changes):
            self._model.train_step(data)
            weights = {variable.path: self._of(variable) for variable in self._asked()}
        if not weights:
            return Untried("the train step differentiates no weight outside of a graph")
        first = next(t for t in keras.tree.flatten(data) if t is not None)
        return TriedOut(weights, tuple(self._squares), int(tf.shape(first)[0]))

    def _asked(self) -> list[keras.Variable]:
        return [variable for variable in self._model.variables if id(variable) in self._gradients]

    def _of(self, variable: keras.Variable) -> Array | None:
        """The gradient of a weight, without its own penalty."""
        gradient = self._gradients[id(variable)]
        if gradient is None:
            return None
        penalty = penalty_gradient(variable)
        value = np.asarray(tf.cast(gradient, tf.float32)) / self._scale
        return value if penalty is None else value - np.asarray(tf.cast(penalty, tf.float32))

    # ---- what stands in for methods ----------------------------------------------------------

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        as_it_was = tf.config.functions_run_eagerly()
        with contextlib.ExitStack() as stack:
            stack.callback(tf.config.run_functions_eagerly, as_it_was)
            tf.config.run_functions_eagerly(True)
            for target, name, wrapper in self._wrappers():
                stack.enter_context(replaced(target, name, wrapper))
            yield

    def _wrappers(self) -> Iterator[tuple[object, str, Original]]:
        yield self._model, "call", self._call
        for optimizer in optimizers_of(self._model):
            yield optimizer, "apply", nothing
            yield optimizer, "scale_loss", self._scale_loss
        yield tf.GradientTape, "gradient", self._gradient

    def _call(self, original: Original, *args: object, **kwargs: object) -> object:
        outputs = original(*args, **kwargs)
        self._outputs += filter(is_floating, keras.tree.flatten(outputs))
        return outputs

    def _scale_loss(self, original: Original, loss: tf.Tensor) -> tf.Tensor:
        self._scale = float(original(tf.ones((), tf.float32)))
        return original(loss)

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
            return original(tape, target, sources, output_gradients, unconnected_gradients)
        logits = [logits_behind(tensor, frozenset()) for tensor in self._outputs]
        behind = [t if o is None else o for t, o in zip(self._outputs, logits, strict=True)]
        found = original(tape, target, [*own, *self._outputs, *behind], output_gradients)
        for source, gradient in zip(own, found, strict=False):
            if id(source) in weights:
                self._add(weights[id(source)], gradient)
        many = len(self._outputs)
        arriving = found[len(own) :]
        pairs = zip(self._outputs, arriving[:many], arriving[many:], strict=True)
        self._squares += [self._square(tensor, one, other) for tensor, one, other in pairs]
        given = tf.nest.pack_sequence_as(sources, found[: len(own)])
        return connected(given, sources, unconnected_gradients)

    def _add(self, variable: keras.Variable, gradient: tf.Tensor | None) -> None:
        before = self._gradients.get(id(variable))
        parts = [tf.convert_to_tensor(part) for part in (before, gradient) if part is not None]
        self._gradients[id(variable)] = tf.add_n(parts) if parts else None

    def _square(
        self, output: tf.Tensor, direct: tf.Tensor | None, behind: tf.Tensor | None
    ) -> tuple[float, int]:
        """Of the gradient at an output, or else at the logits that the loss reads in its place."""
        gradient = behind if direct is None else direct
        if gradient is None:
            return 0.0, int(tf.size(output))
        wide = np.asarray(tf.cast(tf.convert_to_tensor(gradient), tf.float32), np.float64) / self._scale
        return float(np.sum(np.square(wide))), int(tf.size(output))
