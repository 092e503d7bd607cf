"""What trainobs needs to know about a kind of layer: its weights, and what each of them met.

A kind works on the host, after the step: from what a call of the layer received, its weights and
the gradients that arrived, it says for every weight how it met its input. It never runs inside the
user's step, so it can't change it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from types import EllipsisType

import keras
import numpy as np

from trainobs.activations import Activation
from trainobs.linear_ops import LinearOp

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """What became of a preactivation; fields as in `SiteRecord`."""

    activation: Activation
    preactivation: Array
    activation_input: Array
    output: Array
    slope: Array
    output_gradient: Array | None
    preactivation_gradient: Array | None
    logits: bool = False
    normalised: bool = False
    offset: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One weight of a call, or one gate of it: a site in the making.

    Attributes
    ----------
    weight : str
        Its name among the kind's weights.
    op : LinearOp
        How it meets its input.
    input : array
        What it meets, in the layer's own layout.
    units : Units
        What became of it.
    role : {"kernel", "recurrent", "bias", "scale", "table"}
        Signals pass through kernels and tables; the others modify them.
    name : str
        Which part of the weight, "" for all of it.
    index : tuple of slice or int
        Where the part lies in the weight.
    stage : int
        The node it belongs to, of the nodes that the call is made of; -1 for the last.
    steps : int
        Time steps, where the second axis of the units (or, of pixels, the first one) runs over them; 0
        where there is no time.
    read_by : str
        Name of the weight that reads these units, if it is one of this very call.
    rows : array or None
        Of a table: numbers of the rows that were looked up.
    """

    weight: str
    op: LinearOp
    input: Array
    units: Units
    role: str = "kernel"
    name: str = ""
    index: tuple[int | slice | EllipsisType, ...] = ()
    stage: int = -1
    read_by: str = ""
    steps: int = 0
    rows: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One executed call of a layer, as arrays.

    Attributes
    ----------
    layer : keras.layers.Layer
        For its configuration; its variables may have changed since.
    operands, weights : dict of str to array
        What it received, and what its weights were.
    finish : callable
        Given the last preactivation, and what was added last to it, the `Units` of the call.
    output : array or None
        What the layer put out.
    preactivation : array or None
        The last preactivation, where the step handed it over.
    output_gradients : tuple of (array or None)
        What arrived at each of its outputs.
    """

    layer: keras.Layer
    operands: dict[str, Array]
    weights: dict[str, Array | None]
    finish: Callable[[Array, Array | None], Units]
    output: Array | None
    preactivation: Array | None
    output_gradients: tuple[Array | None, ...]

    @property
    def input(self) -> Array:
        """What the layer received first."""
        return self.operands["input"]


class Kind(abc.ABC):
    """A kind of layer.

    Attributes
    ----------
    carries : bool
        Whether signals pass through its weights: kernels do, scales and shifts only modify.
    activates : bool
        Whether the layer's `activation` is what its last preactivation goes through.
    reads_weights : bool
        Whether the values of the weights are needed; of others, those of the output are read.
    """

    carries: bool = True
    activates: bool = False
    reads_weights: bool = True

    @abc.abstractmethod
    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        """The weights by the names that parts use; None for those the layer does without."""

    def knows(self, layer: keras.Layer) -> bool:
        """Whether this very layer is of the kind: some options turn it into something else."""
        return getattr(layer, "quantization_mode", None) is None and (
            not layer.built
            or all(v is None or isinstance(v, keras.Variable) for v in self.variables(layer).values())
        )

    def operands(
        self, layer: keras.Layer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> dict[str, object]:
        """The tensors that have to be handed over, by name; "input" is what the layer received first."""
        del layer
        return {"input": keras.tree.flatten((args, kwargs))[0]}

    def stages_of(self, layer: keras.Layer) -> tuple[str, ...]:
        """Names of the nodes that come before the layer's own, where it is made of several."""
        del layer
        return ()

    @abc.abstractmethod
    def parts(self, call: Call) -> list[Part]:
        """What each weight of the call met."""
