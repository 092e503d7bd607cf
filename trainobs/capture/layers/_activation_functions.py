"""Which functions stand behind preactivations, and what they do to a gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainobs.activations import PROBE_GRID, Activation
from trainobs.capture.layers._slope import slope_of

_ACTIVATION_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)


def is_activation(layer: Any) -> bool:
    """Whether the layer is a weightless activation function."""
    return isinstance(layer, _ACTIVATION_LAYERS)


def activation_function(layer: Any) -> Callable[[Any], Any]:
    """The function of an activation layer, or the `activation` of a layer with a kernel."""
    if isinstance(layer, _ACTIVATION_LAYERS) and not isinstance(layer, keras.layers.Activation):
        return layer.call
    return layer.activation or keras.activations.linear


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
