"""What the input channels of a kernel say, and which say nothing."""

from __future__ import annotations

import numpy as np

from trainobs.analysis._weight_figures import Array
from trainobs.statistics import SiteStatistics


class InputFigures:
    """The input channels of one kernel; all arrays have shape (channels,).

    Parameters
    ----------
    statistics : SiteStatistics
    """

    def __init__(self, statistics: SiteStatistics) -> None:
        self._sums = statistics.sums

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
    def rms(self) -> float:
        """Root mean square of all input values."""
        return float(np.sqrt(np.mean(self._sums["input_channel_sq"]) / self._sums["input_size"]))
