"""What the mechanisms of units that are off have in common: how many are off, where, and why."""

from __future__ import annotations

import abc
import dataclasses
from typing import TypeVar

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, StandardisedPreactivation, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import counted, percent, several

Self = TypeVar("Self", bound="OffUnits")


@dataclasses.dataclass(frozen=True)
class OffUnits(Mechanism):
    """Units of a layer are off.

    Parameters
    ----------
    part : str
        The gate, of a recurrent layer; "" for all of a layer.
    activation : str
        Its function.
    reason : {"input", "weights", "bias", "combination"}
        Why they are off (docs/definitions.md, "Units").
    reason_share : float
        In what part of the cases it is that reason.
    dead, units : int
        Units that are off at all positions, of how many.
    off, positions : float
        Part of the values that are off, over how many positions.
    input_rms, kernel_rms, healthy_weight, bias_rms : float
        Sizes of what the layer reads and of its weights, and He's scale; nan for what it does not have.
    shift : str
        The layer whose beta stands in for the bias; "" where it is the layer's own bias.
    """

    part: str
    activation: str
    reason: str
    reason_share: float
    dead: int
    units: int
    off: float
    positions: float
    input_rms: float
    kernel_rms: float
    healthy_weight: float
    bias_rms: float
    shift: str

    def __post_init__(self) -> None:
        """Something is off."""
        assert 0 < self.off <= 1, self
        assert 0 <= self.dead <= self.units, self

    @classmethod
    def of(cls: type[Self], case: Case, figures: SiteFigures) -> Self:
        """The mechanism at a kernel, with its numbers."""
        between = (case.flow.shift_at(node) for node in case.flow.between(figures))
        shifts = [shift for shift in between if shift is not None]
        reason, share = figures.main_off_reason(case.thresholds.firing)
        return cls(
            layer=figures.info.layer,
            part=figures.info.part,
            activation=figures.info.activation.name,
            reason=reason,
            reason_share=share,
            dead=int(np.sum(figures.dead)),
            units=figures.units,
            off=figures.off_fraction,
            positions=figures.unit_positions,
            input_rms=figures.input_rms,
            kernel_rms=figures.kernel_rms,
            healthy_weight=figures.healthy_weight,
            bias_rms=shifts[-1].kernel_rms if shifts else figures.statistics.bias_rms,
            shift=shifts[-1].info.layer if shifts else "",
        )

    @classmethod
    @abc.abstractmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether it is so at a kernel."""

    @property
    def place(self) -> str:
        """The layer, or the gate of it."""
        return f"the {self.part} of {self.layer}" if self.part else self.layer

    def summary(self) -> str:
        """How many units are off, or what part of their values."""
        where = several(self.positions, "position")
        if self.dead:
            return f"{counted(self.dead)} of {several(self.units, 'unit')}, {where}"
        return f"{percent(self.off)} of the values, {where}"

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Values of zero mean and unit variance; of a recurrent layer, in all gates that are off."""
        sites = [site for site in case.sites.values() if site.info.layer == self.layer]
        same = [site.info for site in sites if site.info.part == self.part]
        applies = same[0].activation.layer if same else self.layer
        off = [self.part, *(site.info.part for site in sites if type(self).holds(case, site))]
        gates = dict.fromkeys(part.removesuffix(", recurrent") for part in off if self.part and part)
        return StandardisedPreactivation(applies, tuple(gates))


def has_dead_units(case: Case, figures: SiteFigures) -> bool:
    """Whether more units are dead than a warning needs, over positions enough to say so."""
    dead = float(np.mean(figures.dead)) > case.thresholds.dead_units_warning
    return dead and case.chance.is_enough(figures.distinct_positions)


def rectifies(case: Case, figures: SiteFigures) -> bool:
    """Whether the units of a kernel are switched off by very negative preactivations."""
    return figures.info.activation.rectifies(case.near_zero.slope_atol)
