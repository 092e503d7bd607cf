"""What the input channels of a kernel say, and which say nothing."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from trainobs.analysis._weight_figures import Array
from trainobs.statistics import SiteStatistics

#: Of the mean square of n values that are the same, E(a²) − E(a)² is less than n · 2⁻⁵².
_ROUNDING = 1e-9


class InputFigures:
    """The input channels of one kernel; all arrays have shape (channels,).

    Parameters
    ----------
    statistics : SiteStatistics
    rtol : float
        What is near zero, relative.
    """

    def __init__(self, statistics: SiteStatistics, rtol: float) -> None:
        self._sums, self._rtol = statistics.sums, rtol
        self._window = math.prod(statistics.kernel.shape[:-2])
        self._groups = statistics.info.op.groups

    @property
    def dead(self) -> Array:
        """Which channels are near zero at all positions."""
        return self._sums["input_channel_zero"] >= self._sums["input_size"]

    @property
    def zero_fraction(self) -> Array:
        """The fraction of a channel's values that are near zero."""
        return self._sums["input_channel_zero"] / self._sums["input_size"]

    @property
    def channel_rms(self) -> Array:
        """Root mean square of a channel's values."""
        return np.sqrt(self._sums["input_channel_sq"] / self._sums["input_size"])

    @property
    def mean(self) -> Array:
        """Mean of a channel's values."""
        return self._sums["input_channel_sum"] / self._sums["input_size"]

    @property
    def deviation(self) -> Array:
        """Standard deviation of a channel's values; 0 where rounding leaves nothing of it."""
        square = self.channel_rms**2
        variance = np.maximum(square - self.mean**2, 0)
        return np.sqrt(np.where(variance > self._rtol**2 * square, variance, 0))

    @property
    def vary(self) -> bool:
        """Whether any channel has values that differ by more than rounding leaves of sums in float64."""
        square = self.channel_rms**2
        return bool(np.any(square - self.mean**2 > _ROUNDING * square))

    @property
    def one_signed(self) -> Array:
        """Which channels have next to no values of one of the signs."""
        negative = self._sums["input_channel_negative"]
        positive = self._sums["input_channel_sum"] + negative
        return np.minimum(negative, positive) <= self._rtol * (negative + positive)

    def fresh_units_off(self, sigmas: float) -> float:
        """Part of the units of a fresh rectifying layer, without biases, that would never fire.

        At least those with no weight of the sign of its input, where all inputs are of one sign.
        """
        live = ~self.dead
        weights = self._window * np.count_nonzero(live) / self._groups
        by_sign = np.any(live) and np.all(self.one_signed[live])
        return max(self.fresh_units_shifted_off(sigmas), float(0.5**weights) if by_sign else 0.0)

    def fresh_units_shifted_off(self, sigmas: float) -> float:
        """The same, of units that the inputs' mean shifts far below zero.

        Those whose mean is so many standard deviations below zero. Weights are drawn around zero: means and
        deviations of units are then ‖w‖ times the root mean square of those of the inputs, correlated or not.
        """
        mean, deviation = _size(self.mean), _size(self.deviation)
        return 0.0 if mean == 0 else NormalDist().cdf(-sigmas * deviation / mean)

    @property
    def rms(self) -> float:
        """Root mean square of all input values."""
        return float(np.sqrt(np.mean(self._sums["input_channel_sq"]) / self._sums["input_size"]))


def _size(values: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
