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

    Severity: error; info where it may be chance (`chance`): over fewer than log₂(units of the model) + 10
    positions, or in a layer so narrow that as many of its units may be off where inputs hardly vary. A bias
    so deep that no healthy input gets a unit above zero is no chance

    When: a layer's rectifying units are off at all positions: more than half of them (`dead_units`) by their
    bias, more than 70 % (`dead_units_by_chance`) for other reasons; or a lost gradient is traced to them.

    Where: the layer; the evidence says why the units are off.

    Parameters
    ----------
    doubt : {"", "positions", "alike", "units"}
        Of what there are so few that it may be chance: positions, or positions that are not alike, or units.
    needed : int
        Positions from which on a unit that is off at all of them is dead.
    """

    doubt: str = ""
    needed: int = 0

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
        """Layers with more dead units than a healthy one has, and not by chance."""
        held = (figures for figures in case.sites.values() if cls.holds(case, figures))
        return (figures for figures in held if not cls.of(case, figures).doubt)

    @classmethod
    def of(cls, case: Case, figures: SiteFigures) -> DeadActivation:
        """The mechanism at a kernel, with its numbers."""
        dead = super().of(case, figures)
        if figures.off_by("bias") >= case.thresholds.firing and cls.pushed_off(case, figures):
            return dead
        doubt: str = case.chance.doubt(dead.dead, dead.units, figures.distinct_positions)
        if doubt == "positions" and case.chance.is_enough(dead.positions):
            doubt = "alike"
        by_bias = dead.reason == "bias" and doubt == "units"
        return dataclasses.replace(dead, doubt="" if by_bias else doubt, needed=case.chance.positions)

    @classmethod
    def pushed_off(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether biases alone would keep units off, whatever healthy input they got."""
        fan_in = 2 / figures.healthy_weight**2  # of He's scale
        healthy = case.near_zero.activation_scale * figures.kernel_rms * math.sqrt(fan_in)
        pushed = figures.statistics.bias_rms > case.thresholds.deep_bias * healthy
        return not figures.info.normalised and pushed

    @property
    def only_informs(self) -> bool:
        """Where it may be chance."""
        return bool(self.doubt)

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
        return " ".join([f"{self._off()}{self._why()}.", *self._may_be_chance()])

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

    def _may_be_chance(self) -> list[str]:
        """What would show that it is no chance."""
        if self.doubt == "positions":
            return [f"Over so few that may be chance: {several(self.needed, 'position')} would show it."]
        if self.doubt == "alike":
            return [
                f"What is read is the same at all of them, so that may be chance: "
                f"{several(self.needed, 'different position')} would show it."
            ]
        few = "Of so few units as many may be off in a healthy layer, if what it reads hardly varies."
        return [few] if self.doubt == "units" else []

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
