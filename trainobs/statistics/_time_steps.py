"""Sums per time step of recurrent layers: at which steps units are off, and gradients near zero.

| letter | axis        |
|--------|-------------|
| n      | batch       |
| t      | time steps  |
| u      | units (with the pixels of a step, where there are any) |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainobs.records import SiteRecord
from trainobs.thresholds import NearZero

Array = Any


def step_sums(site: SiteRecord, near_zero: NearZero, positions: int) -> dict[str, Array]:
    """The sums of a gate, step by step; nothing for a site without time.

    Returns
    -------
    dict of str to array of shape (t,)
        ``step_off`` and ``step_gradient_sq`` (of n·dJ/dZ), over ``step_size`` values.
    """
    if not site.steps:
        return {}
    slope = _by_step(site, site.slope)
    gradient = site.preactivation_gradient
    squares = np.zeros(site.steps) if gradient is None else _squares(_by_step(site, gradient))
    off = np.abs(slope) <= site.activation.off_limit(near_zero.slope_atol)
    return {
        "step_off": np.count_nonzero(off, axis=(0, 2)).astype(float),
        "step_gradient_sq": positions**2 * squares,
        "step_size": np.full(site.steps, float(slope[:, 0].size)),
    }


def _by_step(site: SiteRecord, values: Array) -> Array:
    """The values as (n, t, u)."""
    canonical = site.op.canonical_units(np.asarray(values))
    whole = canonical.reshape(-1, site.steps, canonical.size // (_samples(site, canonical) * site.steps))
    return whole


def _samples(site: SiteRecord, canonical: Array) -> int:
    """Samples of the batch; where steps have pixels, steps are samples too."""
    return int(canonical.shape[0]) if canonical.ndim == 3 else int(canonical.shape[0]) // site.steps


def _squares(values: Array) -> Array:
    return np.einsum("ntu,ntu->t", values, values, dtype=np.float64)


def added_steps(a: Array, b: Array) -> Array:
    """The sum of two batches whose numbers of steps may differ."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))
