"""From the sums of a weight of unknown kind to its figures, and a cause for its layer as a whole.

What is known is what arrives at the layer from both sides. Definitions: docs/definitions.md,
"Other weights".
"""

from __future__ import annotations

import functools

import numpy as np

from trainobs.analysis._causes import CAUSES, Cause
from trainobs.analysis._flow import Flow
from trainobs.records import DATA
from trainobs.statistics import WholeLayerStatistics
from trainobs.thresholds import NearZero


class WholeLayerFigures:
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

    def __init__(
        self, statistics: WholeLayerStatistics, near_zero: NearZero, gradient_scale: float, flow: Flow
    ) -> None:
        self.info = statistics.info
        self.samples = statistics.samples
        self.gradient = statistics.gradient / statistics.samples
        self.size = int(self.gradient.size)
        self._near_zero, self._scale, self._flow = near_zero, gradient_scale, flow

    @property
    def threshold(self) -> float:
        """rtol · a* · g* / √N: that of a weight with one term per sample."""
        near_zero = self._near_zero
        return near_zero.rtol * near_zero.activation_scale * self._scale / float(np.sqrt(self.samples))

    @property
    def near_zero_count(self) -> int:
        """Number of weights whose gradient is near zero."""
        return int(np.sum(np.abs(self.gradient) <= self.threshold))

    @property
    def near_zero_fraction(self) -> float:
        """Part of the weights whose gradient is near zero."""
        return self.near_zero_count / max(self.size, 1)

    @property
    def used_near_zero(self) -> float:
        """The same: all of them are used."""
        return self.near_zero_fraction

    @property
    def exact_zero_fraction(self) -> float:
        """Part of the weights whose gradient is exactly 0."""
        return float(np.mean(self.gradient == 0)) if self.size else 0.0

    @property
    def gradient_rms(self) -> float:
        """Root mean square of the gradient."""
        return float(np.sqrt(np.mean(np.square(self.gradient)))) if self.size else 0.0

    @functools.cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Which factors alone keep the whole layer's gradients near zero; empty if none is known to."""
        found = []
        if self.info.nodes and all(map(self._input_near_zero, self.info.nodes)):
            found.append(Cause.INPUT)
        if self.info.nodes and all(map(self._backprop_near_zero, self.info.nodes)):
            found.append(Cause.BACKPROP)
        return tuple(found)

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
            return dict.fromkeys(CAUSES, float("nan"))
        return {cause: (cause in self.causes) / len(self.causes) for cause in CAUSES}
