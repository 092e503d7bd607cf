"""Steps that change a kernel too little or too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class Update(Rule):
    """`update_ratio` of a kernel: how much of its norm one step changes.

    Findings: `update_high` (warning), `update_low` (info).
    Threshold: outside of `update_ratio`.
    Source: DeepDiagnosis.
    """

    remedies: ClassVar = {
        "update_low": "Raise the learning rate, or ask `trainobs.explain_near_zero_gradients` why gradients "
        "are small.",
        "update_high": "Lower the learning rate, or warm it up: one step replaces much of the kernel.",
    }
    rank = 50

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each kernel."""
        low, high = measured.thresholds.update_ratio
        for weight in measured.kernels:
            value = weight.update_ratio
            text = f"a step changes {weight.weight} by {value:.2g} of its norm"
            if value < low:
                text = f"{text}, less than {low:g}"
                yield self.finding("update_low", "info", text, value=value, threshold=low, weight=weight)
            if value > high:
                text = f"{text}, more than {high:g}"
                yield self.finding("update_high", "warning", text, value=value, threshold=high, weight=weight)
