"""What stands in for tapes and optimizers while a step is recorded.

Each method stands in for one method of the user's model, of an optimizer or of `tf.GradientTape`:
`original` is what it replaces, and without an open trace it does nothing else.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from trainobs.capture.reading import StepTrace
from trainobs.capture.step._keeping import penalty_gradient
from trainobs.capture.step._parts_of_models import variables_by_id
from trainobs.capture.step._replacing import current_graph
from trainobs.capture.step._tracing import Tracing
from trainobs.errors import ModelNotReady

Original = Callable[..., Any]
Found = TypeVar("Found")


class BackwardPass:
    """What flows backwards, and what the optimizer makes of it.

    Parameters
    ----------
    tracing : Tracing
    models : list of keras.Model
    withhold_update : bool
        Whether the optimizers' `apply` is kept from running.
    on_pass : callable or None
        Called with the trace after each pass that differentiated weights.
    """

    def __init__(
        self,
        tracing: Tracing,
        models: list[keras.Model],
        *,
        withhold_update: bool,
        on_pass: Callable[[StepTrace], None] | None,
    ) -> None:
        self._tracing, self._models = tracing, models
        self._withhold_update, self._on_pass = withhold_update, on_pass

    # ---- optimizers --------------------------------------------------------------------------

    def scale_loss(self, original: Callable[[tf.Tensor], tf.Tensor], loss: tf.Tensor) -> tf.Tensor:
        """In place of an optimizer's `scale_loss`."""
        trace = self._tracing.here
        if trace is not None:
            one = tf.ones((), tf.float32)
            scale = original(one)
            trace.loss_scale = None if scale is one else scale
        return original(loss)

    def scale_any_loss(
        self, original: Original, optimizer: keras.optimizers.Optimizer, loss: tf.Tensor
    ) -> tf.Tensor:
        """In place of `scale_loss` of the class of optimizers that scale the loss."""
        return self.scale_loss(functools.partial(original, optimizer), loss)

    def apply(
        self,
        original: Original,
        grads: Iterable[tf.Tensor],
        trainable_variables: Iterable[keras.Variable] | None = None,
    ) -> object:
        """In place of an optimizer's `apply`."""
        trace = self._tracing.whole
        if trace is None:
            return original(grads, trainable_variables)
        variables = list(trainable_variables or self._models[0].trainable_variables)
        grads = list(grads)
        if all(getattr(gradient, "graph", trace.graph) is trace.graph for gradient in grads):
            with contextlib.nullcontext() if trace.graph is None else trace.graph.as_default():
                self._keep_missing(trace, variables, grads)
        elif self._withhold_update:  # TensorFlow would keep the trace, and never update again
            raise ModelNotReady(
                f"The train step of {self._models[0].name!r} updates its weights inside a tf.function of its "
                f"own, where the update can't be withheld. Remove that @tf.function: Keras compiles the "
                f"train step anyway."
            )
        return None if self._withhold_update else original(grads, variables)

    def _keep_missing(
        self, trace: StepTrace, variables: list[keras.Variable], grads: list[tf.Tensor]
    ) -> None:
        """Keep gradients that came from no tape we saw, and read their penalties before the update."""
        known = {key for found in trace.variable_gradients.values() for key in found}
        missing = {id(v): g for v, g in zip(variables, grads, strict=True) if id(v) not in known}
        if missing:
            trace.variable_gradients.setdefault(trace.passes[0], {}).update(missing)
            _keep_penalties(trace, [variable for variable in variables if id(variable) in missing])

    # ---- tapes -------------------------------------------------------------------------------

    def gradient(
        self,
        original: Original,
        tape: tf.GradientTape,
        target: object,
        sources: object,
        output_gradients: object = None,
        unconnected_gradients: object = tf.UnconnectedGradients.NONE,
    ) -> object:
        """In place of `tf.GradientTape.gradient`: one pass of backprop.

        What it finds for weights is kept as it is, before any clipping.
        """
        trace = self._tracing.here
        if trace is None:
            return original(tape, target, sources, output_gradients, unconnected_gradients)
        trace.idle += not tf.nest.flatten(sources)
        own, order = trace.current_pass, trace.order_of(target)
        every = [sources, [asked.tensor for asked in trace.asked]]
        try:
            found, of_asked = original(tape, target, every, output_gradients)
        finally:
            trace.current_pass = own + 1
        for asked, gradient in zip(trace.asked, of_asked, strict=True):
            asked.keep(own, gradient)
        found = connected(found, sources, unconnected_gradients)
        trace.end_pass(own, found, training=not self._withhold_update)
        trace.orders[own] = order
        of_weights = self._keep_weights(trace, own, sources, found)
        trace.take(found, order, of_weights=of_weights)
        if of_weights:
            trace.keep_target(target)
            if self._on_pass is not None:
                self._on_pass(trace)
        return found

    def _keep_weights(self, trace: StepTrace, in_pass: int, sources: object, found: object) -> bool:
        """Keep the gradients of the models' weights; whether there are any."""
        weights = variables_by_id(self._models)
        pairs = zip(tf.nest.flatten(sources), tf.nest.flatten(found), strict=True)
        own = [(weights[id(source)], gradient) for source, gradient in pairs if id(source) in weights]
        if own:
            trace.variable_gradients[in_pass] = {id(variable): gradient for variable, gradient in own}
            _keep_penalties(trace, [variable for variable, _ in own])
            _keep_zeros(trace, [variable for variable, _ in own])
        return bool(own)

    def enter_tape(self, original: Original, tape: tf.GradientTape) -> tf.GradientTape:
        """In place of `tf.GradientTape.__enter__`."""
        if self._tracing.tapes is not None:
            self._tracing.tapes.append(current_graph())
        return original(tape)

    def exit_tape(self, original: Original, tape: tf.GradientTape, *error: object) -> object:
        """In place of `tf.GradientTape.__exit__`."""
        if self._tracing.tapes:
            self._tracing.tapes.pop()
        return original(tape, *error)


def connected(found: Found, sources: object, unconnected: tf.UnconnectedGradients | str) -> Found:
    """What a user gets who asked a tape for gradients of sources: zeros for None, if they want them."""
    if tf.UnconnectedGradients(unconnected) is tf.UnconnectedGradients.NONE:
        return found
    filled: Found = tf.nest.map_structure(_or_zeros, found, sources)
    return filled


def _or_zeros(gradient: tf.Tensor | None, source: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(source) if gradient is None else gradient


def _keep_penalties(trace: StepTrace, variables: list[keras.Variable]) -> None:
    taken = [*trace.taken]
    for variable in variables:
        if id(variable) not in trace.penalty_gradients:
            trace.penalty_gradients[id(variable)] = penalty_gradient(variable)
    trace.taken = taken  # without our own


def _keep_zeros(trace: StepTrace, variables: list[keras.Variable]) -> None:
    """Keep whether weights are zero by now, before the update: of those that no known kind explains."""
    known = {key for call in trace.calls for key in call.variables}
    for variable in variables:
        if id(variable) not in known:
            trace.all_zero[id(variable)] = tf.reduce_all(tf.equal(tf.convert_to_tensor(variable), 0))
