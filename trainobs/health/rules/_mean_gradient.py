"""The mean absolute gradient of a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class MeanGradient(Rule):
    """`gradient_mean_abs` of a kernel.

    Findings: `mean_gradient_high` (warning), `mean_gradient_low` (info).
    Threshold: outside of `mean_abs`.
    Source: common band.
    """

    remedies: ClassVar = {
        "mean_gradient_high": "Clip gradients or lower the learning rate; check the scale of the layer's "
        "inputs.",
        "mean_gradient_low": "Fine for a large kernel; if the layer does not learn, ask "
        "`trainobs.explain_near_zero_gradients` why.",
    }
    rank = 60

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each kernel."""
        low, high = measured.thresholds.mean_abs
        for weight in measured.kernels:
            value = weight.gradient_mean_abs
            text = f"the mean absolute gradient of {weight.weight} is {value:.3g}"
            if value < low:
                text, cause = f"{text}, below {low:g}", "mean_gradient_low"
                yield self.finding(cause, "info", text, value=value, threshold=low, weight=weight)
            if high < value < math.inf:
                text, cause = f"{text}, above {high:g}", "mean_gradient_high"
                yield self.finding(cause, "warning", text, value=value, threshold=high, weight=weight)
