"""A softmax that puts out the same whatever it reads."""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.records import DATA, SCORES, Constant, Place

_WHY = {
    "single": "is over one element",
    "one left": "is over rows of which a mask leaves one element",
    "none left": "is over rows that a mask covers whole",
}
#: Keras' layers that attend without kernels of their own: what they read last are the keys.
_ATTENDING = ("Attention", "AdditiveAttention")
#: What Keras' other attentions call the layer that makes the keys.
_KEYS = "key"


@dataclasses.dataclass(frozen=True)
class ConstantOutput(Mechanism):
    """A softmax puts out the same whatever it reads, so that no gradient goes back from it.

    Severity: warning: only what it reads is held (queries and keys, say), and what it weights learns

    When: gradients are lost at a softmax over one element (one key, one unit), or over rows of which a mask
    leaves one element or none: the scores are attention's, or of a kernel, or an operation makes them.

    Where: the layer of the softmax, or the attention. With a model at hand: the operation, with the line of
    the user's code.

    Parameters
    ----------
    why : {"single", "one left", "none left"}
        The softmax is over one element; or a mask leaves so many of each row.
    place : Place or None
        The softmax.
    """

    why: Constant
    place: Place | None = None

    cause = "constant_output"
    on_the_way = True

    @classmethod
    def at(cls, case: Case, node: int) -> ConstantOutput | None:
        """The mechanism at attention scores, or a layer that attends, if there is one key."""
        record = case.flow.records[node]
        keys = record.producers[-1:] if record.kind in _ATTENDING else ()
        if record.stage == SCORES:
            keys = tuple(p for p in record.producers if p != DATA and case.layer_of(p) == _KEYS)
        return cls(record.layer, "single") if any(_is_single(case, key) for key in keys) else None

    @classmethod
    def of_units(cls, case: Case, figures: SiteFigures) -> ConstantOutput | None:
        """The mechanism at the softmax behind a kernel, if all that it ever puts out is 1."""
        activation = figures.info.activation
        if "softmax" not in activation.name or activation.elementwise or figures.off_fraction < 1:
            return None
        output = case.flow.records[figures.info.activation_node].output
        return cls(activation.layer, "single") if output.square_sum == output.size else None

    @property
    def severity(self) -> str:
        """See the class."""
        return "warning"

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """With the operation."""
        look = None if weight is None else case.second_look
        ending = None if look is None or weight is None else look.ending(weight)
        if ending is None or not ending.constant:
            return self
        return dataclasses.replace(self, why=ending.constant, place=ending.place)

    def evidence(self) -> str:
        """What it puts out, and whom that holds."""
        softmax = f"The softmax of {self.layer}" if self.place is None else str(self.place)
        return (
            f"{softmax} {_WHY[self.why]}: it puts out the same whatever it reads, so no gradient goes back "
            f"from it. What it weights is not held by that."
        )

    def advice(self) -> str:
        """What to try first: more elements, or no softmax."""
        if self.why == "single":
            return "Attend over more than one element, or leave the softmax, and what only it reads, out."
        return "Check the mask: leave more than one element of each row to attend to."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: there is nothing that could take part."""
        return Untried("a softmax that is constant by what it is over can't be another one")


def _is_single(case: Case, node: int) -> bool:
    """Whether a kernel puts out one element of each sample, with all its units."""
    site = None if node == DATA else case.flow.owner_of(node)
    return site is not None and math.prod(site.info.unit_shape) == site.units
