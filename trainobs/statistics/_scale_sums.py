"""The sums of a scale: every input meets one weight, so they are sums over columns.

| letter | axis                                  |
|--------|---------------------------------------|
| n      | positions                             |
| c      | channels: inputs and units in one     |

What `_site_sums` does for kernels, here by `numpy.einsum`, which multiplies and sums in one go. What
depends on the units alone (slopes, what arrives at them) is taken from the kernel that feeds them.
"""

from __future__ import annotations

import numpy as np

from trainobs.statistics._term_sums import OF_UNITS
from trainobs.thresholds import NearZero

Array = np.ndarray


def scale_sums(
    of_units: dict[str, Array],
    near_zero: NearZero,
    *,
    input: Array,
    slope: Array,
    output_gradient: Array,
    preactivation_gradient: Array,
    positions: int,
    slope_limit: float,
) -> dict[str, Array]:
    """The sums of a scale, from those of the kernel before it.

    Parameters
    ----------
    of_units : dict of str to array
        Sums of the kernel whose units have the same slopes and output gradients.
    near_zero : NearZero
    input, slope, output_gradient, preactivation_gradient : array of shape (n, c)
    positions : int
        n that gradients are multiplied with.
    slope_limit : float
        Slopes up to this are off.

    Returns
    -------
    dict of str to array
        As of `site_sums`, kernel shape (1, c).
    """
    a, s, h, e = input, slope, output_gradient, preactivation_gradient
    square = positions**2
    live = np.abs(a) > near_zero.rtol * near_zero.activation_scale
    on = np.abs(s) > slope_limit
    a_sq = a * a
    shared = {name: of_units[name] for name in of_units if name in OF_UNITS}
    terms = np.full((1, 1), len(a), np.float32)
    d_sq, d_sum = square * np.einsum("nc,nc->c", e, e), positions * np.einsum("nc->c", e)
    zero, total_sq = len(a) - _count(live), np.einsum("nc->c", a_sq)
    sums = {
        "terms": terms,
        "slope_zero": of_units["unit_slope_zero"],
        "backprop_zero": of_units["unit_backprop_zero"],
        "slope_or_backprop_zero": of_units["unit_slope_or_backprop_zero"],
        "slope_sq": of_units["unit_slope_sq"],
        "backprop_sq": of_units["unit_backprop_sq"],
        "slope_backprop_sq": d_sq,
        "input_zero": zero,
        "input_sq": total_sq,
        "input_slope_sq": np.einsum("nc,nc,nc->c", a_sq, s, s),
        "input_backprop_sq": square * np.einsum("nc,nc,nc->c", a_sq, h, h),
        "all_sq": square * np.einsum("nc,nc,nc->c", a_sq, e, e),
        "input_and_slope_live": _count(live & on),
        "gradient": positions * np.einsum("nc,nc->c", a, e),
    }
    rows = {name: np.reshape(value, (1, -1)) for name, value in sums.items()}
    return {
        **shared,
        **rows,
        "unit_slope_backprop_sq": d_sq,
        "unit_gradient": d_sum,
        "preactivation_gradient_sq": np.sum(d_sq),
        "input_size": np.float32(len(a)),
        "input_channel_zero": zero,
        "input_channel_sq": total_sq,
        "input_non_finite": np.float32(a.size - np.count_nonzero(np.isfinite(a_sq))),
    }


def _count(mask: Array) -> Array:
    """How many are true in each column."""
    return np.einsum("nc->c", mask.view(np.uint8), dtype=np.int32)
