"""Bounded activations at their limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms._off_units import OffUnits, rectifies
from trainobs.mechanisms._words import percent, several

_REASONS = {
    "input": "the inputs are too large",
    "weights": "the kernel is too large",
    "bias": "the bias is too large",
    "combination": "inputs, kernel and bias together are too large",
}
_ADVICE = {
    "input": "Normalise the inputs of the layer (BatchNormalization, LayerNormalization).",
    "weights": "Re-initialise the kernel (Glorot) and lower the learning rate.",
    "bias": "Reset the bias to 0.",
    "combination": "Normalise before the activation, or use a ReLU-like activation.",
}
#: The treatment that the advice names.
_FIRST = {
    "input": "insert normalisation",
    "weights": "re-initialise",
    "bias": "reset the bias",
    "combination": "insert normalisation",
}


@dataclasses.dataclass(frozen=True)
class SaturatedActivation(OffUnits):
    """Most values of a bounded activation are at its limits, where its slope is next to 0.

    Severity: error

    When: more than half (`saturated`) of a bounded activation's values are off; at the model's output only
    where the error is cut off (slope gain at most 0.01, `stuck_slope_gain`), as outputs that saturate where
    they are right are healthy.

    Where: the layer.
    """

    cause = "saturated_activation"
    treatments = (
        "reset the bias",
        "re-initialise",
        "insert normalisation",
        "swap activation",
        "lower learning rate",
    )
    on_the_way = True

    @classmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether a bounded activation is off at most positions."""
        bounded = figures.info.activation.elementwise and not rectifies(case, figures)
        return bounded and not figures.info.logits and figures.off_fraction > case.thresholds.saturated

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """Layers that are saturated, or cut the error off at the output."""
        return (figures for figures in case.sites.values() if cls._is_stuck(case, figures))

    @classmethod
    def _is_stuck(cls, case: Case, figures: SiteFigures) -> bool:
        if figures.info.consumers:
            return cls.holds(case, figures)
        return not rectifies(case, figures) and figures.slope_gain <= case.thresholds.stuck_slope_gain

    @property
    def value(self) -> float:
        """Part of the values that are off."""
        return self.off

    def threshold(self, case: Case) -> float:
        """The part that is too large."""
        return case.thresholds.saturated

    def evidence(self) -> str:
        """How many values are off, and why, where that is known."""
        values = f"{percent(self.off)} of the {self.activation} values of {self.place}"
        saturated = f"{values} are saturated over {several(self.positions, 'position')}"
        if math.isnan(self.reason_share):
            return f"{saturated}."
        cases = f"in {percent(self.reason_share)} of the cases"
        return f"{saturated}; {cases} {_REASONS[self.reason]}{self._sizes()}."

    def _sizes(self) -> str:
        """Of what is too large; a few units' weights may be, and the kernel as a whole not."""
        if self.reason == "bias":
            return "" if math.isnan(self.bias_rms) else f" (rms of the bias {self.bias_rms:.2g})"
        fits = {"input": self.input_rms > 1, "weights": self.kernel_rms > self.healthy_weight}
        if not fits.get(self.reason, True):
            return ""
        return (
            f" (rms of inputs {self.input_rms:.2g}, of weights {self.kernel_rms:.2g}, "
            f"He's scale {self.healthy_weight:.2g})"
        )

    def advice(self) -> str:
        """What to try first, depending on why the values are off."""
        return _ADVICE[self.reason]

    @property
    def ordered_treatments(self) -> tuple[str, ...]:
        """The treatments; first the one that fits the reason why values are off."""
        return tuple(dict.fromkeys([_FIRST[self.reason], *self.treatments]))
