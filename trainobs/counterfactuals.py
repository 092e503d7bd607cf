"""What a batch is run again with, to prove a cause: one thing changed at its place, all else as it was.

These objects only say *what* is changed; `capture/intervene` changes it. A mechanism names its own
counterfactual (`Mechanism.counterfactual`), and `diagnosis` compares what comes of it with what is claimed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Untried:
    """Nothing was changed, or nothing can be said of it.

    Parameters
    ----------
    reason : str
        Why, as the end of a sentence: "Not tried: …".
    """

    reason: str


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """One change; `str()` says it as in "with the kernel of hidden drawn afresh"."""


@dataclasses.dataclass(frozen=True)
class StandardisedPreactivation(Counterfactual):
    """What goes into the activation of a layer has zero mean and unit variance, unit by unit, over the batch.

    Parameters
    ----------
    layer : str
        The layer that applies the activation function.
    gates : tuple of str
        Of a recurrent layer, the gates; none for all of a layer.
    """

    layer: str
    gates: tuple[str, ...] = ()

    def __str__(self) -> str:
        gates = f"the {' and the '.join(self.gates)} of " if self.gates else ""
        return f"the preactivation of {gates}{self.layer} standardised"


@dataclasses.dataclass(frozen=True)
class AllStandardised(Counterfactual):
    """The same in several layers at once.

    Parameters
    ----------
    layers : tuple of str
    """

    layers: tuple[str, ...]

    def __str__(self) -> str:
        many = len(self.layers)
        which = (
            ", ".join(self.layers) if many <= 3 else f"{self.layers[0]} … {self.layers[-1]} ({many} layers)"
        )
        return f"the preactivation{'s' if many > 1 else ''} of {which} standardised"


@dataclasses.dataclass(frozen=True)
class FreshWeights(Counterfactual):
    """Weights of a layer are drawn afresh, of a healthy size.

    Parameters
    ----------
    layer : str
    weights : tuple of str
        Their paths.
    rms : float
        Their size: normal numbers of this standard deviation are drawn.
    """

    layer: str
    weights: tuple[str, ...]
    rms: float

    def __str__(self) -> str:
        names = " and ".join(dict.fromkeys(path.rsplit("/", 1)[-1] for path in self.weights))
        return f"the {names} of {self.layer} drawn afresh"


@dataclasses.dataclass(frozen=True)
class Ones(Counterfactual):
    """A weight of a layer that scales is 1.

    Parameters
    ----------
    layer, weight : str
        The layer's name, the weight's path.
    """

    layer: str
    weight: str

    def __str__(self) -> str:
        return f"a {self.weight.rsplit('/', 1)[-1]} of ones in {self.layer}"


@dataclasses.dataclass(frozen=True)
class ScaledInput(Counterfactual):
    """What a layer reads is divided by its root mean square."""

    layer: str

    def __str__(self) -> str:
        return f"the input of {self.layer} divided by its rms"


@dataclasses.dataclass(frozen=True)
class ShiftedInput(Counterfactual):
    """What a layer reads has zero mean, feature by feature."""

    layer: str

    def __str__(self) -> str:
        return f"the input of {self.layer} shifted to zero mean"


@dataclasses.dataclass(frozen=True)
class NoisyInput(Counterfactual):
    """A layer reads noise of unit size instead of what it reads."""

    layer: str

    def __str__(self) -> str:
        return f"unit noise as the input of {self.layer}"


@dataclasses.dataclass(frozen=True)
class LeftOut(Counterfactual):
    """A layer hands on what it reads, as it is."""

    layer: str

    def __str__(self) -> str:
        return f"{self.layer} left out"


@dataclasses.dataclass(frozen=True)
class PassedOn(Counterfactual):
    """A layer sends back a gradient as large as the one that arrives; forward, nothing is changed."""

    layer: str

    def __str__(self) -> str:
        return f"the gradient passed on unshrunk by {self.layer}"


@dataclasses.dataclass(frozen=True)
class SquaredError(Counterfactual):
    """The output layer is linear, and the loss half of the squared distance to the targets."""

    layer: str

    def __str__(self) -> str:
        return f"a linear {self.layer} under a squared error"


@dataclasses.dataclass(frozen=True)
class LogitsRead(Counterfactual):
    """The crossentropy reads what is before the output's activation, as logits."""

    layer: str

    def __str__(self) -> str:
        return f"the loss reading logits of {self.layer}"


@dataclasses.dataclass(frozen=True)
class AllCounted(Counterfactual):
    """No sample and no position has a weight of its own in the loss."""

    def __str__(self) -> str:
        return "all positions counted alike"


@dataclasses.dataclass(frozen=True)
class ScaledLoss(Counterfactual):
    """The loss is multiplied with a number, and the gradients are divided by it again."""

    factor: float = 2.0**15

    def __str__(self) -> str:
        return f"the loss scaled by {self.factor:g}"


@dataclasses.dataclass(frozen=True, eq=False)
class TriedOut:
    """What came of a batch that was run with some changes, or none.

    Attributes
    ----------
    gradients : dict of str to (array or None)
        By path of the weight, without its own penalty; None where no gradient comes.
    outputs : tuple of (float, int)
        For each output that a loss may read: the sum of the squares of dJ/dy, and its number of elements.
    samples : int
        In the batch.
    """

    gradients: dict[str, Array | None]
    outputs: tuple[tuple[float, int], ...]
    samples: int


#: Runs the batch with these changes.
TryOut = Callable[[tuple[Counterfactual, ...]], TriedOut | Untried]
