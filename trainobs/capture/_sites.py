"""Which layers have a kernel, how it meets the input, and what their activation does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainobs.activations import PROBE_GRID, Activation
from trainobs.capture._taps import slope_of
from trainobs.linear_ops import ConvOp, DenseOp, LinearOp


def _conv_op(layer: Any) -> ConvOp:
    return ConvOp(
        strides=tuple(layer.strides),
        padding=layer.padding,
        dilation=tuple(layer.dilation_rate),
        groups=layer.groups,
        data_format=layer.data_format,
    )


#: A layer kind with a kernel is one row: its class and the spec of how kernel and input meet.
_OPS: dict[Any, Callable[[Any], LinearOp]] = {
    keras.layers.Dense: lambda layer: DenseOp(),
    keras.layers.Conv1D: _conv_op,
    keras.layers.Conv2D: _conv_op,
    keras.layers.Conv3D: _conv_op,
}

_ACTIVATION_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)
_NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
_SHAPE_KEEPING = (keras.layers.Dropout, keras.layers.ActivityRegularization)


def linear_op(layer: Any) -> LinearOp | None:
    """The spec of a layer's kernel, or None if it is no layer kind we know.

    A subclass with a `call` of its own may do anything with its kernel, so it is not known.
    """
    for kind, make in _OPS.items():
        if isinstance(layer, kind) and type(layer).call is kind.call:
            plain = layer.quantization_mode is None and (
                not layer.built or isinstance(layer.kernel, keras.Variable)
            )
            return make(layer) if plain else None
    return None


def is_activation(layer: Any) -> bool:
    """Whether the layer is a weightless activation function."""
    return isinstance(layer, _ACTIVATION_LAYERS)


def is_normalisation(layer: Any) -> bool:
    """Whether the layer normalises; such layers may stand between kernel and activation."""
    return isinstance(layer, _NORMALISATIONS)


def keeps_shape(layer: Any) -> bool:
    """Whether the layer may stand between kernel and activation without being either."""
    return isinstance(layer, _SHAPE_KEEPING)


def activation_function(layer: Any) -> Callable[[Any], Any]:
    """The function of an activation layer, or the `activation` of a layer with a kernel."""
    if isinstance(layer, _ACTIVATION_LAYERS) and not isinstance(layer, keras.layers.Activation):
        return layer.call
    return layer.activation or keras.activations.linear


def is_linear(layer: Any) -> bool:
    """Whether a layer with a kernel has no activation function of its own."""
    return layer.activation is None or layer.activation is keras.activations.linear


def is_softmax(layer: Any) -> bool:
    """Whether the layer's activation is Keras' softmax."""
    return isinstance(layer, keras.layers.Softmax) or (
        getattr(layer, "activation", None) is keras.activations.softmax
    )


def describe_activation(layer: Any) -> Activation:
    """Name and probe the activation function of a layer; not to be called inside a graph."""
    function = activation_function(layer)
    slopes = () if is_softmax(layer) else _probe(_plain(function))
    if is_softmax(layer) or (not slopes and _acts_as_softmax(function)):
        return Activation("softmax", layer.name)
    return Activation(_activation_name(layer, function), layer.name, slopes)


def _plain(function: Any) -> Any:
    """A layer used as an activation is probed through its `call`, which builds nothing."""
    return function.call if isinstance(function, keras.layers.Layer) else function


def _activation_name(layer: Any, function: Any) -> str:
    if is_activation(layer) and not isinstance(layer, keras.layers.Activation):
        return {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu"}.get(type(layer).__name__, layer.name)
    if isinstance(function, keras.layers.Layer):
        return type(function).__name__
    return getattr(function, "__name__", type(function).__name__)


def _probe(function: Any) -> tuple[float, ...]:
    """φ' on the probe grid, or () where φ is not element-wise."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, keras.layers.Layer) and owner.variables:
        return ()  # calling it could change its state
    if owner is not None or getattr(function, "__closure__", None):
        return _probe_cached.__wrapped__(function)  # a cache would keep the layer, and with it its model
    try:
        return _probe_cached(function)
    except TypeError:  # not hashable
        return _probe_cached.__wrapped__(function)


@functools.lru_cache(maxsize=256)
def _probe_cached(function: Any) -> tuple[float, ...]:
    grid = tf.constant(PROBE_GRID[None, :], tf.float32)
    try:
        _, slopes = slope_of(function, grid)
        # values far apart and close together: sparsemax shows what it is on the second only
        elementwise = all(_ignores_neighbours(function, scale * grid) for scale in (1.0, 0.01))
    except Exception:  # a user's function may refuse this shape: then it is not element-wise
        return ()
    return tuple(float(s) for s in slopes[0]) if elementwise else ()


def _acts_as_softmax(function: Any) -> bool:
    """Whether a function that is not Keras' softmax, such as TensorFlow's, does the same."""
    if isinstance(getattr(function, "__self__", function), keras.layers.Layer):
        return False  # calling it could change its state
    values = tf.reshape(tf.linspace(-2.0, 2.0, 12), (3, 4))
    try:
        return np.allclose(function(values), tf.nn.softmax(values), rtol=0, atol=1e-6)
    except Exception:  # a user's function may refuse this shape
        return False


def _ignores_neighbours(function: Any, values: Any) -> bool:
    """Whether a change of the largest value changes no other output."""
    nudged = tf.concat([values[:, :-1], values[:, -1:] + 1.0], axis=1)
    before, after = function(values), function(nudged)
    return before.shape == values.shape and np.array_equal(before[:, :-1], after[:, :-1])
