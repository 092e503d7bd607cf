"""The theory's likelihoods p_*, those that are fractions of terms. Definitions: docs/definitions.md."""

from __future__ import annotations

import numpy as np

from trainobs.analysis._weight_figures import Array
from trainobs.statistics import SiteStatistics


def likelihoods(statistics: SiteStatistics, rtol: float) -> dict[str, Array]:
    """Compact arrays by column name.

    Parameters
    ----------
    statistics : SiteStatistics
    rtol : float
        A weight is near zero up to this part of He's scale.

    Returns
    -------
    dict of str to array
        Each can be broadcast to the kernel's canonical shape (*k, i, j).
    """
    return {
        "p_input": _of_terms(statistics, "input_zero", without_terms=1.0),
        "p_activation": _of_terms(statistics, "slope_zero"),
        "p_weights": _weights_off(statistics, rtol),
        "p_backprop": _of_terms(statistics, "backprop_zero"),
        "p_backprop_pinv": _estimated(statistics),
        "p_input_activation": input_or_slope_zero(statistics),
        "p_activation_backprop": _of_terms(statistics, "slope_or_backprop_zero"),
    }


def _estimated(statistics: SiteStatistics) -> Array:
    """The fraction of the pseudo-inverse's estimates that are near zero; nan where there are none."""
    if "pinv_zero" not in statistics.sums:
        return np.full(1, np.nan)
    return statistics.sums["pinv_zero"] / np.maximum(statistics.sums["pinv_terms"], 1)


def input_or_slope_zero(statistics: SiteStatistics) -> Array:
    """Per unit, the fraction of terms with a near-zero input or slope: mean over the unit's weights."""
    if statistics.is_condensed:
        return statistics.sums["input_or_slope_zero"]
    shape = statistics.kernel.shape
    terms, live = statistics.sums["terms"], statistics.sums["input_and_slope_live"]
    part = np.where(terms == 0, 0.0, 1 / np.maximum(terms, 1))
    rows = np.broadcast_to(part, (*shape[:-1], 1)).ravel()
    alive = rows @ np.broadcast_to(live, shape).reshape(rows.size, shape[-1])
    return (1 - alive / rows.size).reshape((1,) * (len(shape) - 1) + (-1,))


def _of_terms(statistics: SiteStatistics, count: str, without_terms: float = 0.0) -> Array:
    terms = statistics.sums["terms"]
    return np.where(terms == 0, without_terms, statistics.sums[count] / np.maximum(terms, 1))


def _weights_off(statistics: SiteStatistics, rtol: float) -> Array:
    """Per unit, the fraction of incoming weights that are negative or near zero."""
    kernel = statistics.kernel
    scale = statistics.info.op.healthy_weight(kernel.shape)
    if np.isnan(scale):
        return np.full(kernel.shape[-1], np.nan)
    return np.mean(kernel <= rtol * scale, axis=tuple(range(kernel.ndim - 1)))
