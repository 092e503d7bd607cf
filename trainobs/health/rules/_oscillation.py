"""A loss that swings instead of falling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule


class Oscillation(Rule):
    """`oscillation`: the share of the loss's last points that are turning points with a swing on both sides.

    Findings: `oscillation` (warning).
    Threshold: above `oscillation_share`.
    Source: AUTOTRAINER ζ, η, there over epochs.
    """

    remedies: ClassVar = {"oscillation": "Lower the learning rate, raise the batch size, or clip gradients."}
    rank = 55

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """At most one, of the model."""
        value, limit = measured.oscillation, measured.thresholds.oscillation_share
        if value > limit:
            text = (
                f"the loss turns with swings above {measured.thresholds.oscillation_swing:.0%} at "
                f"{value:.0%} of its last points, more than {limit:.0%}"
            )
            yield self.finding("oscillation", "warning", text, value=value, threshold=limit)
