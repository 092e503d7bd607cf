"""Plain, frozen records of what train steps computed. NumPy arrays, no TensorFlow, no Keras.

| symbol       | field                     | shape (dense; conv has pixels in n)      |
|--------------|---------------------------|------------------------------------------|
| A_{l-1}      | `input`                   | (n, i) what the kernel multiplies        |
| W_l, b_l     | `kernel`, `bias`          | (i, j), (j,)                             |
| Z_l          | `preactivation`           | (n, j) input ∘ kernel + bias             |
| A_l          | `output`                  | (n, j) φ(Z_l)                            |
| S_l          | `slope`                   | (n, j) φ'(Z_l)                           |
| dJ/dA_l      | `output_gradient`         | (n, j) what backprop delivers            |
| dJ/dZ_l      | `preactivation_gradient`  | (n, j)                                   |
| dJ/dW_l      | `kernel_gradient`         | (i, j) before clipping and the optimizer |
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from trainobs.activations import Activation
from trainobs.errors import NotRecorded

if TYPE_CHECKING:
    from trainobs.linear_ops import LinearOp

Array = np.ndarray
#: What stands for the data where a node's producers are listed.
DATA = -1
#: The kind of a node that is no layer: what happens between layers.
OPERATIONS = "Operations"


@dataclasses.dataclass(frozen=True, eq=False)
class SiteRecord:
    """One place where a kernel met an input in one train step.

    All arrays have the layer's own layout (`channels_first` stays so). A gradient is None where
    the backward pass never came by.

    Attributes
    ----------
    layer, kind : str
        The layer's name and class.
    weight : str
        Path of the kernel's variable, such as "sequential/dense/kernel".
    call : int
        0 for a layer's first call in the step; a shared layer has one site per call.
    node, activation_node : int
        Positions in `StepRecord.nodes` of the kernel's layer and of the layer that holds the
        activation (the same one, unless the activation is a layer of its own).
    op : LinearOp
        How kernel and input meet.
    dtype : str
        What the layer computes in: "float32", or "float16" or "bfloat16" under mixed precision.
    activation : Activation
        The function between preactivation and output.
    trainable : bool
        Whether the kernel was among the variables that the step differentiated.
    logits : bool
        The loss read the logits behind a softmax or sigmoid: backprop enters at Z, the slope is 1.
    offset : array of shape (j,) or None
        What is added last before the activation: the bias, or beta of a normalisation that stands
        between kernel and activation.
    normalised : bool
        Whether such a normalisation stands there.
    consumers : tuple of str
        Paths of the kernels that read the output.
    input, kernel, bias, preactivation, output, slope : array
        The forward quantities of the module's legend.
    activation_input : array
        What the activation function was applied to: the preactivation, unless `normalised`.
    output_gradient, preactivation_gradient, kernel_gradient : array or None
        The backward quantities.
    penalty_gradient : array or None
        Gradient of the kernel's own regulariser; part of `kernel_gradient`.
    bases : tuple of str
        Names of the layer's class and those it inherits from.
    role : {"kernel", "recurrent", "bias", "scale", "table"}
        What the weight does: signals pass through kernels and tables, the others modify them.
    part : str
        Which part of the weight this is ("forget gate"); "" for all of it.
    shape : tuple of int
        Shape of the whole weight.
    rows : int array of shape (u,) or None
        Of a table, the rows that were looked up: arrays of the kernel hold only them.
    loss : int
        Which gradient of the step this belongs to, of a step that takes several.
    steps : int
        Time steps of the units' second axis (of pixels, in the first one); 0 without time.
    cancels : bool
        Whether the layers behind are invariant to this weight, by design: a normalisation takes the mean of
        a bias away, attention's softmax what all scores have in common.
    """

    layer: str
    kind: str
    weight: str
    call: int
    node: int
    activation_node: int
    op: LinearOp
    dtype: str
    activation: Activation
    trainable: bool
    logits: bool
    normalised: bool
    consumers: tuple[str, ...]
    input: Array
    kernel: Array
    preactivation: Array
    activation_input: Array
    output: Array
    slope: Array
    bias: Array | None = None
    offset: Array | None = None
    output_gradient: Array | None = None
    preactivation_gradient: Array | None = None
    kernel_gradient: Array | None = None
    penalty_gradient: Array | None = None
    bases: tuple[str, ...] = ()
    role: str = "kernel"
    part: str = ""
    shape: tuple[int, ...] = ()
    rows: Array | None = None
    loss: int = 0
    steps: int = 0
    cancels: bool = False

    @property
    def key(self) -> str:
        """What tells a weight, or a part of one, from the others of the step."""
        return f"{self.weight} ({self.part})" if self.part else self.weight

    @property
    def places(self) -> Array:
        """Of a table: where in `rows` the row of each input stands."""
        assert self.rows is not None
        return np.searchsorted(self.rows, self.input)

    @property
    def units(self) -> int:
        """Number of units: what the kernel has outputs for."""
        return int(self.op.canonical_kernel(self.kernel).shape[-1])

    @property
    def positions(self) -> int:
        """n: batch times output pixels or time steps."""
        return self.preactivation.size // max(self.units, 1)

    def __repr__(self) -> str:
        part = f", part={self.part!r}" if self.part else ""
        return f"SiteRecord({self.weight!r}, call={self.call}, kernel={self.kernel.shape}{part})"


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A gradient that is zero outside of some rows of a table.

    Attributes
    ----------
    rows : int array of shape (u,)
        Their numbers, each once, in order.
    values : array of shape (u, j)
    """

    rows: Array
    values: Array

    @classmethod
    def summed(cls, rows: Array, values: Array) -> Rows:
        """From a list of rows in any order, in which one may stand several times."""
        unique, places = np.unique(rows, return_inverse=True)
        total = np.zeros((unique.size, *values.shape[1:]), np.float32)
        np.add.at(total, places.reshape(-1), values)
        return cls(unique, total)

    def at(self, rows: Array) -> Array:
        """The values of these rows; 0 where there are none."""
        found = np.zeros((rows.size, *self.values.shape[1:]), self.values.dtype)
        places = np.searchsorted(self.rows, rows).clip(max=max(self.rows.size - 1, 0))
        held = self.rows[places] == rows if self.rows.size else np.zeros(rows.size, bool)
        found[held] = self.values[places[held]]
        return found

    def dense(self, shape: tuple[int, ...]) -> Array:
        """The whole gradient."""
        whole = np.zeros(shape, self.values.dtype)
        whole[self.rows] = self.values
        return whole


