"""Weights of a recurrent layer that one time step leaves without anything to do."""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class OneTimeStep(Mechanism):
    """A recurrent layer is run over one time step: nothing recurs.

    Severity: info

    When: there is one time step, and what only multiplies the state before it (recurrent kernels, a forget or
    reset gate) has gradients of exactly 0, for that state is zero, while other weights of the layer learn.

    Where: the layer.
    """

    cause = "one_time_step"
    rank = 45

    @classmethod
    def at(cls, case: Case, figures: SiteFigures) -> OneTimeStep | None:
        """The mechanism at a weight, or a gate's part of it."""
        info = figures.info
        recurs = bool(info.part) or info.role == "recurrent"
        if figures.steps != 1 or not recurs or figures.exact_zero_fraction < 1:
            return None
        same = (other for other in case.sites.values() if other.info.layer == info.layer)
        learns = any(other.used_near_zero <= case.thresholds.affected for other in same)
        return cls(info.layer) if learns else None

    @property
    def only_informs(self) -> bool:
        """The rest of the layer learns."""
        return True

    def evidence(self) -> str:
        """What one step leaves without a gradient."""
        return (
            f"{self.layer} is run over one time step, from a state of zeros: what only multiplies that state "
            f"(recurrent kernels, gates that forget) gets no gradient. Its other weights learn."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "If the data is a sequence, put time on axis 1; else a Dense layer does the same."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: there is one time step."""
        return Untried("there is no other time step")
