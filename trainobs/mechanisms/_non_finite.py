"""Values that are NaN or infinite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.records import DATA, Place

What = Literal["input", "kernel", "output", "gradient", "kernel gradient"]
#: A layer, what contains them there, and what made it.
_Where = tuple[str, What, Place | None]
_GRADIENTS = ("gradient", "kernel gradient")
_CONTAINING: dict[What, str] = {
    "input": "The data that {} reads contains",
    "kernel": "The kernel of {} contains",
    "output": "The output of {} is the first to contain",
    "gradient": "Going back from the loss, {} is the first to send on",
    "kernel gradient": "The kernel gradient of {} contains",
}


@dataclasses.dataclass(frozen=True)
class NonFinite(Mechanism):
    """Values are NaN or infinite; nothing else is said then.

    Severity: error; warning for gradients of a finite loss in float16: while a loss is scaled too high, its
    steps are skipped, by design

    When: a value is NaN or infinite.

    Where: the first layer, forward, that contains one, else the one that sends the first one back. With a
    model at hand, or a graph that shows it: the operation that made it of finite values, with the line of the
    user's code.

    Parameters
    ----------
    what : {"input", "kernel", "output", "gradient", "kernel gradient"}
        What contains it; of a gradient, the layer sends it on.
    place : Place or None
        The operation that made it.
    scaled : bool
        Whether it may be that the loss is scaled too high for half precision.
    """

    what: What
    place: Place | None = None
    scaled: bool = False

    cause = "non_finite"
    treatments = ("drop broken samples", "re-initialise")
    on_the_way = True
    has_place = False
    alone = True
    rank = 0

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """The first."""
        for layer, what, place in (*_forward(case), *_backward(case))[:1]:
            yield cls(layer, what, place, _may_be_scaled(case) and what in _GRADIENTS)

    @property
    def severity(self) -> str:
        """See the class."""
        return "warning" if self.scaled else "error"

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """At the operation that made it, of what was made in the step."""
        look = case.second_look if self.what in ("output", "gradient", "kernel gradient") else None
        broken = None if look is None else look.broken()
        if broken is None:
            return self
        layer = broken.place.layer
        at = layer if case.knows(layer) else self.layer
        return NonFinite(at, broken.direction, broken.place, self.scaled and broken.direction == "gradient")

    @property
    def ordered_treatments(self) -> tuple[str, ...]:
        """Only samples or a kernel can be mended; what an operation makes of finite values is code."""
        return {"input": ("drop broken samples",), "kernel": ("re-initialise",)}.get(self.what, ())

    def evidence(self) -> str:
        """What contains them, and what made them."""
        contained = f"{_CONTAINING[self.what].format(self.layer)} NaN or infinite values."
        if self.scaled:
            contained += " The loss is finite: scaled for half precision, it skips such a step."
        if self.place is None:
            return contained
        if self.what == "output":
            return f"{contained} {self.place.begins} makes them of finite ones."
        return f"{contained} A finite gradient arrives at {self.place}, and NaN or infinite values go on."

    def advice(self) -> str:
        """What to try first, of an operation to keep it from where it breaks."""
        if self.place is not None and self.what == "gradient":
            return (
                "Keep what this operation reads away from where its derivative is infinite: a small number "
                "under a root, in a logarithm or a divisor, before tf.where chooses, too."
            )
        return "Look at this layer first: its data, its learning rate, logarithms and divisions."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: what NaN would have been is not known."""
        return Untried("no gradient can be compared with NaN")


def _may_be_scaled(case: Case) -> bool:
    """Whether a finite loss is differentiated in float16."""
    half = any(figures.info.dtype == "float16" for figures in case.sites.values())
    return half and math.isfinite(case.statistics.loss)


def _forward(case: Case) -> Iterator[_Where]:
    """Places in the order of the forward pass."""
    for index, node in enumerate(case.flow.records):
        figures = case.flow.site_at(index)
        if figures is not None:
            yield from ((node.layer, what, None) for what in _of_kernel(figures, case.flow.reads_data(index)))
        if node.output.non_finite:
            yield node.layer, "output", node.made_at if _reads_finite(case, index) else None


def _of_kernel(figures: SiteFigures, reads_data: bool) -> Iterator[What]:
    if reads_data and figures.statistics.sums["input_non_finite"]:
        yield "input"
    if not figures.kernel_is_finite:
        yield "kernel"


def _reads_finite(case: Case, node: int) -> bool:
    """Whether all that a node reads is known to be finite, and it has no weights."""
    records, own = case.flow.records, case.flow.records[node]
    read = [records[producer].output for producer in own.producers if producer != DATA]
    known = DATA not in own.producers and all(output.size and not output.non_finite for output in read)
    return known and all(figures.info.layer != own.layer for figures in case.whole_layers.values())


def _backward(case: Case) -> Iterator[_Where]:
    """Places in the order of the backward pass, gradients of values before those of weights.

    What arrives at a node was sent there by one that reads it.
    """
    for index in range(len(case.flow.records))[::-1]:
        if _is_broken(case, index):
            sender = _sender(case, index)
            arrives = case.flow.records[sender].output_gradient is not None and not _is_broken(case, sender)
            yield case.layer_of(sender), "gradient", case.flow.records[sender].made_at if arrives else None
    for figures in reversed(case.sites.values()):
        if not figures.is_finite:
            yield figures.info.layer, "kernel gradient", None


def _is_broken(case: Case, node: int) -> bool:
    gradient = case.flow.records[node].output_gradient
    return gradient is not None and bool(gradient.non_finite)


def _sender(case: Case, node: int) -> int:
    """The node that made a broken gradient of a finite one, of those that read a node; else itself."""
    readers = case.flow.consumers[node]
    finite = [reader for reader in readers if not _is_broken(case, reader)]
    return finite[-1] if finite else node
