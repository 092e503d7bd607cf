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
_PLACES = np.concatenate([-_FAR[::-1], PROBE_GRID, _FAR])
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
    if not elementwise:
        return _Probes()
    found = np.asarray(slopes[0])
    return _Probes(tuple(found.tolist()), _range(function, found))


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


def _range(function: Function, slopes: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value of an element-wise function, given its slopes on the grid."""
    try:
        values = _values(function, _PLACES)
        return -_highest(lambda z: -function(z), -values, -slopes), _highest(function, values, slopes)
    except Exception:  # a user's function may refuse such values
        return UNBOUNDED


def _highest(function: Function, values: np.ndarray, slopes: np.ndarray) -> float:
    """The largest value of a function, given its values and slopes; infinite without a bound."""
    known = np.where(np.isnan(values), -np.inf, values)
    best, place = float(known.max()), int(known.argmax())
    if best == -np.inf or best > _LARGEST_BOUND or _goes_on(known):
        return np.inf
    on_grid = place - _FAR.size
    if 0 < on_grid < slopes.size - 1 and slopes[on_grid - 1] > 0 > slopes[on_grid + 1]:
        return max(best, _peak_near(function, _PLACES[place]))
    return best


def _peak_near(function: Function, z: float) -> float:
    """The largest value around a place of the grid: between its points, in two steps."""
    for width in (0.25, 2e-3):
        near = np.linspace(z - width, z + width, 257)
        values = _values(function, near)
        z = near[np.nanargmax(values)]
    return float(np.nanmax(values))


def _goes_on(values: np.ndarray) -> bool:
    """Whether a function grows as far as one can see, like a logarithm."""
    near, far = values[np.abs(_PLACES) <= _AS_FAR_AS_LIMITS_ARE].max(), values[[0, -1]].max()
    return bool(np.isneginf(near) or far > near + 1e-3 * abs(near))


def _values(function: Function, z: np.ndarray) -> np.ndarray:
    """The function at these places."""
    return np.asarray(function(tf.constant(z[None, :], tf.float32)), np.float64)[0]
