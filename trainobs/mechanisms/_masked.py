"""Positions and layers that are multiplied with zero."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import AllCounted, Counterfactual, LeftOut, Untried
from trainobs.mechanisms._constant_output import ConstantOutput
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import percent
from trainobs.records import DATA, Ending, Place


@dataclasses.dataclass(frozen=True)
class Masked(Mechanism):
    """A layer puts out zeros only, or the loss leaves positions out.

    Severity: error; info if the loss leaves only some positions out

    When: positions of an output have weight 0 in the loss, by sample weights, class weights or a mask: all of
    them, or some. Or a layer without a kernel puts out zeros only (a product with a mask of zeros, a
    normalisation of one element or of equal ones), and signals or gradients are lost by it; or an
    operation in a layer of unknown kind multiplies all gradients with zero.

    Where: the output layer, with the part; or that layer. With a model at hand, or a graph that shows it: the
    operation, with the line of the user's code.

    Parameters
    ----------
    normalises : bool
        Whether it is a normalisation: then groups of one element, or of equal ones, become 0.
    place : Place or None
        The operation that makes the zeros.
    rms : float
        Of what it puts out: 0, or near zero.
    """

    normalises: bool
    place: Place | None = None
    rms: float = 0.0

    cause = "masked"

    @classmethod
    def at(cls, case: Case, node: int) -> Masked:
        """The mechanism at a node."""
        record = case.flow.records[node]
        return cls(case.layer_of(node), record.normalises, record.made_at, record.output.rms)

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """With the operation that makes the zeros."""
        look = case.second_look
        place = None if look is None else look.zeros_from(self.layer)
        return dataclasses.replace(self, place=place or self.place)

    def evidence(self) -> str:
        """What the layer does."""
        levels = " It levels what it normalises: groups of one element, or of equal ones."
        zeros = f"{self.layer} puts out zeros only: neither signal nor gradient passes it."
        if self.rms:
            size = f"rms {self.rms:.2g}"
            zeros = f"{self.layer} puts out next to nothing ({size}): next to no signal passes it."
        made = "" if self.place is None else f" {self.place.begins} makes them."
        return zeros + made + (levels if self.normalises else "")

    def advice(self) -> str:
        """What to try first, depending on what the layer is."""
        if self.normalises:
            return "Normalise over an axis of more than one element, or leave this layer out."
        return "Check the mask, or whatever this layer multiplies with."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The layer hands on what it reads."""
        return LeftOut(self.layer)


@dataclasses.dataclass(frozen=True)
class Silenced(Mechanism):
    """An operation makes exact zeros of a gradient (see `Masked`).

    Parameters
    ----------
    place : Place
        That operation.
    """

    place: Place

    cause = "masked"
    on_the_way = True

    def evidence(self) -> str:
        """Where it happens."""
        return (
            f"A gradient arrives at {self.place}, but only zeros go on from there: it is multiplied with "
            f"zero."
        )

    def advice(self) -> str:
        """The same in all cases."""
        return "Look at this line: a unit that is off at all positions, a mask of zeros, a clipped value."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: an operation inside of a layer can't be changed alone."""
        return Untried("one operation inside of a layer can't be changed alone")


@dataclasses.dataclass(frozen=True)
class WeightlessPositions(Mechanism):
    """The loss gives positions of an output weight 0 (see `Masked`).

    Parameters
    ----------
    part : float
        Of all positions.
    """

    part: float

    cause = "masked"
    explains_output = True
    rank = 20

    def __post_init__(self) -> None:
        """Some, or all."""
        assert 0 < self.part <= 1, self

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Outputs with positions that the loss leaves out."""
        for output in case.statistics.outputs:
            if output.masked_fraction:
                layer = case.layer_of(output.node) if output.node != DATA else "the output"
                kind = cls if output.masked_fraction == 1.0 else SomeWeightlessPositions
                yield kind(layer, output.masked_fraction)

    @property
    def value(self) -> float:
        """The part."""
        return self.part

    def evidence(self) -> str:
        """A sentence with the part."""
        which = "All" if self.part == 1.0 else f"{percent(self.part)} of the"
        return f"{which} positions of {self.layer} have weight 0 in the loss: they send no gradient."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Check the sample weights, class weights or mask that the loss is given."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """All positions count."""
        return AllCounted()


class SomeWeightlessPositions(WeightlessPositions):
    """The loss gives some positions of an output weight 0 (see `Masked`)."""

    explains_output = False
    rank = 85

    @property
    def only_informs(self) -> bool:
        """It may be padding."""
        return True


def of_zeros(case: Case, layer: str, weight: str | None, ending: Ending) -> Mechanism:
    """The operation that makes exact zeros of the gradients of a weight, on the way through a layer.

    It is told at the layer that it is in, if that is not the weight's own: there it is what the weight is
    multiplied with that is zero, and the layer is where that is made.
    """
    assert ending.place is not None
    if ending.constant:
        return ConstantOutput(layer, ending.constant, ending.place)
    own = {figures.info.layer for figures in case.weights.values() if figures.info.weight == weight}
    at = ending.place.layer
    return Silenced(layer if not at or at in own else at, ending.place)


def levels_its_input(case: Case, figures: SiteFigures) -> bool:
    """Whether a normalisation levels live values to near zero: groups of one element, or of equal ones."""
    node = figures.info.node
    if figures.info.role != "scale" or not case.flow.normalises(node):
        return False
    upstream = (site.info for site in case.flow.upstream_sites(node))
    # what it reads is behind an activation that stands before it, else right behind the kernel
    makers = (info.activation_node if info.activation_node < node else info.node for info in upstream)
    live = any(not case.is_near_zero(case.flow.records[maker].output.rms) for maker in makers)
    return live and case.is_near_zero(figures.input_rms)
