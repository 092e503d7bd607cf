"""Units that never fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health._weight_health import WeightHealth
from trainobs.health.rules._rule import Rule


class DeadUnits(Rule):
    """`dead_units`: the share of a layer's units, behind a rectifying activation, that are off on the batch.

    Findings: `dead_units` (info, warning, error).
    Threshold: above `dead_units_warning`, above `dead_units`; over so few positions that it may be chance
    (`chance`), an info.
    Source: common value; SageMaker DeadRelu.
    """

    remedies: ClassVar = {
        "dead_units": "Lower the learning rate, look at the layer's biases, or use leaky ReLU, ELU or GELU."
    }
    rank = 35

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each layer."""
        for weight in measured.weights:
            if weight.dead_units > measured.thresholds.dead_units_warning:
                yield self._of(weight, measured)

    def _of(self, weight: WeightHealth, measured: Measured) -> Finding:
        value, thresholds = weight.dead_units, measured.thresholds
        severity = "error" if value > thresholds.dead_units else "warning"
        limit = thresholds.dead_units if severity == "error" else thresholds.dead_units_warning
        text = f"{value:.0%} of the units of {weight.layer} never fire on this batch, more than {limit:.0%}"
        dead, chance = round(value * weight.rectifying), measured.chance
        if chance.doubt(dead, weight.rectifying, weight.positions) == "positions":
            severity = "info"
            text += f"; to tell that from chance takes {chance.positions} different positions, of which this "
            text += f"batch has {weight.positions}"
        return self.finding("dead_units", severity, text, value=value, threshold=limit, weight=weight)
