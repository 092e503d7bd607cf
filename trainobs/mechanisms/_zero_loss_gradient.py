"""A loss that sends no gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import LOSS, Case, Edge
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._penalty import InnerTermDominates
from trainobs.records import DATA
from trainobs.statistics import OutputStatistics


@dataclasses.dataclass(frozen=True)
class ZeroLossGradient(Mechanism):
    """The loss sends no gradient into the model, or next to none into one of its outputs.

    Severity: warning; info where no more than 1 % (`converged`) is left of the loss that the best constant
    prediction has: then these samples are learnt

    When: g_out is at most 1e-3 (`NearZero.gradient_floor`); or one of several outputs, or a part of one that
    joins others, gets next to nothing of what the loudest one gets (a `loss_weights` of 0, say).

    Where: the model's output.

    Parameters
    ----------
    g_out : float
        Size of the gradient per position.
    loss : float
        The mean loss; nan if it is not known.
    constant_loss : float
        That of the best constant prediction; nan where targets and loss don't show it.
    left : float
        What is left of it, in parts (see `Fit.left`); nan as well.
    converged : float
        What may be left where training is done.
    is_constant : bool
        Whether all predictions are the same.
    """

    g_out: float
    loss: float
    constant_loss: float = math.nan
    left: float = math.nan
    converged: float = 0.0
    is_constant: bool = False

    cause = "zero_loss_gradient"
    on_the_way = True
    always_harms = True
    rank = 30

    @classmethod
    def at(cls, case: Case, layer: str) -> ZeroLossGradient:
        """The mechanism at a layer, with its numbers."""
        output = _output_of(case, layer)
        bare = cls(layer, case.g_out, case.statistics.loss, converged=case.thresholds.converged)
        if output is None:
            return bare
        bare = dataclasses.replace(bare, is_constant=output.is_constant)
        fit = output.fit
        return (
            bare if fit is None else dataclasses.replace(bare, constant_loss=fit.constant_loss, left=fit.left)
        )

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Models whose loss sends next to no gradient."""
        if case.loss_is_silent:
            yield cls.at(case, case.output_layer())

    @property
    def is_done(self) -> bool:
        """Whether next to nothing is left to learn."""
        return self.left <= self.converged

    @property
    def is_stuck(self) -> bool:
        """Whether the loss is no lower than that of the best constant prediction."""
        return self.left >= 1

    @property
    def severity(self) -> str:
        """A warning: training may be done."""
        return "warning"

    @property
    def only_informs(self) -> bool:
        """Where training is done."""
        return self.is_done

    @property
    def value(self) -> float:
        """g_out."""
        return self.g_out

    def threshold(self, case: Case) -> float:
        """The g_out that is too small."""
        return case.near_zero.gradient_floor

    def evidence(self) -> str:
        """How small the gradient is, and how good the predictions are."""
        now = "" if math.isnan(self.loss) else f" (now {self.loss:.3g})"
        sent = (
            f"The loss{now} sends {self._how_much()} per position into {self.layer}; about 1 is usual for a "
            f"wrong prediction."
        )
        return " ".join([sent, *self._compared()])

    def _how_much(self) -> str:
        if not self.g_out:
            return "no gradient at all"
        return f"a gradient of {'only ' if self.g_out < 0.95 else ''}{self.g_out:.2g}"

    def _compared(self) -> list[str]:
        """What the loss is against that of the best constant prediction."""
        same = ["All predictions are the same."] if self.is_constant and not self.is_done else []
        if math.isnan(self.left):
            return same
        if not self.constant_loss:
            return [
                *same,
                f"The model has {self.left:.2g} times the loss of a prediction that knows nothing.",
            ]
        best = f"the best constant prediction has a loss of {self.constant_loss:.3g}"
        if self.is_stuck:
            return [*same, f"Training is not done: {best}, and the model is no better."]
        return [*same, f"{best[0].upper()}{best[1:]}, of which the model has {self.left:.2g} times as much."]

    def advice(self) -> str:
        """What to try first, depending on how good the predictions are."""
        if self.is_done:
            return "Nothing: these samples are learnt. How good the model is, others have to tell."
        if self.is_stuck:
            return "Check the head: its activation, the loss, and the scale of the targets."
        return "If the loss is as low as it should be, training is done; else check the head."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: there is no other loss."""
        return Untried("a loss that has nothing to say can't be made to")


def _output_of(case: Case, layer: str) -> OutputStatistics | None:
    """The output that a layer makes."""
    outputs = (o for o in case.statistics.outputs if o.node != DATA and case.layer_of(o.node) == layer)
    return next(outputs, None)


@dataclasses.dataclass(frozen=True)
class QuietOutput(Mechanism):
    """An output that gets next to nothing of the loss, while another one does (see `ZeroLossGradient`).

    Parameters
    ----------
    part : float
        Of the gradient that the loudest output gets.
    """

    part: float

    cause = "zero_loss_gradient"
    on_the_way = True

    def __post_init__(self) -> None:
        """Less than the other one."""
        assert 0 <= self.part < 1, self

    @classmethod
    def at(cls, case: Case, node: int) -> QuietOutput:
        """The mechanism at an output, with its number."""
        return cls(case.layer_of(node), 10 ** -case.paths.loss(Edge(LOSS, node)).powers)

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """Terms of the loss that outweigh the others explain why they count next to nothing."""
        return InnerTermDominates.of(case) or self

    @property
    def severity(self) -> str:
        """A warning, as of `ZeroLossGradient`: loss weights are what a user chose."""
        return "warning"

    @property
    def value(self) -> float:
        """The part."""
        return self.part

    def evidence(self) -> str:
        """How small the part is."""
        return f"{self.layer} gets {self._little()} of the gradient that the loss sends to another output."

    def _little(self) -> str:
        return f"only {self.part:.2g}" if self.part else "nothing"

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Check loss_weights: this output's loss counts next to nothing."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: how the loss weights its parts is the user's choice."""
        return Untried("how a loss weights its parts was chosen")


class QuietPart(QuietOutput):
    """A part of an output that joins several gets next to nothing of the loss (see `ZeroLossGradient`)."""

    @classmethod
    def of(cls, case: Case, node: int, powers: float) -> QuietPart | None:
        """The mechanism at a node that one of its inputs gets so much less from; None if it is none.

        A node that the loss alone reads, and that takes nothing of the gradient as a whole, only joins.
        """
        read = any(output.node == node and output.touched for output in case.statistics.outputs)
        joins = math.isclose(case.flow.nodes[node].gain, 1.0, rel_tol=1e-3)
        alone = read and joins and not case.flow.consumers[node]
        return cls(case.layer_of(node), 10**-powers) if alone else None

    def evidence(self) -> str:
        """How small the part is."""
        return (
            f"{self.layer} joins several outputs, and a part of it gets {self._little()} of the gradient "
            f"that the loss sends: it counts next to nothing."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Check how the loss weights the parts of this output."
