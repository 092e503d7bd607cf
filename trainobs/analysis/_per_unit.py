"""Figures of each unit of a kernel: means over its weights."""

from __future__ import annotations

import numpy as np

from trainobs.analysis._causes import Cause, shares
from trainobs.analysis._site_figures import SiteFigures
from trainobs.analysis._weight_figures import Array


def mean_per_unit(figures: SiteFigures, values: Array, unused: float | None = 0.0) -> Array:
    """Mean over each unit's weights of a (compact) array.

    Parameters
    ----------
    figures : SiteFigures
    values : array
        Can be broadcast to the kernel's canonical shape.
    unused : float or None
        What weights without terms count for; None: nothing.

    Returns
    -------
    array of shape (j,)
    """
    full = np.broadcast_to(values, figures.shape)
    mean = full.mean(axis=tuple(range(full.ndim - 1)))
    if not figures.unused or unused is None:
        return np.asarray(mean)
    return np.asarray(mean + (unused - mean) * figures.unused / figures.size)


def shares_per_unit(figures: SiteFigures) -> dict[Cause, Array]:
    """Part of each unit's near-zero weights that belongs to each cause."""
    looked_up = shares(figures.verdict, per_unit=True)
    if not figures.unused:
        return looked_up
    known, rest = np.sum(figures.near_zero, axis=0), figures.unused / figures.units
    parts = {cause: np.nan_to_num(part) * known for cause, part in looked_up.items()}
    parts[Cause.INPUT] = parts[Cause.INPUT] + rest
    return {cause: part / (known + rest) for cause, part in parts.items()}
