"""Gradients of a weight that are lost, or never arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health._weight_health import WeightHealth
from trainobs.health.rules._rule import Rule
from trainobs.health.rules._words import words_for


class Vanishing(Rule):
    """`gradient_norm` of a weight (or what `vanishing_of` names), too small; or no gradient arrives at all.

    Findings: `vanishing`, `no_gradient` (warning; error if all kernels' do; info for biases and scales).
    Threshold: below `vanishing`.
    Source: common value; SageMaker and DeepDiagnosis have the same number for the mean.
    """

    remedies: ClassVar = {
        "no_gradient": "No path leads from the weight to the loss: use the layer's output, or freeze the "
        "layer.",
        "vanishing": "Ask `trainobs.explain_near_zero_gradients` for the cause; often a layer further on is "
        "saturated or dead: ReLU-like activations, He's initialisation, residual connections or "
        "normalisation help.",
    }
    rank = 15

    def findings(self, measured: Measured) -> Iterator[Finding]:
        """One for each weight; not where the gradient is zero by design."""
        carrying = [weight for weight in measured.trained if not weight.modifies]
        of_carrying = "error" if carrying and all(map(measured.vanishes, carrying)) else "warning"
        for weight in filter(measured.vanishes, measured.trained):
            severity = "info" if weight.modifies else of_carrying
            if not weight.gradient_came:
                yield self._none(weight, severity, measured)
            elif not weight.cancelled:
                yield self._small(weight, severity, measured)

    def _none(self, weight: WeightHealth, severity: str, measured: Measured) -> Finding:
        text, limit = f"no gradient arrives at {weight.weight}", measured.thresholds.vanishing
        return self.finding("no_gradient", severity, text, value=0, threshold=limit, weight=weight)

    def _small(self, weight: WeightHealth, severity: str, measured: Measured) -> Finding:
        measure, limit = measured.thresholds.vanishing_of, measured.thresholds.vanishing
        value = weight.gradient(measure)
        text = f"{words_for(measure)} of {weight.weight} is {value:.2g}, below {limit:g}"
        return self.finding("vanishing", severity, text, value=value, threshold=limit, weight=weight)
