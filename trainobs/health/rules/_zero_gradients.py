"""Gradients that are exactly 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class ZeroGradients(Rule):
    """`zero_fraction` over all weights: the share of gradient elements that are exactly 0.

    Findings: `zero_gradients` (warning).
    Threshold: at least `zero_gradients`, 0.7 in the preset "autotrainer".
    Source: AUTOTRAINER, DeepFD.
    """

    remedies: ClassVar = {
        "zero_gradients": "Ask `trainobs.explain_near_zero_gradients` which layer cuts gradients off; where "
        "ReLUs are dead, use leaky ReLU, or lower the learning rate."
    }
    rank = 25

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """At most one, of the model."""
        limit = measured.thresholds.zero_gradients
        reached = [weight for weight in measured.trained if weight.gradient_came]
        if limit is None or not reached:
            return
        zeros = sum(weight.zero_fraction * weight.size for weight in reached)
        value = zeros / sum(weight.size for weight in reached)
        if value >= limit:
            text = f"{value:.0%} of all gradient elements are exactly 0, at least {limit:.0%}"
            yield self.finding("zero_gradients", "warning", text, value=value, threshold=limit)
