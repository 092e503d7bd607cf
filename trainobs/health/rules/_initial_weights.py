"""Initial kernels far from the usual scales."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class InitialWeights(Rule):
    """`glorot_ratio` of a kernel below the band, or `he_ratio` above it, at the first check.

    Findings: `initial_weights_low`, `initial_weights_high` (warning).
    Threshold: outside of `initial_weights`.
    Source: He et al. 2015, Glorot & Bengio 2010.
    """

    remedies: ClassVar = {
        "initial_weights_low": "Initialise with he_normal or glorot_uniform: signals shrink by this kernel.",
        "initial_weights_high": "Initialise with he_normal or glorot_uniform: signals grow by this kernel.",
    }
    rank = 45

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each kernel."""
        low, high = measured.thresholds.initial_weights
        for weight in measured.kernels if measured.first else ():
            glorot, he, start = weight.glorot_ratio, weight.he_ratio, f"the initial rms of {weight.weight} is"
            if glorot < low:
                text, cause = f"{start} {glorot:.2g} of Glorot's scale, below {low:g}", "initial_weights_low"
                yield self.finding(cause, "warning", text, value=glorot, threshold=low, weight=weight)
            if he > high:
                text, cause = f"{start} {he:.3g} times He's scale, above {high:g}", "initial_weights_high"
                yield self.finding(cause, "warning", text, value=he, threshold=high, weight=weight)
