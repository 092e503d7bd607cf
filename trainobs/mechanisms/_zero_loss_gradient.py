"""A loss that sends no gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import LOSS, Case, Edge
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class ZeroLossGradient(Mechanism):
    """The loss sends no gradient into the model, or next to none into one of its outputs.

    Severity: warning

    When: g_out is at most 1e-3 (`NearZero.gradient_floor`); or one of several outputs gets next to nothing of
    what the loudest one gets (a `loss_weights` of 0, say).

    Where: the model's output.

    Parameters
    ----------
    g_out : float
        Size of the gradient per position.
    loss : float
        The mean loss.
    """

    g_out: float
    loss: float

    cause = "zero_loss_gradient"
    on_the_way = True
    rank = 30

    @classmethod
    def at(cls, case: Case, layer: str) -> ZeroLossGradient:
        """The mechanism at a layer, with its numbers."""
        return cls(layer, case.g_out, case.statistics.loss)

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Models whose loss sends next to no gradient."""
        if case.loss_is_silent:
            yield cls.at(case, case.output_layer())

    @property
    def severity(self) -> str:
        """A warning: training may be done."""
        return "warning"

    @property
    def value(self) -> float:
        """g_out."""
        return self.g_out

    def threshold(self, case: Case) -> float:
        """The g_out that is too small."""
        return case.near_zero.gradient_floor

    def evidence(self) -> str:
        """How small the gradient is."""
        return (
            f"The loss (now {self.loss:.3g}) sends a gradient of only {self.g_out:.2g} per position into "
            f"{self.layer}; about 1 is usual for a wrong prediction."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "If the loss is as low as it should be, training is done; else check the head."


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

    @classmethod
    def at(cls, case: Case, node: int) -> QuietOutput:
        """The mechanism at an output, with its number."""
        return cls(case.layer_of(node), 10 ** -case.paths.loss(Edge(LOSS, node)).powers)

    @property
    def severity(self) -> str:
        """See `ZeroLossGradient`."""
        return "warning"

    @property
    def value(self) -> float:
        """The part."""
        return self.part

    def evidence(self) -> str:
        """How small the part is."""
        return (
            f"{self.layer} gets only {self.part:.2g} of the gradient that the loss sends to another output."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Check loss_weights: this output's loss counts next to nothing."
