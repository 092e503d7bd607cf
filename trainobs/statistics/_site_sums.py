"""The sums of one recorded site: its arrays in windows that fit the cache, each through `_one_pass`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from trainobs.linear_ops import Shape
from trainobs.records import SiteRecord
from trainobs.statistics._one_pass import SiteRule, one_pass
from trainobs.statistics._site_arrays import SiteArrays, canonical_offset, unknown_sums
from trainobs.tensors import as_array, as_tensor, tf
from trainobs.thresholds import NearZero

Array = np.ndarray
_CACHED_BYTES = 8 * 2**20


def sum_site(
    site: SiteRecord, near_zero: NearZero, gradient_scale: float, positions: int
) -> dict[str, Array]:
    """Compute the additive sums of one site.

    Parameters
    ----------
    site : SiteRecord
        One call of a layer with a kernel.
    near_zero : NearZero
        The thresholds.
    gradient_scale : float
        g*, with which the single values of backprop are compared.
    positions : int
        n that gradients are multiplied with; the calls of a shared layer use that of the first.

    Returns
    -------
    dict of str to array
        The sums over terms, units, preactivations and inputs (see `_schema`).
    """
    arrays = vars(SiteArrays.of(site)) | {"activation_input": site.op.canonical_units(site.activation_input)}
    kernel, offset = _float32(site.op.canonical_kernel(site.kernel)), canonical_offset(site)
    fixed = {
        "kernel": kernel,
        "offset": None if offset is None else _float32(offset),
        "gradient_scale": tf.constant(gradient_scale, tf.float32),
        "positions": tf.constant(positions, tf.float32),
    }
    function = _function(SiteRule.of(site, near_zero), tuple(kernel.shape), arrays["slope"].ndim)
    windows = _windows(arrays["slope"], kernel)
    total = functools.reduce(_added, (_sums_of_window(function, arrays, fixed, w) for w in windows))
    return total | {name: np.full_like(total[name], np.nan) for name in unknown_sums(site)}


def _sums_of_window(
    function: Callable[..., dict[str, tf.Tensor]],
    arrays: dict[str, Array],
    fixed: dict[str, tf.Tensor | None],
    window: slice,
) -> dict[str, Array]:
    """The sums of these samples."""
    sums = function(**{name: _floats(array[window]) for name, array in arrays.items()}, **fixed)
    return {name: as_array(value) for name, value in sums.items()}


def _added(one: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
    """The sums of two windows, as they are: in float32."""
    return {name: one[name] + value for name, value in other.items()}


def _windows(unit: Array, kernel: tf.Tensor) -> list[slice]:
    """Cut the batch so that a unit array fits the processor's cache, but is no smaller than the
    kernel: the sums of the parts are added."""
    samples, size = unit.shape[0], max(_CACHED_BYTES, 4 * math.prod(kernel.shape))
    step = max(1, samples * size // max(unit.nbytes, 1))
    return [slice(start, start + step) for start in range(0, samples, step)]


def _function(rule: SiteRule, kernel_shape: Shape, rank: int) -> Callable[..., dict[str, tf.Tensor]]:
    """`one_pass` of a rule; compiled, unless it is small work on shapes that change with the batch."""
    if rule.op.constant_input:
        return functools.partial(one_pass, rule)
    return _compiled(rule, kernel_shape, rank)


@functools.lru_cache(maxsize=512)
def _compiled(rule: SiteRule, kernel_shape: Shape, rank: int) -> Callable[..., dict[str, tf.Tensor]]:
    """One function for each kernel shape and rank, traced once more when the batch size changes."""
    del kernel_shape, rank  # a trace that was generalised over them would not know its ranks
    return tf.function(functools.partial(one_pass, rule), autograph=False, reduce_retracing=True)


def _float32(array: Array) -> tf.Tensor:
    return tf.cast(as_tensor(array), tf.float32)


def _floats(array: Array) -> tf.Tensor:
    """The array in float32; a table's places stay integers."""
    return as_tensor(array) if array.dtype.kind in "iu" else _float32(array)
