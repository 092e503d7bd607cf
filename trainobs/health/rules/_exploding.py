"""Gradients of a weight that are too large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule
from trainobs.health.rules._words import words_for


class Exploding(Rule):
    """`gradient_norm` of a weight (or what `exploding_of` names), too large.

    Findings: `exploding` (error).
    Threshold: above `exploding`.
    Source: common value.
    """

    remedies: ClassVar = {
        "exploding": 'Clip gradients (`act=("clip",)`, or the optimizer\'s `global_clipnorm=1.0`) or lower '
        "the learning rate; check the scale of data, targets and initial weights."
    }
    rank = 10

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each weight; infinite gradients are `non_finite`."""
        measure, limit = measured.thresholds.exploding_of, measured.thresholds.exploding
        for weight in filter(measured.explodes, measured.trained):
            value = weight.gradient(measure)
            text = f"{words_for(measure)} of {weight.weight} is {value:.4g}, above {limit:g}"
            yield self.finding("exploding", "error", text, value=value, threshold=limit, weight=weight)
