"""Terms that cancel."""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class Cancellation(Mechanism):
    """Gradients are near zero though their terms are not: they cancel in the sum.

    Severity: info

    When: the terms of a gradient are large, and their sum is near zero.

    Where: the layer. A bias that the layers behind cancel by design is no finding: a normalisation
    subtracts its mean, attention's softmax what all scores have in common.

    Parameters
    ----------
    by_design : bool
        Whether it is such a bias.
    """

    by_design: bool = False

    cause = "cancellation"

    @property
    def only_informs(self) -> bool:
        """On another batch the terms may not cancel; before a normalisation they may by design."""
        return True

    def evidence(self) -> str:
        """A sentence: the terms cancel."""
        return f"The terms of the gradients of {self.layer} are large, but cancel in the sum."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Use a larger or more varied batch."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: on another batch they may not cancel."""
        return Untried("whether terms cancel is a matter of the batch")
