"""The size of a weight before the step, and of a kernel against healthy initial scales.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W       | a weight before the step                                       |
| w*      | He's scale √(2/fan_in)                                         |
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from trainobs.health._gradients import norm
from trainobs.health._parts import Parts
from trainobs.health._weight_health import WeightHealth
from trainobs.records import SiteRecord

Array = np.ndarray


def with_scales(health: WeightHealth, parts: Parts, weight: Array | None) -> WeightHealth:
    """With the size of the weight, and of a kernel against the scales of healthy initial weights."""
    firsts = [calls[0] for calls in parts.values()]
    rms = _rms_of_parts(firsts) if weight is None else _rms(weight)
    if not health.is_kernel:
        return dataclasses.replace(health, weight_rms=rms)
    shape = firsts[0].op.canonical_kernel(firsts[0].kernel).shape
    he = rms / firsts[0].op.healthy_weight(shape)
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    wider = math.sqrt(1 + fan_out / fan_in)
    return dataclasses.replace(health, weight_rms=rms, he_ratio=he, glorot_ratio=he * wider)


def _rms(values: Array) -> float:
    return norm(values) / math.sqrt(values.size) if values.size else math.nan


def _rms_of_parts(firsts: list[SiteRecord]) -> float:
    """Of a weight whose parts don't make it up: over the elements that are known."""
    return _rms(np.concatenate([np.asarray(first.kernel).reshape(-1) for first in firsts]))
