"""Where a weight meets an input.

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

if TYPE_CHECKING:
    from trainobs.linear_ops import LinearOp

Array = np.ndarray


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
        Of a table, the rows that were looked up: arrays of the kernel have only them.
    loss : int
        Which gradient of the step this belongs to, of a step that takes several.
    steps : int
        Time steps of the units' second axis (of pixels, in the first one); 0 without time.
    cancels : bool
        Whether the layers behind are invariant to this weight, by design: a normalisation subtracts the
        mean of a bias, attention's softmax what all scores have in common.
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
        """For a table: where in `rows` the row of each input stands."""
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
