"""From the sums of a weight of unknown kind to its figures, and a cause for its layer as a whole.

What is known is what arrives at the layer from both sides. Definitions: docs/definitions.md,
"Other weights".
"""

from __future__ import annotations

import functools
import math

import numpy as np

from trainobs.analysis._causes import CAUSES, Cause
from trainobs.analysis._flow import Flow
from trainobs.analysis._weight_figures import WITHOUT_TERMS, Array, KernelGains, Used, WeightFigures
from trainobs.records import DATA, sums_of
from trainobs.statistics import WholeLayerInfo, WholeLayerStatistics
from trainobs.thresholds import NearZero


class WholeLayerFigures(WeightFigures):
    """What a report says about one such weight.

    Parameters
    ----------
    statistics : WholeLayerStatistics
    near_zero : NearZero
    gradient_scale : float
        g* of the whole data.
    flow : Flow
        For what arrives at the layer.
    """

    info: WholeLayerInfo
    activation = ""
    carries = False
    dead_units = 0
    pinv_trust = math.nan
    residual = math.nan

    def __init__(
        self, statistics: WholeLayerStatistics, near_zero: NearZero, gradient_scale: float, flow: Flow
    ) -> None:
        self.info = statistics.info
        self.samples = statistics.samples
        self.gradient = statistics.gradient / statistics.samples
        self._near_zero, self._scale, self._flow = near_zero, gradient_scale, flow

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.gradient.size)

    @property
    def positions(self) -> int:
        """The number of samples: nothing is known of the layer's positions."""
        return int(self.samples)

    @property
    def threshold(self) -> float:
        """rtol · a* · g* / √N: that of a weight with one term per sample."""
        near_zero = self._near_zero
        return near_zero.rtol * near_zero.activation_scale * self._scale / float(np.sqrt(self.samples))

    @functools.cached_property
    def near_zero(self) -> Array:
        """Which weights have a gradient near zero."""
        return np.abs(self.gradient) <= self.threshold

    @property
    def near_zero_count(self) -> int:
        """Number of weights whose gradient is near zero."""
        return int(np.sum(self.near_zero))

    @property
    def used(self) -> Used:
        """All weights are: how many there are, with a gradient near zero, or of exactly 0."""
        return Used(self.size, self.near_zero_count, int(np.sum(self.gradient == 0)))

    @property
    def exact_zero_fraction(self) -> float:
        """Part of the weights whose gradient is exactly 0."""
        return float(np.mean(self.gradient == 0)) if self.size else 0.0

    @property
    def gradient_rms(self) -> float:
        """Root mean square of the gradient."""
        return sums_of(self.gradient).rms if self.size else 0.0

    @property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        return bool(np.all(np.isfinite(self.gradient)))

    @functools.cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Which factors alone keep the whole layer's gradients near zero; empty if none is known to."""
        nodes = self.info.nodes
        arriving = {Cause.INPUT: self._input_near_zero, Cause.BACKPROP: self._backprop_near_zero}
        return tuple(
            cause for cause, is_near_zero in arriving.items() if nodes and all(map(is_near_zero, nodes))
        )

    def _input_near_zero(self, node: int) -> bool:
        """Whether all that the node reads is known, and near zero."""
        producers = self._flow.records[node].producers
        outputs = [self._flow.records[p].output for p in producers if p != DATA]
        limit = self._near_zero.rtol * self._near_zero.activation_scale
        known = bool(outputs) and DATA not in producers and all(output.size for output in outputs)
        return known and all(output.rms <= limit for output in outputs)

    def _backprop_near_zero(self, node: int) -> bool:
        own = self._flow.nodes[node]
        return not own.unread and not own.gradient_rms > self._near_zero.rtol * self._scale

    @property
    def shares(self) -> dict[Cause, float]:
        """Part of the near-zero weights that belongs to each cause; nan where none is known."""
        if not self.near_zero_count or not self.causes:
            return dict.fromkeys(CAUSES, math.nan)
        return {cause: (cause in self.causes) / len(self.causes) for cause in CAUSES}

    @property
    def mean_likelihoods(self) -> dict[str, float]:
        """Unknown: there are no terms."""
        return dict.fromkeys(WITHOUT_TERMS, math.nan)

    def off_by(self, reason: str) -> float:
        """Unknown."""
        return math.nan

    def gain(self, flow: KernelGains) -> float:
        """Unknown: the weight may be used anywhere in the layer."""
        return math.nan
