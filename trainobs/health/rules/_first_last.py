"""How gradients shrink or grow from the last kernel to the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class FirstLast(Rule):
    """Ratio of `gradient_norm`, first kernel to last.

    Findings: `first_last_low`, `first_last_high` (warning).
    Threshold: outside of `first_last`, 1e-3 … 70 in the preset "autotrainer"; below it only with a first norm
    below `first_norm`.
    Source: AUTOTRAINER.
    """

    remedies: ClassVar = {
        "first_last_low": "Shorten the way back: residual connections, normalisation, ReLU-like activations.",
        "first_last_high": "Clip gradients, lower the learning rate, or add normalisation between the "
        "layers.",
    }
    rank = 20

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """At most one, of the first kernel."""
        band, kernels = measured.thresholds.first_last, measured.kernels
        if band is None or len(kernels) < 2 or not kernels[-1].gradient_norm > 0:
            return
        (low, high), first = band, kernels[0]
        ratio = first.gradient_norm / kernels[-1].gradient_norm
        text = f"the gradient norm of the first kernel, {first.weight}, is {ratio:.2g} times that of the last"
        if ratio < low and first.gradient_norm < measured.thresholds.first_norm:
            text = f"{text}, below {low:g}"
            yield self.finding("first_last_low", "warning", text, value=ratio, threshold=low, weight=first)
        if ratio > high:
            text = f"{text}, above {high:g}"
            yield self.finding("first_last_high", "warning", text, value=ratio, threshold=high, weight=first)
