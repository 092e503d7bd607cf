"""Penalties that win: what a weight learns comes from a penalty, not from the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._healthy import fresh_weights
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import several
from trainobs.records import DATA, Place


@dataclasses.dataclass(frozen=True)
class PenaltyDominates(Mechanism):
    """A penalty sends a far larger gradient than the data does.

    Severity: warning

    When: the gradient of a weight's own penalty (its regulariser) has more than 10 times (`penalty`) the norm
    of the data's, which is not lost for other reasons, and of a healthy one (a* · g* · √T / n of all
    weights); an L2 penalty is taken at He's scale, where the kernel is smaller. Or a kernel has shrunk to
    less than a tenth of that scale (`small_kernel`), where its L2 penalty would be so much larger than a
    healthy one. With a model at hand also where terms of the loss that read the net before its end (a
    divergence, an activity regulariser) are so much larger than those that read its end, at the weights which
    both reach, and than a healthy one; not where an inner tape took gradients.

    Where: the layer of the weight; of such terms, the last layer that they reach, with their line.

    Parameters
    ----------
    weight : str
        Name of the weight.
    penalty, data, healthy : float
        Norms of the penalty's gradient, of the data's, and of a healthy one.
    """

    weight: str
    penalty: float
    data: float
    healthy: float

    cause = "penalty_dominates"
    rank = 34

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Layers with such a weight: the first one of each."""
        told: set[str] = set()
        for figures in case.sites.values():
            info = figures.info
            if info.layer not in told and info.trainable and info.connected and figures.penalty_norm > 0:
                found = HeldSmall.at(case, figures) or PenaltyDominates.at(case, figures)
                if found is not None:
                    told.add(info.layer)
                    yield found

    @classmethod
    def at(cls, case: Case, figures: SiteFigures) -> PenaltyDominates | None:
        """The mechanism at a weight; None if its penalty does not dominate."""
        penalty, data, healthy = figures.penalty_norm, figures.gradient_norm, figures.healthy_norm
        lost = data <= case.near_zero.rtol * healthy  # for reasons of its own
        wins = penalty > case.thresholds.penalty * data
        if lost or not wins or _at_healthy_scale(figures) <= case.thresholds.penalty * healthy:
            return None
        return cls(figures.info.layer, _name(figures), penalty, data, healthy)

    @property
    def severity(self) -> str:
        """A warning: somebody asked for it."""
        return "warning"

    @property
    def value(self) -> float:
        """The penalty's gradient against the data's."""
        return self.penalty / self.data if self.data else math.inf

    def threshold(self, case: Case) -> float:
        """What it may be."""
        return case.thresholds.penalty

    def evidence(self) -> str:
        """Both sizes."""
        return (
            f"The penalty on the {self.weight} of {self.layer} sends it a gradient of norm "
            f"{self.penalty:.2g}, the data one of {self.data:.2g}, where {self.healthy:.2g} would be "
            f"healthy: what it learns is the penalty's."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Make the penalty smaller (of an L2 penalty, 1e-4 is usual), or leave it out."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no gradient is lost."""
        return Untried("it outweighs what the data says, and keeps no gradient near zero")


@dataclasses.dataclass(frozen=True)
class HeldSmall(PenaltyDominates):
    """An L2 penalty has made a kernel small (see `PenaltyDominates`).

    Parameters
    ----------
    rms, healthy_weight : float
        Size of the weights, and He's scale. `penalty` is what it would be there.
    """

    rms: float = 0.0
    healthy_weight: float = 0.0

    cause = "penalty_dominates"

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """None by itself: `PenaltyDominates` asks for it."""
        return iter(())

    @classmethod
    def at(cls, case: Case, figures: SiteFigures) -> HeldSmall | None:
        """The mechanism at a kernel; None if it is not held."""
        rms, healthy_weight, healthy = figures.kernel_rms, figures.healthy_weight, figures.healthy_norm
        if not (case.shrinks(figures) and figures.decays):
            return None
        there = _at_healthy_scale(figures)
        if there <= case.thresholds.penalty * healthy:
            return None
        sizes = there, figures.gradient_norm, healthy
        return cls(figures.info.layer, _name(figures), *sizes, rms, healthy_weight)

    @property
    def value(self) -> float:
        """What the penalty's gradient would be, against a healthy one."""
        return self.penalty / self.healthy if self.healthy else math.inf

    def evidence(self) -> str:
        """How small the kernel is, and what the penalty would be if it were not."""
        return (
            f"An L2 penalty holds the {self.weight} of {self.layer} at an rms of {self.rms:.2g}, where He's "
            f"scale is {self.healthy_weight:.2g}: there its gradient would have a norm of "
            f"{self.penalty:.2g}, where {self.healthy:.2g} is that of a healthy one."
        )

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The kernel is as large as it would be without the penalty."""
        return fresh_weights(case, self.layer, "kernel")


@dataclasses.dataclass(frozen=True)
class InnerTermDominates(PenaltyDominates):
    """Terms of the loss that read the net before its end outweigh the others (see `PenaltyDominates`).

    Parameters
    ----------
    place : Place
        Where the largest of them is computed.
    """

    place: Place = dataclasses.field(default_factory=lambda: Place("", ""))

    cause = "penalty_dominates"

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Where layers of the model add to the loss by themselves."""
        if any(record.adds_loss for record in case.flow.records):
            found = cls.of(case)
            if found is not None:
                yield found

    @classmethod
    def of(cls, case: Case) -> InnerTermDominates | None:
        """The mechanism; None if there is none, or no second look can be had."""
        is_plain = all(record.order == 1 for record in case.flow.records)
        terms = case.second_look.inner_terms() if is_plain and case.second_look is not None else None
        if terms is None:
            return None
        reached = [figures for figures in case.sites.values() if figures.info.weight in terms.sizes]
        if not reached or any(_is_last(case, figures) for figures in reached):
            return None
        own, others = terms.norms()
        healthy = _at_the_end(case) * math.hypot(*(figures.healthy_norm for figures in reached))
        last = max(reached, key=lambda figures: figures.info.node)
        if not own > case.thresholds.penalty * max(others, healthy):
            return None
        layers = dict.fromkeys(figures.info.layer for figures in reached)
        return cls(last.info.layer, several(len(layers), "layer"), own, others, healthy, terms.place)

    def evidence(self) -> str:
        """Both sizes, and where the larger one is from."""
        most = f"most of all {self.place}" if self.place.file else "by add_loss or activity regularisers"
        return (
            f"Terms of the loss that read the net before its end, {most}, send a gradient of norm "
            f"{self.penalty:.2g} into {self.weight} up to {self.layer}; what comes from its end has "
            f"{self.data:.2g} there. So next to nothing is learnt from it."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return (
            "Give this term a smaller weight. If one term is a mean and the other one a sum, over pixels "
            "say, make both the same."
        )


def _at_healthy_scale(figures: SiteFigures) -> float:
    """The norm of the penalty's gradient; of an L2 penalty, as if the kernel were not below He's scale."""
    shrunk = figures.decays and figures.kernel_rms < figures.healthy_weight
    return figures.penalty_norm * (figures.healthy_weight / figures.kernel_rms if shrunk else 1.0)


def _is_last(case: Case, figures: SiteFigures) -> bool:
    """Whether nothing reads what a weight's layer puts out."""
    return not case.flow.consumers[figures.info.activation_node]


def _at_the_end(case: Case) -> float:
    """What the net's end gets of the loss, against the loudest output, which may be an inner one."""
    ends = (output for output in case.statistics.outputs if output.touched and output.node != DATA)
    loudest = max((end.g_out for end in ends if not case.flow.consumers[end.node]), default=case.g_out)
    return loudest / case.g_out if case.g_out else 1.0


def _name(figures: SiteFigures) -> str:
    return figures.info.weight.rsplit("/", 1)[-1]
