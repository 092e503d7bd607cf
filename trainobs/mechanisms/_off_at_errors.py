"""Units that are on at some positions, and get a gradient at others."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, NoisyInput, Untried
from trainobs.mechanisms._dead_activation import DeadActivation
from trainobs.mechanisms._healthy import standardised_at
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._off_units import rectifies
from trainobs.mechanisms._words import several


@dataclasses.dataclass(frozen=True)
class OffAtErrors(Mechanism):
    """Rectifying units are off where the error is.

    Severity: error; info where gradients arrive at too few positions for that to be no chance: fewer than
    log₂(units of the model) + 10 (`chance`)

    When: the units of a layer are on at some positions, and gradients arrive at others, but next to never at
    the same (at most `rtol` of those), so that gradients are lost by it. Or what a kernel reads is near zero
    wherever a gradient arrives, though not elsewhere.

    Where: the layer of these units; or of that kernel, where no such units make what it reads.

    Parameters
    ----------
    activation : str
    on, arrives, both : float
        Part of all positions and units that are on; that a gradient arrives at; that are both.
    positions, needed : int
        At how many positions gradients arrive, at least; and at how many that would be no chance.
    """

    activation: str
    on: float
    arrives: float
    both: float
    positions: int
    needed: int

    cause = "off_at_errors"
    treatments = ("swap activation", "re-initialise", "insert normalisation")
    on_the_way = True

    @classmethod
    def at(cls, case: Case, figures: SiteFigures) -> OffAtErrors | None:
        """The mechanism at a layer's units; None if they are dead, or on at errors as well."""
        if not rectifies(case, figures) or figures.info.logits or DeadActivation.holds(case, figures):
            return None
        on, arrives, both = figures.off_units.live
        apart = np.sum(both) <= case.near_zero.rtol * np.sum(arrives)
        if not (apart and np.any(on) and np.any(arrives)):
            return None
        of_on, of_arrives, of_both = (float(np.mean(n)) / figures.positions for n in (on, arrives, both))
        fewest = int(np.min(arrives[(on > 0) & (arrives > 0)], initial=figures.positions))
        needed, layer = case.chance.positions, figures.info.layer
        return cls(layer, figures.activation, of_on, of_arrives, of_both, fewest, needed)

    @property
    def only_informs(self) -> bool:
        """Where it may be chance."""
        return self.positions < self.needed

    @property
    def value(self) -> float:
        """Part of what gradients arrive at that is on."""
        return self.both / self.arrives

    def threshold(self, case: Case) -> float:
        """The part up to which that is next to never."""
        return case.near_zero.rtol

    def evidence(self) -> str:
        """How often units are on, gradients arrive, and both."""
        return (
            f"The {self.activation} units of {self.layer} are on at {self.on:.2g} of all positions, and "
            f"gradients arrive at {self.arrives:.2g} of them, but both {self._at_both}: the units are off "
            f"where the error is.{self._may_be_chance()}"
        )

    @property
    def _at_both(self) -> str:
        return f"at only {self.both:.2g}" if self.both else "nowhere"

    def _may_be_chance(self) -> str:
        """What would show that it is no chance."""
        if not self.only_informs:
            return ""
        return (
            f" At {several(self.positions, 'position')} with a gradient that may be chance: {self.needed} "
            f"would show it."
        )

    def advice(self) -> str:
        """The same in all cases."""
        return "Use leaky_relu, elu or gelu, which pass a part of the error on; or re-initialise the layer."

    def summary(self) -> str:
        """How often units are on, and gradients arrive."""
        return f"on at {self.on:.2g} of all positions, gradients at {self.arrives:.2g}, both {self._at_both}"

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Units get values of zero mean and unit variance."""
        return standardised_at(case, self.layer)


@dataclasses.dataclass(frozen=True)
class ReadsNothingAtErrors(Mechanism):
    """What a kernel reads is near zero where the error is (see `OffAtErrors`).

    Parameters
    ----------
    live, arrives : float
        Part of the terms whose input is live; at whose unit a gradient arrives.
    """

    live: float
    arrives: float

    cause = "off_at_errors"

    @classmethod
    def at(cls, figures: SiteFigures) -> ReadsNothingAtErrors:
        """The mechanism at a kernel, with its numbers."""
        parts = figures.mean_likelihoods
        return cls(figures.info.layer, 1 - parts["p_input"], 1 - parts["p_backprop"])

    def evidence(self) -> str:
        """How often it reads something, and a gradient arrives."""
        return (
            f"What {self.layer} reads is live in {self.live:.2g} of all cases, and a gradient arrives in "
            f"{self.arrives:.2g} of them, but next to never in the same."
        )

    def advice(self) -> str:
        """The same in all cases."""
        return "Check the data: where predictions are wrong, these inputs say nothing."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The layer reads values of unit size everywhere."""
        return NoisyInput(self.layer)


@dataclasses.dataclass(frozen=True)
class FiresOnNothing(Mechanism):
    """Rectifying units are on only where what they read is near zero.

    Severity: error

    When: gradients of a layer are lost because its units are off wherever their input is live, though not
    elsewhere: negative weights on positive inputs, under a positive bias, say.

    Where: the layer.

    Parameters
    ----------
    activation : str
    on, live, both : float
        Part of the terms whose unit is on; whose input is live; that are both.
    """

    activation: str
    on: float
    live: float
    both: float

    cause = "fires_on_nothing"
    treatments = ("re-initialise", "standardise inputs", "swap activation")
    on_the_way = True

    @classmethod
    def at(cls, figures: SiteFigures) -> FiresOnNothing:
        """The mechanism at a kernel, with its numbers."""
        parts = figures.mean_likelihoods
        on, live, both = (1 - parts[name] for name in ("p_activation", "p_input", "p_input_activation"))
        return cls(figures.info.layer, figures.activation, on, live, both)

    def evidence(self) -> str:
        """How often units are on, inputs live, and both."""
        both = f"in only {self.both:.2g}" if self.both else "in none"
        return (
            f"The {self.activation} units of {self.layer} are on in {self.on:.2g} of all cases, and what "
            f"they read is live in {self.live:.2g}, but both {both}: they fire where there is nothing to "
            f"learn from."
        )

    def advice(self) -> str:
        """The same in all cases."""
        return "Re-initialise the layer (He), and scale what it reads to zero mean."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Units get values of zero mean and unit variance."""
        return standardised_at(case, self.layer)
