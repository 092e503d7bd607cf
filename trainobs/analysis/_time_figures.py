"""Where in time the units of a recurrent layer are off, and where no gradient arrives."""

from __future__ import annotations

import numpy as np

from trainobs.analysis._weight_figures import Array
from trainobs.statistics import SiteStatistics


class TimeFigures:
    """The time steps of one kernel; all arrays have shape (steps,).

    Parameters
    ----------
    statistics : SiteStatistics
    limit : float
        rtol · g*: up to this size next to no gradient arrives.
    """

    def __init__(self, statistics: SiteStatistics, limit: float) -> None:
        self._sums, self._limit = statistics.sums, limit

    @property
    def steps(self) -> int:
        """Number of time steps; 0 where there is no time."""
        return len(self._sums["step_size"]) if "step_size" in self._sums else 0

    @property
    def off(self) -> Array:
        """The part of the values that are off."""
        return self._sums["step_off"] / self._sums["step_size"]

    @property
    def gradient_rms(self) -> Array:
        """Root mean square of n · dJ/dZ."""
        return np.sqrt(self._sums["step_gradient_sq"] / self._sums["step_size"])

    @property
    def near_zero(self) -> Array:
        """At which time steps next to no gradient arrives: rms(n · dJ/dZ) ≤ rtol · g*."""
        return self.gradient_rms <= self._limit
