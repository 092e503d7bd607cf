"""The sums of backprop by pseudo-inverse, beside those of the measured one."""

from __future__ import annotations

import numpy as np

from trainobs.records import SiteRecord, sums_of
from trainobs.statistics._pseudo_inverse import BackpropEstimate
from trainobs.statistics._term_sums import sum_units
from trainobs.tensors import as_tensor, tf
from trainobs.thresholds import NearZero

Array = np.ndarray


def estimate_sums(
    site: SiteRecord, terms: Array, estimate: BackpropEstimate, near_zero: NearZero, gradient_scale: float
) -> dict[str, Array]:
    """The sums of one call that has an estimate, over so many terms of each weight."""
    return {
        "pinv_zero": _near_zero_terms(site, estimate.output_gradient, near_zero, gradient_scale),
        "pinv_terms": terms,
        "pinv_rank": np.asarray(estimate.rank, np.float64),
        "pinv_positions": np.asarray(estimate.positions, np.float64),
    }


def error_sums(site: SiteRecord, estimate: BackpropEstimate) -> dict[str, Array]:
    """Squared distance of the estimate from what the tape measured; nothing where it did not."""
    if site.output_gradient is None:
        return {}
    measured = np.asarray(site.op.canonical_units(site.output_gradient))
    error, true = sums_of(estimate.output_gradient - measured), sums_of(measured)
    return {"pinv_error_sq": np.asarray(error.square_sum), "pinv_true_sq": np.asarray(true.square_sum)}


def _near_zero_terms(
    site: SiteRecord, output_gradient: Array, near_zero: NearZero, gradient_scale: float
) -> Array:
    """For each weight, how many terms have an estimated output gradient near zero, shape (*k, 1, j)."""
    silent = np.abs(output_gradient) <= near_zero.rtol * gradient_scale / site.positions
    of_batch = as_tensor(np.sum(silent, axis=0, keepdims=True, dtype=np.float32))
    input = tf.ones(site.op.canonical_input(site.input[:1]).shape)
    (counts,) = sum_units(site.op, input, [of_batch], site.op.canonical_kernel(site.kernel).shape)
    return np.asarray(counts, np.float64)
