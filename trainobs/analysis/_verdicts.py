"""Which gradients of a kernel are near zero, and which factors keep each of them there.

| letter | axis                        |
|--------|-----------------------------|
| k      | kernel window               |
| i, j   | inputs of a group, units    |

In references a, s and g are a*, s* and g*. Arrays are compact where a figure is the same along an
axis: (*k, i, 1) or (*k, 1, j).
"""

from __future__ import annotations

import functools

import numpy as np

from trainobs.analysis._causes import Cause, verdict
from trainobs.analysis._weight_figures import Array
from trainobs.statistics import SiteStatistics
from trainobs.thresholds import NearZero


class Verdicts:
    """The verdict on each weight of one kernel.

    Parameters
    ----------
    statistics : SiteStatistics
    near_zero : NearZero
    gradient_scale : float
        g* of the whole data.
    """

    def __init__(self, statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> None:
        self._sums, self._shape = statistics.sums, statistics.kernel.shape
        self._positions, self._is_condensed = statistics.positions, statistics.is_condensed
        self._near_zero, self._scale = near_zero, gradient_scale

    @functools.cached_property
    def thresholds(self) -> Array:
        """rtol · a* · g* · √T / n of every weight, compact."""
        return self._thresholds_of_sums / self._positions

    @property
    def _thresholds_of_sums(self) -> Array:
        rtol, a = self._near_zero.rtol, self._near_zero.activation_scale
        return rtol * a * self._scale * np.sqrt(self._sums["terms"])

    @functools.cached_property
    def near_zero(self) -> Array:
        """Which weights have a gradient near zero, (*k, i, j)."""
        if self._is_condensed:
            return np.asarray(self._sums["verdict"] != 0)
        below = np.abs(self._sums["gradient"]) <= self._thresholds_of_sums
        return np.broadcast_to(below | (self._sums["terms"] == 0), self._shape)

    @functools.cached_property
    def verdict(self) -> Array:
        """Bits of `Cause` for every weight, (*k, i, j)."""
        if self._is_condensed:
            return self._sums["verdict"]
        verdicts = np.zeros(self._shape, np.uint8)
        terms = self._where_near_zero(self._sums["terms"])
        verdicts[self.near_zero] = verdict(self._sufficient(), terms)
        return verdicts

    def _where_near_zero(self, values: Array) -> Array:
        """The values of a (compact) array that belong to near-zero gradients: in a healthy model few."""
        return np.asarray(np.broadcast_to(values, self._shape)[self.near_zero])

    def _sufficient(self) -> dict[Cause, Array]:
        """Which sets of factors alone keep each near-zero gradient near zero."""
        a, s, g = self._near_zero.activation_scale, self._near_zero.slope_scale, self._scale
        references = {
            Cause.INPUT: ("input_sq", a),
            Cause.ACTIVATION: ("slope_sq", s),
            Cause.BACKPROP: ("backprop_sq", g),
            Cause.INPUT_ACTIVATION: ("input_slope_sq", a * s),
            Cause.INPUT_BACKPROP: ("input_backprop_sq", a * g),
            Cause.ACTIVATION_BACKPROP: ("slope_backprop_sq", s * g),
            Cause.INPUT_ACTIVATION_BACKPROP: ("all_sq", a * s * g),
        }
        limit = self._near_zero.rtol**2 * self._where_near_zero(self._sums["terms"])
        return {
            cause: self._where_near_zero(self._sums[name]) <= limit * scale**2
            for cause, (name, scale) in references.items()
        }

    @functools.cached_property
    def factor_sizes(self) -> dict[str, float]:
        """Root mean square of each factor over all terms, against its healthy reference."""
        terms = max(self._total("terms"), 1.0)
        references = {
            "input": ("input_sq", self._near_zero.activation_scale),
            "activation": ("slope_sq", self._near_zero.slope_scale),
            "backprop": ("backprop_sq", self._scale),
        }
        return {
            factor: float(np.sqrt(self._total(name) / terms)) / reference
            for factor, (name, reference) in references.items()
        }

    def _total(self, name: str) -> float:
        return float(np.sum(np.broadcast_to(self._sums[name], self._shape)))