@dataclasses.dataclass(frozen=True, eq=False)
class WeightRecord:
    """A trainable weight of a layer whose kind is not known: explained with its layer, as a whole.

    Attributes
    ----------
    layer, kind : str
        Name and class of the innermost layer that holds it.
    weight : str
        Path of the variable.
    shape : tuple of int
    nodes : tuple of int
        The calls of that layer, where it has no sublayers.
    trainable : bool
    dtype : str
        What the layer computes in.
    bases : tuple of str
        Names of the layer's class and those it inherits from.
    gradient, penalty_gradient : array or None
        As of a site's kernel.
    """

    layer: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    nodes: tuple[int, ...]
    trainable: bool
    dtype: str
    bases: tuple[str, ...]
    gradient: Array | None
    penalty_gradient: Array | None = None


@dataclasses.dataclass(frozen=True)
class Scalars:
    """Sums over one tensor: enough for its root mean square, zero fraction and health."""

    square_sum: float
    zeros: float
    non_finite: float
    size: float

    @property
    def rms(self) -> float:
        """Root mean square of the elements; nan for an empty tensor."""
        return float(np.sqrt(self.square_sum / self.size)) if self.size else float("nan")

    @property
    def zero_fraction(self) -> float:
        """Fraction of elements that are exactly 0."""
        return self.zeros / self.size if self.size else float("nan")

    def __add__(self, other: Scalars) -> Scalars:
        return Scalars(
            *(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )


def scalars_of(values: Array | None) -> Scalars | None:
    """`sums_of` an array; None for None."""
    return None if values is None else sums_of(values)


def sums_of(values: Array) -> Scalars:
    """The sums over an array, in float64 where float32 would lose squares."""
    flat, size = values.reshape(-1), values.size
    square_sum, non_finite = float(np.dot(flat, flat)) if values.dtype == np.float32 else 0.0, 0
    if not _SAFE_SQUARES[0] < square_sum < _SAFE_SQUARES[1]:  # or float32 lost the squares
        square_sum = float(np.einsum("i,i->", flat, flat, dtype=np.float64))
        non_finite = size - int(np.count_nonzero(np.isfinite(flat)))
    return Scalars(square_sum, float(np.count_nonzero(flat == 0)), float(non_finite), float(size))


#: A sum of squares in this range had none that overflowed, and loses none that count.
_SAFE_SQUARES = (1e-25, 1e30)


@dataclasses.dataclass(frozen=True)
class NodeRecord:
    """One call of a layer without sublayers: a node of the gradient's way back.

    Attributes
    ----------
    layer, kind : str
        The layer's name and class.
    call : int
        0 for the layer's first call in the step.
    loss : int
        Which gradient of the step it belongs to, of a step that takes several.
    stage : str
        Name of the stage, where a call is made of several nodes; "" for its last.
    activation : str
        Name of the activation function that the layer applies, or is; "" without one.
    unread : {"", "unused", "order"}
        Why a recorded step did not read the gradient that comes here, if it did not: nothing that was
        asked for depends on it, or it is a term of a sum that would have been added in another order.
    normalises : bool
        Whether the layer is a normalisation: what it puts out does not depend on the scale of what it reads.
    cuts_gradient : bool
        Whether the layer can stop a gradient by what it does: it rounds, compares, or stops it, or is a
        Lambda, which may do anything.
    producers : tuple of int
        For each input, the node that made it; -1 for data.
    samples : int
        Size of the batch.
    output : Scalars
        Of the values the node put out; of size 0 where no site holds them.
    output_gradient : Scalars or None
        Of dJ/d(output), the sum over all consumers; None where backprop never came by.
    input_gradients : tuple of (Scalars or None)
        Of the gradient this node alone sends to each of its inputs, where it is known.
    """

    layer: str
    kind: str
    call: int
    producers: tuple[int, ...]
    samples: int
    output: Scalars
    output_gradient: Scalars | None
    input_gradients: tuple[Scalars | None, ...]
    loss: int = 0
    stage: str = ""
    activation: str = ""
    unread: str = ""
    normalises: bool = False
    cuts_gradient: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class OutputRecord:
    """Where the loss meets the model: one output leaf.

    Attributes
    ----------
    node : int
        The node that made it; -1 if unknown.
    value : array of shape (n, *p, K)
        The prediction.
    target : array or None
        The y that the step received for it.
    gradient : array or None
        dJ/dy, or dJ/dlogits where the loss read the logits; None if no loss touches this output.
    logits : bool
        Whether `gradient` is that of the logits.
    loss_name : str
        The loss the model was compiled with for this output; "" if it is not known.
    from_logits : bool
        Whether that loss was told to expect logits.
    sample_weight, mask : array or None
        What the loss was weighted with, and which positions count; None if the step did not say.
    """

    node: int
    value: Array
    target: Array | None
    gradient: Array | None
    logits: bool
    loss_name: str = ""
    from_logits: bool = False
    sample_weight: Array | None = None
    mask: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class StepRecord:
    """Everything one train step handed over.

    Attributes
    ----------
    step, epoch : int
        Number of the step since the recorder was made, from 0; the epoch it belongs to.
    loss : float
        The loss of this batch; nan if the model's own step never called `compute_loss`.
    sites : tuple of SiteRecord
        In the order of the forward pass.
    nodes : tuple of NodeRecord
        In the order of the forward pass.
    outputs : tuple of OutputRecord
        The model's outputs.
    weights : tuple of WeightRecord
        The trainable weights that no site explains.
    """

    step: int
    epoch: int
    loss: float
    sites: tuple[SiteRecord, ...]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[OutputRecord, ...]
    weights: tuple[WeightRecord, ...] = ()

    def site(self, name: str) -> SiteRecord:
        """The first site of a layer or weight.

        Raises
        ------
        NotRecorded
            If no recorded site has that name.
        """
        for site in self.sites:
            if name in (site.layer, site.weight):
                return site
        known = ", ".join(dict.fromkeys(s.layer for s in self.sites))
        raise NotRecorded(f"No site named {name!r} in step {self.step}. Recorded layers: {known}.")

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, each counted once."""
        arrays = {
            id(value): value.nbytes
            for record in (*self.sites, *self.outputs, *self.weights)
            for value in vars(record).values()
            if isinstance(value, np.ndarray) and any(value.strides)  # a broadcast number takes no memory
        }
        return sum(arrays.values())
