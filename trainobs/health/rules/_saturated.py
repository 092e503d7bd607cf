"""Bounded activations at their bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class Saturated(Rule):
    """`saturated`: the share of a bounded activation's values that are off; not at the model's output.

    Findings: `saturated` (warning).
    Threshold: above `saturated`.
    Source: DeepDiagnosis.
    """

    remedies: ClassVar = {
        "saturated": "Scale the layer's inputs or weights down (normalisation, smaller initial weights), or "
        "use a ReLU-like activation."
    }
    rank = 40

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each layer; outputs that saturate where they are right are well."""
        limit = measured.thresholds.saturated
        for weight in measured.weights:
            value = weight.saturated
            if value > limit and not weight.at_output:
                values = f"{value:.0%} of the activations of {weight.layer}"
                text = f"{values} are saturated, more than {limit:.0%}"
                yield self.finding("saturated", "warning", text, value=value, threshold=limit, weight=weight)
