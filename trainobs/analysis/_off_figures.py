"""Which units of a layer are off, how often, and why."""

from __future__ import annotations

import math

import numpy as np

from trainobs.analysis._weight_figures import Array
from trainobs.statistics import OFF_REASONS, SiteStatistics


class OffFigures:
    """When the units of one kernel are off.

    Parameters
    ----------
    statistics : SiteStatistics
    slope_atol : float
        A smooth activation is off where its slope is at most this.
    """

    def __init__(self, statistics: SiteStatistics, slope_atol: float) -> None:
        self._sums, self._slope_atol = statistics.sums, slope_atol
        self._activation = statistics.info.activation

    @property
    def positions(self) -> float:
        """Positions of the units, over all calls of the layer."""
        return float(self._sums["unit_positions"])

    @property
    def count(self) -> Array:
        """Per unit, the number of positions at which it is off."""
        return self._sums["off"]

    @property
    def fraction(self) -> float:
        """Part of the (position, unit) pairs that are off."""
        return float(np.mean(self.count) / self.positions)

    @property
    def dead(self) -> Array:
        """Which units are off at all positions."""
        return self.count >= self.positions

    @property
    def live(self) -> tuple[Array, Array, Array]:
        """Per unit, the positions at which it is on; at which a gradient arrives; both."""
        names = ("unit_slope_zero", "unit_backprop_zero", "unit_slope_or_backprop_zero")
        on, arrives, both = (self.positions - self._sums[name] for name in names)
        return on, arrives, both

    def by(self, reason: str, unit: slice | int = slice(None)) -> float:
        """Part of the off pairs (of all units, or one) with a reason; nan where none is off or known."""
        total = sum(np.sum(self._sums[f"off_{other}"][unit]) for other in OFF_REASONS)
        return float(np.sum(self._sums[f"off_{reason}"][unit]) / total) if total else math.nan

    def main_reason(self, firing: float) -> tuple[str, float]:
        """The most frequent reason why units are off, of dead units if there are any; and its share.

        The share is that of the off (position, unit) pairs. Where units rectify, only pairs that live input
        reaches count, unless missing input is the reason. For `firing` see `Thresholds`.
        """
        units = self.dead if np.any(self.dead) else slice(None)
        counts = np.stack([self._sums[f"off_{reason}"][units] for reason in OFF_REASONS])
        rectifies = self._activation.rectifies(self._slope_atol)
        of_units = _reasons_of_units(counts, firing) if rectifies else np.argmax(counts, axis=0)
        main = int(np.argmax(np.bincount(of_units, counts.sum(axis=0), len(OFF_REASONS))))
        of_reasons = counts.sum(axis=1)
        missing = of_reasons[0] if rectifies and main != 0 else 0.0
        of = float(of_reasons.sum() - missing)
        return OFF_REASONS[main], float(of_reasons[main]) / of if of else math.nan


def _reasons_of_units(counts: Array, firing: float) -> Array:
    """Why each rectifying unit is off, as a place in `OFF_REASONS`, from its off positions by reason (4, j).

    Missing input explains a unit only if it explains every position. The bias explains it if
    without the bias it would fire at this part or more of the positions that live input reaches. Else
    the more frequent of weights and their combination counts.
    """
    _, weights, bias, combination = counts
    reached = weights + bias + combination
    order = {reason: place for place, reason in enumerate(OFF_REASONS)}
    other = np.where(weights >= combination, order["weights"], order["combination"])
    explained = np.where(bias >= firing * reached, order["bias"], other)
    return np.where(reached == 0, order["input"], explained)
