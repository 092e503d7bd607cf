"""Statistics of one batch with verdicts in place of the sums that led to them."""

from __future__ import annotations

import dataclasses

from trainobs.analysis._likelihoods import input_or_slope_zero
from trainobs.analysis._verdicts import Verdicts
from trainobs.statistics import PER_WEIGHT, SiteStatistics
from trainobs.thresholds import NearZero

#: The sums as large as the kernel that nothing but the verdict needs.
_LEAD_TO_VERDICT = PER_WEIGHT - {"gradient"}


def condensed(statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> SiteStatistics:
    """The statistics with a byte of verdict per weight in place of the sums that led to it.

    `gather` calls it as soon as the sums of a weight are there, so that no two weights have theirs in memory
    at once.
    """
    verdict = Verdicts(statistics, near_zero, gradient_scale).verdict
    sums = {name: values for name, values in statistics.sums.items() if name not in _LEAD_TO_VERDICT}
    sums |= {"verdict": verdict, "input_or_slope_zero": input_or_slope_zero(statistics)}
    return dataclasses.replace(statistics, sums=sums)
