"""Activations that move from check to check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health._weight_health import by_layer
from trainobs.health.rules._rule import Rule


class Shift(Rule):
    """`shift`: the distance of a layer's activations to those at the check before.

    Findings: `shift` (info: expected early on).
    Threshold: above `shift`.
    Source: two normal distributions 0.8 σ apart, Cohen's large effect: 2Φ(0.4) − 1 = 0.31.
    """

    remedies: ClassVar = {
        "shift": "Expected in the first steps; later lower the learning rate, or add normalisation before "
        "the layer."
    }
    rank = 65

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each layer."""
        limit = measured.thresholds.shift
        for layer, (weight, *_) in by_layer(measured.weights).items():
            value = weight.shift
            if value > limit:
                text = (
                    f"the activations of {layer} have moved since the last check: their Kolmogorov-Smirnov "
                    f"distance is {value:.2g}, above {limit:g}"
                )
                yield self.finding("shift", "info", text, value=value, threshold=limit, weight=weight)
