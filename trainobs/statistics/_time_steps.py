"""Sums per time step of recurrent layers: at which steps units are off, and gradients near zero.

| letter | axis        |
|--------|-------------|
| n      | batch       |
| t      | time steps  |
| u      | units (with the pixels of a step, where there are any) |
"""

from __future__ import annotations

import numpy as np

from trainobs.records import SiteRecord
from trainobs.statistics._schema import per_position
from trainobs.thresholds import NearZero

Array = np.ndarray


def step_sums(site: SiteRecord, near_zero: NearZero, positions: int) -> dict[str, Array]:
    """The sums of a gate, step by step; nothing for a site without time.

    Returns
    -------
    dict of str to array of shape (t,)
        The sums over steps (see `_schema`).
    """
    if not site.steps:
        return {}
    slope = _by_step(site, site.slope)
    gradient = site.preactivation_gradient
    off = np.abs(slope) <= site.activation.off_limit(near_zero.slope_atol)
    sums = {
        "step_off": np.count_nonzero(off, axis=(0, 2)).astype(float),
        "step_gradient_sq": np.zeros(site.steps) if gradient is None else _squares(_by_step(site, gradient)),
        "step_size": np.full(site.steps, float(slope[:, 0].size)),
    }
    return per_position(sums, positions)


def _by_step(site: SiteRecord, values: Array) -> Array:
    """Values shaped like the preactivation as (n, t, u)."""
    canonical = site.op.canonical_units(np.asarray(values))
    return canonical.reshape(-1, site.steps, canonical.size // (_samples(site, canonical) * site.steps))


def _samples(site: SiteRecord, canonical: Array) -> int:
    """Samples of the batch; where steps have pixels, steps are samples too."""
    return int(canonical.shape[0]) if canonical.ndim == 3 else int(canonical.shape[0]) // site.steps


def _squares(values: Array) -> Array:
    return np.einsum("ntu,ntu->t", values, values, dtype=np.float64)
