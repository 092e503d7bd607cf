"""Rectifying units that never fire."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms._off_units import OffUnits, rectifies
from trainobs.mechanisms._words import are, everywhere, part_of, percent, several

_REASONS = {
    "input": "no live input ever reaches {them}",
    "weights": "no live input meets a weight of its own sign",
    "bias": "the bias pushes {them} below zero",
    "combination": "inputs, weights and bias together push {them} below zero",
}


@dataclasses.dataclass(frozen=True)
class DeadActivation(OffUnits):
    """Rectifying units of a layer never fire.

    Severity: error

    When: a layer's rectifying units are off at all positions: more than half of them (`dead_units`) by their
    bias, more than 70 % (`dead_units_by_chance`) for other reasons; or a lost gradient is traced to them.

    Where: the layer; the evidence says why the units are off.
    """

    cause = "dead_activation"
    treatments = (
        "reset the bias",
        "re-initialise dead units",
        "re-initialise",
        "insert normalisation",
        "swap activation",
        "lower learning rate",
        "warm-up",
    )
    on_the_way = True

    @classmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether more units of a rectifying layer are dead than a healthy one has."""
        if not rectifies(case, figures) or figures.info.logits:
            return False
        by_bias = figures.main_off_reason(case.thresholds.firing)[0] == "bias"
        limit = case.thresholds.dead_units if by_bias else case.thresholds.dead_units_by_chance
        return bool(np.mean(figures.dead) > limit)

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """Layers with more dead units than a healthy one has."""
        return (figures for figures in case.sites.values() if cls.holds(case, figures))

    @classmethod
    def pushed_off(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether biases alone would keep units off, whatever healthy input they got."""
        fan_in = 2 / figures.healthy_weight**2  # of He's scale
        healthy = case.near_zero.activation_scale * figures.kernel_rms * math.sqrt(fan_in)
        pushed = figures.statistics.bias_rms > case.thresholds.deep_bias * healthy
        return not figures.info.normalised and pushed

    @property
    def value(self) -> float:
        """Part of the units that are dead."""
        return self.dead / self.units

    def threshold(self, case: Case) -> float:
        """The part that is too large, for this reason."""
        by_bias = self.reason == "bias"
        return case.thresholds.dead_units if by_bias else case.thresholds.dead_units_by_chance

    def evidence(self) -> str:
        """How many units are off, or how often they are, and why."""
        return f"{self._off()}{self._why()}."

    def _off(self) -> str:
        if not self.dead:
            values = f"{percent(self.off)} of the {self.activation} values of {self.place}"
            return f"{values} are off over {several(self.positions, 'position')}, though no unit always is"
        units = part_of(self.dead, self.units, f"{self.activation} unit")
        return f"{units} of {self.place} {are(self.dead)} off {everywhere(self.positions)}"

    def _why(self) -> str:
        """The reason, where it is known."""
        if math.isnan(self.reason_share):
            return ""
        why = f"; {self._reached()}{_REASONS[self.reason]}{self._sizes()}"
        return why.format(them="it" if self.dead == 1 else "them")

    def _reached(self) -> str:
        if self.reason == "input":
            return "" if self.dead else "where they are, "
        return f"where live input reaches {{them}}, in {percent(self.reason_share)} of the cases "

    def _sizes(self) -> str:
        if self.reason == "bias":
            of = f" of {self.shift}" if self.shift else ""
            return "" if math.isnan(self.bias_rms) else f" (rms of the bias{of} {self.bias_rms:.2g})"
        return f" (rms of the inputs {self.input_rms:.2g})" if self.reason == "input" else ""

    def advice(self) -> str:
        """What to try first, depending on why the units are off."""
        if self.reason == "bias":
            return "Reset the bias to 0 and lower the learning rate."
        return "Re-initialise the layer (He) and lower the learning rate; or use leaky_relu, elu or gelu."
