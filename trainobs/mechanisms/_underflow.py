"""Gradients that half precision flushes to zero."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import LOSS, Case, FromTheEnd, SiteFigures, Way
from trainobs.counterfactuals import Counterfactual, ScaledLoss, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import percent

#: Of a way, the kernel at which gradients begin to be flushed; None where they are not.
Beginnings = FromTheEnd[SiteFigures | None]


@dataclasses.dataclass(frozen=True)
class Underflow(Mechanism):
    """Half precision flushes gradients to zero.

    Severity: error

    When: float16 flushed more than half (`flushed`) of a layer's gradients to exactly 0 that float32 would
    not (the flushed fraction of docs/definitions.md).

    Where: the first such layer from the loss, with the part.

    Parameters
    ----------
    flushed : float
        Part of the gradients.
    dtype : str
        What the layer computes in.
    """

    flushed: float
    dtype: str

    cause = "underflow"
    always_harms = True
    treatments = ("loss scaling",)
    rank = 80

    def __post_init__(self) -> None:
        """Something is flushed."""
        assert 0 < self.flushed <= 1, self

    @classmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether most of a weight's gradients were flushed."""
        return figures.flushed_fraction > case.thresholds.flushed

    @classmethod
    def from_loss_to(cls, case: Case, figures: SiteFigures, begins: Beginnings | None = None) -> Underflow:
        """The mechanism at the layer, on the way from the loss to a weight, at which it begins."""
        way, begins = case.paths.to_loss(figures.info.activation_node), begins or cls.beginnings(case)
        first = (way and begins(case.paths.loudest(way))) or figures
        return cls(first.info.layer, first.flushed_fraction, first.info.dtype)

    @classmethod
    def beginnings(cls, case: Case) -> Beginnings:
        """Of ways that are made of edges only: where on them, from the loss on, it begins."""

        def of(way: Way, behind: SiteFigures | None) -> SiteFigures | None:
            site = None if way.piece.end == LOSS else case.flow.site_at(way.piece.end)
            return behind or (site if site is not None and cls.holds(case, site) else None)

        return FromTheEnd(of)

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """The first one from the loss."""
        for figures in reversed(case.sites.values()):
            if figures.info.trainable and cls.holds(case, figures):
                yield cls.from_loss_to(case, figures)
                return

    @property
    def value(self) -> float:
        """The part."""
        return self.flushed

    def threshold(self, case: Case) -> float:
        """The part that is too large."""
        return case.thresholds.flushed

    def evidence(self) -> str:
        """A sentence with the part."""
        of = f"of the gradients of {self.layer} that are not zero in float32"
        return f"{percent(self.flushed)} {of} are exactly 0 in {self.dtype}."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Use loss scaling (keras.optimizers.LossScaleOptimizer), or mixed_bfloat16."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The loss is scaled, and gradients are scaled back."""
        return ScaledLoss()
