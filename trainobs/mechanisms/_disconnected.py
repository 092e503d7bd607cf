"""No path for a gradient."""

from __future__ import annotations

import dataclasses
from typing import Literal

from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class Disconnected(Mechanism):
    """No gradient comes through.

    Severity: error

    When: the tape has no gradient for a trainable weight; or a node without a kernel, whose output is not
    zero, lets none through.

    Where: the layer that lets none through, or the first one behind the gap; where no path leads to the loss,
    the last layer that can be reached.

    Parameters
    ----------
    place : {"unused", "node", "before", "layer"}
        Nothing leads to the loss; the gradient ends at the layer; before it; at it, as the layer behind
        shows.
    reader : str
        That layer behind.
    """

    place: Literal["unused", "node", "before", "layer"]
    reader: str = ""

    cause = "disconnected"
    on_the_way = True

    def evidence(self) -> str:
        """Where the gradient ends."""
        if self.place == "unused":
            return f"No gradient comes to {self.layer}: no differentiable path leads from there to the loss."
        if self.place == "node":
            return f"A gradient arrives at {self.layer}, but none goes on from there."
        if self.place == "before":
            return f"The gradient ends before {self.layer}: what {self.layer} reads was computed without one."
        return f"The gradient ends at {self.layer}: {self.reader} behind it has one, but none comes through."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Remove what has no gradient: stop_gradient, argmax, rounding, casts to integers."
