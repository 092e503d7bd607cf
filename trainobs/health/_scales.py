"""The size of a weight before the step, and of a kernel against healthy initial scales.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W       | a weight before the step                                       |
| w*      | He's scale √(2/fan_in)                                         |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from trainobs.health._gradients import norm
from trainobs.health._parts import Whole
from trainobs.health._weight_health import WeightHealth
from trainobs.records import SiteRecord

Array = np.ndarray


def with_scales(health: WeightHealth, whole: Whole) -> WeightHealth:
    """The weight with its size, and that of a kernel against the scales of healthy initial weights."""
    first = whole.firsts[0]
    broken = sum(int(np.count_nonzero(~np.isfinite(part.kernel))) for part in whole.firsts)
    health = dataclasses.replace(health, weight_non_finite=broken)
    rms = _rms_of_parts(whole.firsts) if whole.weight is None else _rms(whole.weight)
    if not health.is_kernel:
        return dataclasses.replace(health, weight_rms=rms)
    shape = first.op.canonical_kernel(first.kernel).shape
    he = rms / first.op.healthy_weight(shape)
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    wider = math.sqrt(1 + fan_out / fan_in)
    return dataclasses.replace(health, weight_rms=rms, he_ratio=he, glorot_ratio=he * wider)


def _rms(values: Array) -> float:
    return norm(values) / math.sqrt(values.size) if values.size else math.nan


def _rms_of_parts(firsts: Sequence[SiteRecord]) -> float:
    """Root mean square over the known elements of a weight whose parts don't make it up."""
    return _rms(np.concatenate([np.asarray(first.kernel).reshape(-1) for first in firsts]))
