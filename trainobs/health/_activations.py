"""What the activations behind a weight say: dead units, saturated values, mean and standard deviation.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| S       | slope φ'(Z) of the activation behind the weight                |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from trainobs.health._parts import parts_of
from trainobs.health._weight_health import WeightHealth
from trainobs.records import SiteRecord
from trainobs.thresholds import Thresholds

Array = np.ndarray
_CARRYING = ("kernel", "recurrent", "table")


def speakers(sites: Iterable[SiteRecord]) -> set[int]:
    """Ids of the sites that speak for their activation: a kernel if there is one, and one site each."""
    speaking: dict[int, SiteRecord] = {}
    for site in sites:
        held = speaking.get(id(site.slope))
        if held is None or (site.role in _CARRYING and held.role not in _CARRYING):
            speaking[id(site.slope)] = site
    return set(map(id, speaking.values()))


def with_activations(
    health: WeightHealth, sites: Sequence[SiteRecord], thresholds: Thresholds
) -> WeightHealth:
    """The weight, with what the activations of these sites say over all calls and parts."""
    if not sites:
        return health
    values = np.concatenate([np.asarray(site.output, np.float64).reshape(-1) for site in sites])
    return dataclasses.replace(
        health,
        dead_units=_dead_units(sites, thresholds),
        saturated=_saturated(sites, thresholds.near_zero.slope_atol),
        activation_mean=float(np.mean(values)) if values.size else math.nan,
        activation_std=float(np.std(values)) if values.size else math.nan,
    )


def _dead_units(sites: Sequence[SiteRecord], thresholds: Thresholds) -> float:
    """Share of the rectifying units that are dead; nan without any."""
    atol = thresholds.near_zero.slope_atol
    rectifying = [calls for calls in parts_of(sites).values() if calls[0].activation.rectifies(atol)]
    dead = [_dead(calls, atol, thresholds.dead_activity) for calls in rectifying]
    return float(np.mean(np.concatenate(dead))) if dead else math.nan


def _dead(calls: Sequence[SiteRecord], atol: float, activity: float) -> Array:
    """Which units are on at no more than this share of the positions of all calls, shape (j,)."""
    live = positions = 0
    for site in calls:
        off = np.asarray(site.op.canonical_units(_off(site, atol)))
        off = off.reshape(-1, off.shape[-1])
        live, positions = live + np.sum(~off, axis=0), positions + off.shape[0]
    return np.asarray(live <= activity * positions)


def _saturated(sites: Sequence[SiteRecord], atol: float) -> float:
    """Share of the values of bounded activations that are off; nan without any."""
    bounded = [site for site in sites if not site.logits and _saturates(site, atol)]
    return float(np.mean([np.mean(_off(site, atol)) for site in bounded])) if bounded else math.nan


def _saturates(site: SiteRecord, atol: float) -> bool:
    """Whether the activation is bounded: flat on a side without being a rectifier."""
    return not site.activation.rectifies(atol) and site.activation.saturation_point(atol) > 0


def _off(site: SiteRecord, atol: float) -> Array:
    """Where a unit is off; what is NaN has no slope, also where the activation makes a number of it."""
    off = np.abs(site.slope) <= site.activation.off_limit(atol)
    return np.asarray(off & ~np.isnan(site.activation_input))
