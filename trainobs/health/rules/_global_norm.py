"""The norm of all gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class GlobalNorm(Rule):
    """`global_norm`: the norm of all gradients together.

    Findings: `global_norm_high` (warning), `global_norm_low` (info).
    Threshold: outside of `global_norm`.
    Source: common band.
    """

    remedies: ClassVar = {
        "global_norm_high": "Lower the learning rate or clip gradients (`global_clipnorm`); check the scale "
        "of the targets and of a summed loss.",
        "global_norm_low": "Fine for a training that converges; early on, raise the learning rate or ask "
        "`trainobs.explain_near_zero_gradients` what keeps gradients small.",
    }
    rank = 30

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """At most one, of the model."""
        (low, high), value = measured.thresholds.global_norm, measured.global_norm
        if value < low:
            text = f"the norm of all gradients is {value:.2g}, below {low:g}"
            yield self.finding("global_norm_low", "info", text, value=value, threshold=low)
        if high < value < math.inf:
            text = f"the norm of all gradients is {value:.4g}, above {high:g}"
            yield self.finding("global_norm_high", "warning", text, value=value, threshold=high)
