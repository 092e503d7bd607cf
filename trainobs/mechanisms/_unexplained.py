"""Gradients that trainobs can't account for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._disconnected import Disconnected
from trainobs.mechanisms._masked import of_zeros
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._underflow import Underflow
from trainobs.records import Place

_ADVICE = "Look for losses (add_loss) or code that use this kernel outside of its layer."


@dataclasses.dataclass(frozen=True)
class Unexplained(Mechanism):
    """What a weight's gradient is made of is not known.

    Severity: warning; info where it is known what else reads the weight (tied embeddings, say)

    When: the terms of a weight do not add up to its gradient (`residual`), and neither an inner tape (a
    gradient penalty) nor half precision that flushes them is why; or gradients of a layer of unknown kind are
    near zero, though live values and gradients arrive at it; or nothing that was measured on the way from the
    loss to a weight takes the gradient that is missing there; or a trial refutes what it looked
    like.

    Where: the layer, with the residual, or with all that was seen; docs/extending/layer_kind.md makes a kind
    known.

    Parameters
    ----------
    residual : float
        Distance of the terms' sum from the gradient, relative.
    limit : float
        The residual that rounding may leave.
    weight : str
        Path of the weight.
    """

    residual: float
    limit: float
    weight: str

    cause = "unexplained"

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Weights with a residual."""
        for figures in case.sites.values():
            info, residual = figures.info, figures.residual
            limit = case.thresholds.residual_limit(info.dtype, figures.terms)
            if info.trainable and residual > limit and not _is_known(case, figures):
                yield cls(info.layer, residual, limit, info.weight)

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """At what reads the weight besides its layer, if something does."""
        look = case.second_look
        place = None if look is None else look.used_elsewhere(self.weight, self.layer)
        return (
            self
            if place is None
            else UsedElsewhere(self.layer, self.residual, self.limit, self.weight, place)
        )

    @property
    def severity(self) -> str:
        """A warning: nothing is known to be wrong."""
        return "warning"

    @property
    def value(self) -> float:
        """The residual."""
        return self.residual

    def threshold(self, case: Case) -> float:
        """What rounding may leave."""
        return self.limit

    @property
    def _far(self) -> str:
        return f" (relative residual {self.residual:.2g})" if math.isfinite(self.residual) else ""

    def evidence(self) -> str:
        """The residual."""
        return (
            f"The terms of the weights of {self.layer} do not add up to their gradient{self._far}: something "
            f"other than its layer's calls contributes to it."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return _ADVICE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no cause is named."""
        return Untried("no cause is named that could be changed")


@dataclasses.dataclass(frozen=True)
class UsedElsewhere(Unexplained):
    """A weight is read outside of its layer too, so it has terms that are not known (see `Unexplained`).

    Parameters
    ----------
    place : Place
        What reads it.
    """

    place: Place

    cause = "unexplained"

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """None by itself."""
        return iter(())

    @property
    def only_informs(self) -> bool:
        """It is shared on purpose."""
        return True

    def evidence(self) -> str:
        """Who else reads it, and how much that counts."""
        return (
            f"{self.weight} is read by {self.place} too: its gradient has further terms, which are not in "
            f"the figures of {self.layer}{self._far}."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Nothing, if the weight is shared on purpose, as tied embeddings are."


def _is_known(case: Case, figures: SiteFigures) -> bool:
    """Whether it is known why the terms don't add up: an inner tape, or half precision that flushes them."""
    return case.flow.records[figures.info.node].order > 1 or Underflow.holds(case, figures)


@dataclasses.dataclass(frozen=True)
class UnexplainedLayer(Mechanism):
    """A layer of unknown kind has near-zero gradients, and live surroundings (see `Unexplained`)."""

    cause = "unexplained"

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """Where the gradient ends, if it is None or exactly zero."""
        look = None if weight is None else case.second_look
        ending = None if look is None or weight is None else look.ending(weight)
        if ending is None:
            return self
        if ending.kind == "zero" and ending.place is not None:
            return of_zeros(case, self.layer, weight, ending)
        return Disconnected.at(case, self.layer, ending)

    @property
    def severity(self) -> str:
        """See `Unexplained`."""
        return "warning"

    def evidence(self) -> str:
        """What is known."""
        return (
            f"Values and gradients arrive at {self.layer}, but next to none reach its weights: what happens "
            f"inside of a layer of its kind is not known."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return _ADVICE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no cause is named."""
        return Untried("no cause is named that could be changed")


class UnexplainedWay(UnexplainedLayer):
    """Next to no gradient arrives at a layer, and nothing that was measured takes it (see `Unexplained`)."""

    def evidence(self) -> str:
        """What is known."""
        return (
            f"Next to no gradient arrives at the weights of {self.layer}, though nothing that was measured "
            f"between them and the loss takes it."
        )


@dataclasses.dataclass(frozen=True)
class Refuted(Mechanism):
    """What a trial on the batch has refuted, and nothing else was found (see `Unexplained`).

    Parameters
    ----------
    suspected : str
        The cause that it looked like.
    shown : str
        What showed it.
    told : str
        What the trial said.
    """

    suspected: str
    shown: str
    told: str

    cause = "unexplained"

    @property
    def severity(self) -> str:
        """See `Unexplained`."""
        return "warning"

    def evidence(self) -> str:
        """All that is known."""
        return (
            f"What keeps these gradients near zero was not found. It looked like {self.suspected}, which a "
            f"trial on this batch refutes. {self.told} What was seen: {self.shown}"
        )

    def advice(self) -> str:
        """What to look at."""
        return "Look at what was seen, but don't expect the gradients back from mending only that."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no cause is named."""
        return Untried("no cause is named that could be changed")
