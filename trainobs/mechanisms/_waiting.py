"""Weights that get no gradient until another weight of their layer, which starts at zero, has grown."""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case, WholeLayerFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class WaitingWeight(Mechanism):
    """A weight is multiplied with one that starts at zero and will grow (see `ZeroWeights`).

    Parameters
    ----------
    waiting, zero : str
        Names of the two.
    """

    waiting: str
    zero: str

    cause = "zero_weights"

    @classmethod
    def of(cls, case: Case, figures: WholeLayerFigures) -> WaitingWeight | None:
        """The mechanism at a weight without any gradient; None if no such other weight is in its layer."""
        if figures.near_zero_fraction < 1:
            return None
        others = (f for f in case.whole_layers.values() if f.info.layer == figures.info.layer)
        factors = (other for other in others if _multiplies(other.info.shape, figures.info.shape))
        zero = next((factor for factor in factors if _will_grow(factor, case)), None)
        return None if zero is None else cls(figures.info.layer, _name(figures), _name(zero))

    @property
    def only_informs(self) -> bool:
        """It is made so."""
        return True

    def evidence(self) -> str:
        """Which weight waits for which."""
        return (
            f"{self.waiting} of {self.layer} gets no gradient as long as {self.zero} is zero, as it is at "
            f"the start. But {self.zero} itself gets a gradient: it will grow."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Nothing, if it was made so (adapters of low rank, say): look again after some steps."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: it is no fault."""
        return Untried("it is made so, and will grow by itself")


def _multiplies(factor: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a weight can be what another one is multiplied with, by their shapes: one number, or the next
    matrix (as B is, behind A); what is added, as a bias, keeps no gradient from any other weight."""
    if not factor:
        return True
    return len(factor) > 1 and len(weight) > 1 and factor[-2] == weight[-1]


def _will_grow(figures: WholeLayerFigures, case: Case) -> bool:
    """Whether a weight is zero and gets a live gradient."""
    info = figures.info
    lives = figures.near_zero_fraction <= case.thresholds.affected
    return info.is_zero and info.trainable and info.connected and lives


def _name(figures: WholeLayerFigures) -> str:
    return figures.info.weight.rsplit("/", 1)[-1]
