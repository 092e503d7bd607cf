"""Units that never fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class DeadUnits(Rule):
    """`dead_units`: the share of a layer's units, behind a rectifying activation, that are off on the batch.

    Findings: `dead_units` (warning, error).
    Threshold: above `dead_units_warning`, above `dead_units`.
    Source: common value; SageMaker DeadRelu.
    """

    remedies: ClassVar = {
        "dead_units": "Lower the learning rate, look at the layer's biases, or use leaky ReLU, ELU or GELU."
    }
    rank = 35

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each layer."""
        warning, error = measured.thresholds.dead_units_warning, measured.thresholds.dead_units
        for weight in measured.weights:
            value = weight.dead_units
            if value > warning:
                severity, limit = ("error", error) if value > error else ("warning", warning)
                units = f"{value:.0%} of the units of {weight.layer}"
                text = f"{units} never fire on this batch, more than {limit:.0%}"
                yield self.finding("dead_units", severity, text, value=value, threshold=limit, weight=weight)
