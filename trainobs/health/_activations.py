"""What the activations behind a weight say: dead units, saturated values, mean and standard deviation.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| S       | slope φ'(Z) of the activation behind the weight                |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
    fires = _fires(sites, thresholds)
    return dataclasses.replace(
        health,
        dead_units=float(np.mean(fires.dead)) if fires.dead.size else math.nan,
        rectifying=fires.dead.size,
        positions=fires.positions,
        saturated=_saturated(sites, thresholds.near_zero.slope_atol),
        activation_mean=float(np.mean(values)) if values.size else math.nan,
        activation_std=float(np.std(values)) if values.size else math.nan,
    )


class _Fires(NamedTuple):
    """Which rectifying units are dead, shape (j,), over at least how many positions that differ."""

    dead: Array
    positions: int


def _fires(sites: Sequence[SiteRecord], thresholds: Thresholds) -> _Fires:
    """The rectifying units of all parts, over all calls."""
    atol = thresholds.near_zero.slope_atol
    rectifying = [calls for calls in parts_of(sites).values() if calls[0].activation.rectifies(atol)]
    parts = [_of_part(calls, atol, thresholds.dead_activity) for calls in rectifying]
    dead = [np.empty(0, bool), *(part.dead for part in parts)]
    return _Fires(np.concatenate(dead), min((part.positions for part in parts), default=0))


def _of_part(calls: Sequence[SiteRecord], atol: float, activity: float) -> _Fires:
    """Dead is what is on at no more than this share of the positions of all calls."""
    live = positions = distinct = 0
    for site in calls:
        off = np.asarray(site.op.canonical_units(_off(site, atol)))
        off = off.reshape(-1, off.shape[-1])
        live, positions = live + np.sum(~off, axis=0), positions + off.shape[0]
        distinct += 1 if _reads_the_same(site) else off.shape[0]
    return _Fires(np.asarray(live <= activity * positions), distinct)


def _reads_the_same(site: SiteRecord) -> bool:
    """Whether what a kernel multiplies is the same at all positions."""
    channels = np.asarray(site.op.canonical_input(site.input))
    rows = channels.reshape(-1, channels.shape[-1])
    return bool(np.all(rows == rows[:1]))


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
