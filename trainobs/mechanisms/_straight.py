"""A loss made of derivatives that do not depend on the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.records import Place


@dataclasses.dataclass(frozen=True)
class NoSecondDerivative(Mechanism):
    """A loss is made of second derivatives, and those of all activations are 0 (see `Disconnected`).

    Parameters
    ----------
    activations : tuple of str
        Their names.
    silent : bool
        Whether no other part of the loss sends a gradient.
    place : Place or None
        The line that took the derivative.
    """

    activations: tuple[str, ...]
    silent: bool
    place: Place | None = None

    cause = "disconnected"
    on_the_way = True
    explains_output = True
    rank = 20

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """A loss made of second derivatives, where no activation bends, and it shows."""
        used = [site.info.activation for site in case.kernels if case.flow.records[site.info.node].order > 2]
        if not used or not all(activation.linear or activation.piecewise_linear for activation in used):
            return
        place = None if case.second_look is None else case.second_look.flat_derivative()
        if place is not None or case.loss_is_silent:
            names = dict.fromkeys(activation.name for activation in used if not activation.linear)
            yield cls(case.output_layer(), tuple(names), case.loss_is_silent, place)

    @property
    def severity(self) -> str:
        """A warning where another part of the loss sends a gradient."""
        return "error" if self.silent else "warning"

    def evidence(self) -> str:
        """Which activations, and where the derivative was taken."""
        part = "The loss" if self.silent else "A part of the loss"
        names = ", ".join(self.activations) or "a linear model"
        taken = "" if self.place is None else f" All that comes of {self.place} is 0."
        return (
            f"{part} is made of second derivatives that an inner tape took, and these do not depend on the "
            f"weights: the second derivative of {names} is 0 everywhere.{taken}"
        )

    def advice(self) -> str:
        """The same in all cases."""
        return "Use activations that are smooth: tanh, softplus, silu, a sine."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: another activation would be another loss."""
        return Untried("another activation would make another loss")
