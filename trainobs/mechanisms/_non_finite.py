"""Values that are NaN or infinite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms._mechanism import Mechanism

Place = Literal["input", "kernel", "output", "gradient", "kernel gradient"]
_PLACES: dict[Place, str] = {
    "input": "The data that {} reads contains",
    "kernel": "The kernel of {} contains",
    "output": "The output of {} is the first to contain",
    "gradient": "Going back from the loss, the gradient at {} is the first to contain",
    "kernel gradient": "The kernel gradient of {} contains",
}


@dataclasses.dataclass(frozen=True)
class NonFinite(Mechanism):
    """Values are NaN or infinite; nothing else is said then.

    Severity: error

    When: a value is NaN or infinite.

    Where: the first layer, forward, then backward, that contains one.

    Parameters
    ----------
    place : {"input", "kernel", "output", "gradient", "kernel gradient"}
        What contains it.
    """

    place: Place

    cause = "non_finite"
    treatments = ("drop broken samples", "re-initialise")
    on_the_way = True
    has_place = False
    alone = True
    rank = 0

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """The first place."""
        places = (*_forward(case), *_backward(case))
        yield from (cls(layer, place) for layer, place in places[:1])

    def evidence(self) -> str:
        """What contains them."""
        return f"{_PLACES[self.place].format(self.layer)} NaN or infinite values."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Look at this layer first: its data, its learning rate, logarithms and divisions."


def _forward(case: Case) -> Iterator[tuple[str, Place]]:
    """Places in the order of the forward pass."""
    for index, node in enumerate(case.flow.records):
        figures = case.flow.site_at(index)
        if figures is not None:
            yield from ((node.layer, place) for place in _of_kernel(figures, case.flow.reads_data(index)))
        if node.output.non_finite:
            yield node.layer, "output"


def _of_kernel(figures: SiteFigures, reads_data: bool) -> Iterator[Place]:
    if reads_data and figures.statistics.sums["input_non_finite"]:
        yield "input"
    if not figures.kernel_is_finite:
        yield "kernel"


def _backward(case: Case) -> Iterator[tuple[str, Place]]:
    """Places in the order of the backward pass, gradients of values before those of weights."""
    for node in reversed(case.flow.records):
        if node.output_gradient is not None and node.output_gradient.non_finite:
            yield node.layer, "gradient"
    for figures in reversed(case.sites.values()):
        if not figures.is_finite:
            yield figures.info.layer, "kernel gradient"
