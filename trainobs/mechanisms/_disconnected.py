"""No path for a gradient."""

from __future__ import annotations

import dataclasses
from typing import Literal

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._masked import of_zeros
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.records import Ending, Place


@dataclasses.dataclass(frozen=True)
class Disconnected(Mechanism):
    """No gradient comes through.

    Severity: error; warning for weights that no operation of this batch reads, where another part of the
    loss sends gradients, and where only a part of what a node reads gets none

    When: the tape has no gradient for a trainable weight; or a node without a kernel, whose output is not
    zero, lets none through; or the loss is made of second derivatives (of an inner tape), and those of all
    activations are 0.

    Where: the layer that lets none through, or the first one behind the gap; where no path leads to the loss,
    the last layer that can be reached. With a model at hand, or a graph that shows it: the operation, with
    the line of the user's code.

    Parameters
    ----------
    where : {"unused", "node", "before", "layer", "operation", "inside", "unseen", "zeros", "some zeros"}
        Nothing leads to the loss; the gradient ends at the layer; before it; at it, as the layer behind
        shows; at an operation; between the layer's output and its weights; it is not known where the layer
        is called; the layer sends zeros to all that it reads; to a part of it.
    reader : str
        That layer behind.
    place : Place or None
        The operation that lets none through, or the last one that was reached.
    """

    where: Literal[
        "unused", "node", "before", "layer", "operation", "inside", "unseen", "zeros", "some zeros"
    ]
    reader: str = ""
    place: Place | None = None

    cause = "disconnected"
    on_the_way = True
    always_harms = True

    @classmethod
    def at(cls, case: Case, layer: str, ending: Ending) -> Disconnected:
        """Where the gradient of a layer's weight ends."""
        if ending.kind == "never":
            return NeverRead(layer, "unused")
        place = ending.place
        if ending.kind == "unused" or place is None:
            return cls(layer, "unused", place=place)
        return cls(place.layer if case.knows(place.layer) else layer, "operation", place=place)

    @classmethod
    def within(cls, case: Case, node: int) -> Disconnected:
        """At a node that lets none through; at an operation or line of it, where the graph shows which."""
        record = case.flow.records[node]
        place = record.cut_at or record.made_at
        return cls(case.layer_of(node), "node" if place is None else "operation", place=place)

    @classmethod
    def before_the_loss(cls, case: Case, node: int) -> Disconnected:
        """Behind the last node of a way, by what the loss does with the outputs."""
        cuts = {output.cut_at for output in case.statistics.outputs if not output.touched}
        (place,) = cuts if len(cuts) == 1 else (None,)
        return cls(case.layer_of(node), "unused" if place is None else "operation", place=place)

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """At an operation."""
        look = None if weight is None else case.second_look
        ending = None if look is None or weight is None else look.ending(weight)
        if ending is None or (ending.place is None and ending.kind == "zero"):
            return self
        if ending.kind == "zero":
            return of_zeros(case, self.layer, weight, ending)
        return Disconnected.at(case, self.layer, ending)

    @classmethod
    def of_zeros(cls, case: Case, node: int) -> Disconnected:
        """At a node that sends exact zeros to all of what it reads, or to a part."""
        sent = (gradient for gradient in case.flow.records[node].input_gradients if gradient is not None)
        if any(gradient.square_sum > 0 for gradient in sent):
            return cls(case.layer_of(node), "some zeros")
        found = cls.within(case, node)
        return found if found.place is not None else cls(found.layer, "zeros")

    @property
    def severity(self) -> str:
        """See the class."""
        return "warning" if self.where == "some zeros" else "error"

    def evidence(self) -> str:
        """Where the gradient ends."""
        if self.where in ("zeros", "some zeros"):
            to = " to a part of what it reads" if self.where == "some zeros" else ""
            return f"A gradient arrives at {self.layer}, but only zeros go on from there{to}."
        if self.where == "operation":
            return f"The gradient ends at {self.place}: none goes on from there."
        if self.where == "node":
            return f"A gradient arrives at {self.layer}, but none goes on from there."
        if self.where == "before":
            return f"The gradient ends before {self.layer}: what {self.layer} reads was computed without one."
        if self.where == "layer":
            return (
                f"The gradient ends at {self.layer}: {self.reader} behind it has one, but none comes through."
            )
        if self.where == "inside":
            return f"A gradient arrives at {self.layer}, but none at its weights."
        if self.where == "unseen":
            return (
                f"No gradient comes to the weights of {self.layer}: it is not called, or in a branch that no "
                f"sample took, or what is made of them has no gradient."
            )
        return self._without_a_path()

    def _without_a_path(self) -> str:
        ends = f"No gradient comes to {self.layer}: no differentiable path leads from there to the loss."
        if self.place is not None:
            return f"{ends} The last operation on the way is {self.place}."
        return (
            f"{ends} What it puts out was never used by a differentiable operation, as where it becomes a "
            f"NumPy array or a Python float."
        )

    def advice(self) -> str:
        """What to try first: mostly, to remove what has no gradient."""
        if self.where == "unused":
            return (
                "Compute the loss of what the model puts out, by TensorFlow's operations: NumPy arrays, "
                "Python numbers and tf.numpy_function have no gradient."
            )
        if self.where in ("zeros", "some zeros"):
            return "Look for a product with zero, a mask, or a softmax over one element there."
        remove = "Remove what has no gradient: stop_gradient, argmax, rounding, casts to integers."
        return f"Call the layer on the way to the loss. {remove}" if self.where == "unseen" else remove

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: that the tape has no gradient needs no trial."""
        return Untried("the tape itself has no gradient here")


class NeverRead(Disconnected):
    """No operation of this batch reads a weight (see `Disconnected`)."""

    @property
    def severity(self) -> str:
        """A warning: another batch may read it."""
        return "warning"

    def evidence(self) -> str:
        """That it is not read."""
        return (
            f"No operation of this batch reads the weights of {self.layer}: the layer is not called, or is "
            f"in a branch that no sample took."
        )

    def advice(self) -> str:
        """What to look at."""
        return "Call the layer on the way to the loss; of a branch, check what chooses it, and more batches."
