"""What stands in for the calls of layers, models and losses while a step is recorded.

Each method stands in for one method of the user's model: `original` is what it replaces, and without an
open trace it does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainobs.capture.layers import kind_of
from trainobs.capture.reading import StepTrace
from trainobs.capture.step._apart import is_float_tensor
from trainobs.capture.step._keeping import (
    keep_operands,
    keep_outputs,
    keep_targets,
    kept_prediction,
    received_by,
)
from trainobs.capture.step._parts_of_models import has_parts
from trainobs.capture.step._replacing import in_this_graph
from trainobs.capture.step._tracing import Tracing

Original = Callable[..., Any]


class ForwardPass:
    """Listens to what flows forwards.

    Parameters
    ----------
    tracing : Tracing
    sought : frozenset of str
        The ops that losses look for behind their prediction.
    patch_new_layers : callable
        Called where a layer's `build` may have made new ones.
    """

    def __init__(
        self, tracing: Tracing, sought: frozenset[str], patch_new_layers: Callable[[], None]
    ) -> None:
        self._tracing, self._sought = tracing, sought
        self._patch_new_layers = patch_new_layers

    def call(self, layer: keras.Layer, original: Original, *args: object, **kwargs: object) -> object:
        """In place of `layer.call`."""
        trace = self._tracing.here
        if trace is None:
            return original(*args, **kwargs)
        if has_parts(layer):  # its `build` has just made them
            self._patch_new_layers()
            trace.open_composites.append(layer)
            try:
                return in_this_graph(original)(*args, **kwargs)
            finally:
                trace.open_composites.pop()
        return self._recorded(trace, layer, original, args, kwargs)

    def _recorded(
        self,
        trace: StepTrace,
        layer: keras.Layer,
        original: Original,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        kind = kind_of(layer)
        record = trace.begin(layer, kind, received_by(args, kwargs))
        try:
            if kind is not None:
                keep_operands(layer, kind, record, args, kwargs)
            outputs = in_this_graph(original)(*args, **kwargs)
        finally:
            trace.open_calls.pop()
        keep_outputs(trace, record, keras.tree.flatten(outputs))
        return outputs

    def cast_input(self, original: Original, x: object, *args: object, **kwargs: object) -> object:
        """In place of `convert_input` of a policy: without a graph, a tensor that was cast has no history."""
        cast, trace = original(x, *args, **kwargs), self._tracing.here
        if trace is not None and cast is not x and tf.is_tensor(x) and not tf.is_symbolic_tensor(x):
            trace.casts[id(cast)] = x, cast
        return cast

    def activation(self, original: Original, preactivation: tf.Tensor) -> tf.Tensor:
        """In place of the `activation` of a layer with a kernel."""
        trace = self._tracing.here
        if trace is None or not trace.open_calls:
            return original(preactivation)
        if is_float_tensor(preactivation):
            trace.ask(preactivation, trace.open_calls[-1].preactivation_gradients)
        return original(preactivation)

    def model_call(self, original: Original, *args: object, **kwargs: object) -> object:
        """In place of `model.call`."""
        trace = self._tracing.here
        if trace is None:
            return original(*args, **kwargs)
        self._patch_new_layers()
        outputs = in_this_graph(original)(*args, **kwargs)
        return keras.tree.map_structure(lambda t: kept_prediction(trace, t, self._sought), outputs)

    def compute_loss(
        self, model: keras.Model, original: Original, *args: object, **kwargs: object
    ) -> tf.Tensor:
        """In place of `model.compute_loss`."""
        loss = original(*args, **kwargs)
        trace = self._tracing.here
        if trace is not None:
            trace.losses = [loss]
            given = dict(zip(("x", "y", "y_pred", "sample_weight"), args, strict=False)) | kwargs
            keep_targets(model, trace, given.get("y"), given.get("y_pred"), given.get("sample_weight"))
        return loss
