"""NaN and infinite gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class NonFinite(Rule):
    """`non_finite`: elements of a weight's gradient that are NaN or infinite; a loss that is, or a weight.

    Findings: `non_finite` (error; warning in half precision while the loss is finite: a scaled loss skips
    such a step).
    Threshold: above 0.
    Source: a step with such a gradient makes the weights NaN.
    """

    remedies: ClassVar = {
        "non_finite": "Look at the first layer that is named: lower the learning rate, clip gradients, and "
        "check the data and the loss for divisions by 0 and logarithms of 0."
    }
    rank = 5

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """Of the loss first, then of each weight and its gradient."""
        broken = [weight for weight in measured.trained if weight.non_finite]
        known = math.isfinite(measured.loss)
        if broken and not known:
            text = f"the loss is {measured.loss}"
            yield self.finding("non_finite", "error", text, value=measured.loss, threshold=0)
        scaled = known and any(weight.dtype == "float16" for weight in measured.weights)
        for weight in broken:
            count = weight.non_finite
            verb = "is" if count == 1 else "are"
            text = f"{count:,} of {weight.size:,} gradient elements of {weight.weight} {verb} NaN or infinite"
            if scaled:  # by design, until the scale has come down
                text = f"{text} in half precision; a scaled loss skips such a step"
            severity = "warning" if scaled else "error"
            yield self.finding("non_finite", severity, text, value=count, threshold=0, weight=weight)
        for weight in measured.weights:
            count = weight.weight_non_finite
            if count > 0:  # nan where it is not known
                verb = "is" if count == 1 else "are"
                text = f"{count:,} of {weight.size:,} values of {weight.weight} itself {verb} NaN or infinite"
                yield self.finding("non_finite", "error", text, value=count, threshold=0, weight=weight)
