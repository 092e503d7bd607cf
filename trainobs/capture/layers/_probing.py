"""What a function does to a gradient, and what it can put out: found by calling it, not by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trainobs.activations import PROBE_GRID, Activation
from trainobs.capture.layers._slope import slope_of

Function = Callable[[tf.Tensor], tf.Tensor]
UNBOUNDED = (-np.inf, np.inf)
#: Of a softmax; it is not element-wise, so there is nothing to probe.
_PROBABILITIES = (0.0, 1.0)
#: What is larger counts as without bound.
_LARGEST_BOUND = 1e6
#: Far from 0, where also softsign and squareplus come close to their limits.
_FAR = np.logspace(2, 30, 29)
_AS_FAR_AS_LIMITS_ARE = 1e20


class _Probes(NamedTuple):
    """φ' on the probe grid and the range of φ; no slopes where φ is not element-wise."""

    slopes: tuple[float, ...] = ()
    range: tuple[float, float] = UNBOUNDED


def describe_activation(function: Function | keras.Layer, layer: str, name: str = "") -> Activation:
    """Probe an activation function; not to be called inside a graph.

    Parameters
    ----------
    function : callable
        The function.
    layer : str
        Name of the layer that applies it.
    name : str, optional
        The function's name. Default: its own.
    """
    probes = _Probes() if _is_softmax(function) else _probe(_plain(function))
    if _is_softmax(function) or (not probes.slopes and _acts_as_softmax(function)):
        return Activation("softmax", layer, range=_PROBABILITIES)
    return Activation(name or _name_of(function), layer, probes.slopes, probes.range)


def _is_softmax(function: Function | keras.Layer) -> bool:
    """Whether a function is that of Keras."""
    owner = getattr(function, "__self__", None)
    return function is keras.activations.softmax or isinstance(owner, keras.layers.Softmax)


def _plain(function: Function | keras.Layer) -> Function:
    """A layer used as an activation is probed through its `call`, which builds nothing."""
    return function.call if isinstance(function, keras.layers.Layer) else function


def _name_of(function: Function | keras.Layer) -> str:
    if isinstance(function, keras.layers.Layer):
        return type(function).__name__
    return str(getattr(function, "__name__", type(function).__name__))


def _probe(function: Function) -> _Probes:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, keras.layers.Layer) and owner.variables:
        return _Probes()  # calling it could change its state
    if owner is not None or getattr(function, "__closure__", None):
        return _probe_cached.__wrapped__(function)  # a cache would keep the layer, and with it its model
    try:
        return _probe_cached(function)
    except TypeError:  # not hashable
        return _probe_cached.__wrapped__(function)


@functools.lru_cache(maxsize=256)
def _probe_cached(function: Function) -> _Probes:
    grid = tf.constant(PROBE_GRID[None, :], tf.float32)
    try:
        _, slopes = slope_of(function, grid)
        # values far apart and close together: sparsemax shows what it is on the second only
        elementwise = all(_ignores_neighbours(function, scale * grid) for scale in (1.0, 0.01))
    except Exception:  # a user's function may refuse this shape: then it is not element-wise
        return _Probes()
    return _Probes(tuple(float(s) for s in slopes[0]), _range(function)) if elementwise else _Probes()


def _acts_as_softmax(function: Function | keras.Layer) -> bool:
    """Whether a function that is not Keras' softmax, such as TensorFlow's, does the same."""
    if isinstance(getattr(function, "__self__", function), keras.layers.Layer):
        return False  # calling it could change its state
    values = tf.reshape(tf.linspace(-2.0, 2.0, 12), (3, 4))
    try:
        return np.allclose(function(values), tf.nn.softmax(values), rtol=0, atol=1e-6)
    except Exception:  # a user's function may refuse this shape
        return False


def _ignores_neighbours(function: Function, values: tf.Tensor) -> bool:
    """Whether a change of the largest value changes no other output."""
    nudged = tf.concat([values[:, :-1], values[:, -1:] + 1.0], axis=1)
    before, after = function(values), function(nudged)
    return before.shape == values.shape and np.array_equal(before[:, :-1], after[:, :-1])


# ---- range ---------------------------------------------------------------------------------------


def _range(function: Function) -> tuple[float, float]:
    """The smallest and the largest value of an element-wise function."""
    try:
        return _bound(function, -1), _bound(function, 1)
    except Exception:  # a user's function may refuse such values
        return UNBOUNDED


def _bound(function: Function, sign: int) -> float:
    """The largest value of an element-wise function for sign 1, the smallest one for -1."""
    z = np.concatenate([-_FAR[::-1], PROBE_GRID, _FAR])
    values = _values(function, sign, z)
    at, best = z[np.argmax(values)], values.max()
    if best == -np.inf or best > _LARGEST_BOUND or _goes_on(z, values):
        return sign * np.inf
    for width in (0.25, 2e-3):  # between the points of the grid, in two steps
        near = np.linspace(at - width, at + width, 257)
        between = _values(function, sign, near)
        if between.max() > best:
            at, best = near[np.argmax(between)], between.max()
    return float(sign * best)


def _goes_on(z: np.ndarray, values: np.ndarray) -> bool:
    """Whether a function grows as far as one can see, like a logarithm."""
    near, far = values[np.abs(z) <= _AS_FAR_AS_LIMITS_ARE].max(), values[[0, -1]].max()
    return bool(np.isneginf(near) or far > near + 1e-3 * abs(near))


def _values(function: Function, sign: int, z: np.ndarray) -> np.ndarray:
    """The function at these places, times a sign; lowest of all where it can't be evaluated."""
    values = sign * np.asarray(function(tf.constant(z[None, :], tf.float32)), np.float64)[0]
    return np.where(np.isnan(values), -np.inf, values)
