"""The gradients of one kernel, from its sums. Definitions: docs/definitions.md.

| letter | axis                                                      |
|--------|-----------------------------------------------------------|
| k      | kernel window                                             |
| i, j   | inputs of a group, units                                  |

Arrays are compact where a figure is the same along an axis: (*k, i, 1) or (*k, 1, j).
"""

from __future__ import annotations

import functools

import numpy as np

from trainobs.analysis._causes import Cause, shares
from trainobs.analysis._likelihoods import likelihoods
from trainobs.analysis._verdicts import Verdicts
from trainobs.analysis._weight_figures import WITHOUT_TERMS, Array, Used, WeightFigures
from trainobs.records import Scalars, sums_of
from trainobs.statistics import SiteInfo, SiteStatistics
from trainobs.thresholds import NearZero


class GradientFigures(WeightFigures):
    """How large the gradients of one kernel are, and what keeps them near zero.

    Parameters
    ----------
    statistics : SiteStatistics
    near_zero : NearZero
    gradient_scale : float
        g* of the whole data.
    """

    info: SiteInfo

    def __init__(self, statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> None:
        self.statistics = statistics
        self.info = statistics.info
        self.verdicts = Verdicts(statistics, near_zero, gradient_scale)
        self._rtol = near_zero.rtol
        self._sums = statistics.sums

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape (*k, i, j) of the kernel; of a table, of the rows that were looked up."""
        return self.statistics.kernel.shape

    @property
    def units(self) -> int:
        """Number of units j."""
        return int(self.shape[-1])

    @property
    def unused(self) -> int:
        """Weights of a table's rows that were never looked up: they have no terms."""
        rows = self.statistics.rows
        return 0 if rows is None else (self.info.shape[0] - rows.size) * self.units

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.statistics.kernel.size + self.unused

    # ---- the gradient ------------------------------------------------------------------------

    @functools.cached_property
    def gradient(self) -> Array:
        """D(w), the data gradient of every weight."""
        return np.broadcast_to(self.statistics.data_gradient, self.shape)

    @functools.cached_property
    def _gradient_sums(self) -> Scalars:
        return sums_of(self._sums["gradient"])

    @property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        return not self._gradient_sums.non_finite

    @property
    def exact_zero_fraction(self) -> float:
        """Part of the weights whose gradient is exactly 0."""
        return (self._gradient_sums.zeros + self.unused) / self.size

    @property
    def gradient_rms(self) -> float:
        """Root mean square of the data gradient over all weights."""
        return float(np.sqrt(self._gradient_sums.square_sum / self.size)) / self.statistics.positions

    @property
    def mean_gradient(self) -> float:
        """Mean absolute data gradient of the weights that were used."""
        return float(np.mean(np.abs(self._sums["gradient"]))) / self.statistics.positions

    @property
    def threshold(self) -> float:
        """rtol · a* · g* · √T / n of the weight with the most terms."""
        return float(np.max(self.verdicts.thresholds, initial=0.0))

    @property
    def terms(self) -> float:
        """T of the weight with the most terms."""
        return float(np.max(self._sums["terms"]))

    @property
    def near_zero(self) -> Array:
        """Which weights have a gradient near zero, (*k, i, j)."""
        return self.verdicts.near_zero

    @functools.cached_property
    def near_zero_count(self) -> int:
        """Number of weights whose gradient is near zero."""
        return int(np.count_nonzero(self.near_zero)) + self.unused

    @functools.cached_property
    def _has_terms(self) -> Array:
        """Which weights have terms: those that were used."""
        return np.broadcast_to(self._sums["terms"] > 0, self.shape)

    @functools.cached_property
    def used(self) -> Used:
        """How many weights were used, and how many of these have a gradient near zero, or of exactly 0."""
        zero = self._has_terms & (self.gradient == 0)
        near_zero = self._has_terms & self.near_zero
        counts = (self._has_terms, near_zero, zero)
        return Used(*(int(np.count_nonzero(of)) for of in counts))

    @functools.cached_property
    def near_zero_by_input(self) -> Array:
        """Per input of a group, the near-zero fraction of its weights, shape (i,)."""
        axes = (*range(len(self.shape) - 2), len(self.shape) - 1)
        return np.asarray(self.near_zero.mean(axis=axes))

    # ---- what keeps it small -----------------------------------------------------------------------

    @property
    def verdict(self) -> Array:
        """Bits of `Cause` for every weight, (*k, i, j)."""
        return self.verdicts.verdict

    @property
    def factor_sizes(self) -> dict[str, float]:
        """Root mean square of each factor over all terms, against its healthy reference."""
        return self.verdicts.factor_sizes

    @functools.cached_property
    def shares(self) -> dict[Cause, float]:
        """Part of the near-zero weights that belongs to each cause."""
        parts = _as_floats(shares(self.verdict))
        if not self.unused:
            return parts
        known = int(np.sum(self.near_zero))
        counts = {cause: float(np.nan_to_num(part)) * known for cause, part in parts.items()}
        counts[Cause.INPUT] += self.unused
        return {cause: count / (known + self.unused) for cause, count in counts.items()}

    @functools.cached_property
    def used_shares(self) -> dict[Cause, float]:
        """`shares` of the weights that were used."""
        return _as_floats(shares(self.verdict[self._has_terms]))

    @functools.cached_property
    def likelihoods(self) -> dict[str, Array]:
        """The theory's p_* that are fractions of terms, compact arrays by column name."""
        return likelihoods(self.statistics, self._rtol)

    @property
    def mean_likelihoods(self) -> dict[str, float]:
        """The mean of each over all weights."""
        return {name: self._mean(values, WITHOUT_TERMS[name]) for name, values in self.likelihoods.items()}

    def _mean(self, values: Array, unused: float) -> float:
        """Mean over all weights of a (compact) array; `unused` for those without terms."""
        if not self.unused:
            return float(np.mean(values))
        total = float(np.sum(np.broadcast_to(values, self.shape)))
        return (total + unused * self.unused) / self.size


def _as_floats(parts: dict[Cause, Array]) -> dict[Cause, float]:
    return {cause: float(part) for cause, part in parts.items()}
