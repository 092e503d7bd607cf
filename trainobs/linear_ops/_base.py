"""What a spec is, and the two VJPs that all of them share.

A layer's arrays have the layer's own layout. A spec brings them to one *canonical* layout, in which
all sums are taken:

| array  | canonical shape   | axes                                                            |
|--------|-------------------|-----------------------------------------------------------------|
| input  | (n, *p, G·i)      | n batch, p pixels or time steps, G groups, i inputs of a group  |
| units  | (n, *q, G·j)      | q output pixels or time steps, j units of a group               |
| kernel | (*k, i, G·j)      | k kernel window                                                 |
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np

from trainobs.tensors import Array, as_array, as_tensor, tf

Shape = tuple[int, ...]
#: What a spec is made of, as JSON has it.
Config = dict[str, str | int | Shape | None]
_SPECS: dict[str, type[LinearOp]] = {}


class LinearOp(abc.ABC):
    """A bilinear map of an input and a kernel.

    Attributes
    ----------
    groups : int
        G: the units of a group read the inputs of that group only.
    constant_input : bool
        Whether every term's input is exactly 1 (a bias, a row that is looked up).
    pointwise : bool
        Whether units read the input of their own position only, by a kernel without a window.
    """

    groups: int = 1
    constant_input: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        _SPECS[cls.__name__] = cls

    @abc.abstractmethod
    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return ``input ∘ kernel``, all arrays canonical."""

    def ungrouped(self) -> LinearOp:
        """The same op with all channels in one group (for inputs of a single channel)."""
        return self

    # ---- the layer's own layout, and back ----------------------------------------------------

    def canonical_input(self, array: Array) -> Array:
        """Bring what the kernel meets to (n, *p, G·i)."""
        return array

    def canonical_units(self, array: Array) -> Array:
        """Bring an array shaped like the preactivation to (n, *q, G·j)."""
        return array

    def canonical_kernel(self, array: Array) -> Array:
        """Bring an array shaped like the weight to (*k, i, G·j)."""
        return array

    def own_input(self, array: Array, shape: Shape) -> Array:
        """Inverse of `canonical_input`; `shape` is the layer's own."""
        del shape
        return array

    def own_units(self, array: Array, shape: Shape) -> Array:
        """Inverse of `canonical_units`; `shape` is the layer's own."""
        del shape
        return array

    def own_kernel(self, array: Array, shape: Shape) -> Array:
        """Inverse of `canonical_kernel`; `shape` is the layer's own."""
        del shape
        return array

    def unit_order(self, rank: int) -> tuple[Shape, int]:
        """Which axes of an array of this rank, in which order, and how many of the last are the units."""
        return tuple(range(rank)), 1

    @property
    def units_in_front(self) -> bool:
        """Whether the units stand before the pixels, right behind the batch."""
        return False

    def healthy_weight(self, kernel_shape: Shape) -> float:
        """w* = √(2/fan_in), He's scale, for a kernel of this canonical shape; nan if it has none."""
        return math.sqrt(2.0 / math.prod(kernel_shape[:-1]))

    def to_config(self) -> Config:
        """Plain values from which `op_from_config` makes an equal spec."""
        return {"op": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]


def op_from_config(config: Config) -> LinearOp:
    """Make the spec that `LinearOp.to_config` described."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "op"}
    return _SPECS[str(config["op"])](**fields)


def weight_vjp(op: LinearOp, input: tf.Tensor, cotangent: tf.Tensor, kernel_shape: Shape) -> tf.Tensor:
    """Sum over the terms of each weight: ``Σ_t input_t · cotangent_t``.

    Parameters
    ----------
    op : LinearOp
        How the kernel meets its input.
    input : tf.Tensor of shape (n, *p, G·i)
        What the kernel multiplies, canonical.
    cotangent : tf.Tensor of shape (n, *q, G·j)
        The gradient that arrives at the preactivation, or any array put in its place.
    kernel_shape : tuple of int
        Canonical shape (*k, i, G·j) of the result.

    Returns
    -------
    tf.Tensor of shape `kernel_shape`

    Notes
    -----
    The map is linear in the kernel, so the kernel it is differentiated at does not matter: zeros.
    """
    kernel = tf.zeros(kernel_shape, cotangent.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(kernel)
        preactivation = op.apply(input, kernel)
    return tf.convert_to_tensor(tape.gradient(preactivation, kernel, cotangent))


def input_vjp(op: LinearOp, kernel: tf.Tensor, cotangent: tf.Tensor, input_shape: Shape) -> tf.Tensor:
    """Backpropagate a cotangent of the preactivation to the input: ``cotangent ∘ᵀ kernel``.

    Parameters
    ----------
    op : LinearOp
        How the kernel meets its input.
    kernel : tf.Tensor of shape (*k, i, G·j)
        The weights, canonical.
    cotangent : tf.Tensor of shape (n, *q, G·j)
        The gradient at the preactivation.
    input_shape : shape (n, *p, G·i)
        Shape of the result.

    Returns
    -------
    tf.Tensor of shape `input_shape`
    """
    input = tf.zeros(input_shape, kernel.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(input)
        preactivation = op.apply(input, kernel)
    return tape.gradient(preactivation, input, cotangent)


def sent_back(op: LinearOp, kernel: Array, cotangent: Array, input_shape: Shape) -> Array:
    """`input_vjp` of arrays in the layer's own layout, in float32.

    Parameters
    ----------
    op : LinearOp
    kernel : array shaped like the weight
    cotangent : array shaped like the preactivation
    input_shape : tuple of int
        The layer's own shape of the input.

    Returns
    -------
    float32 array of shape `input_shape`
    """
    weights, arriving = op.canonical_kernel(kernel), op.canonical_units(cotangent)
    shape = op.canonical_input(np.broadcast_to(np.float32(0), input_shape)).shape
    weights, arriving = (tf.cast(as_tensor(array), tf.float32) for array in (weights, arriving))
    return op.own_input(as_array(input_vjp(op, weights, arriving, shape)), input_shape)


def windows(op: LinearOp, input: tf.Tensor, window: Shape) -> tf.Tensor:
    """Lay out what each position multiplies: the rows of the matrix that a kernel is applied to.

    Parameters
    ----------
    op : LinearOp
        With a single group.
    input : tf.Tensor of shape (n, *p, i)
        Canonical.
    window : tuple of int
        k, the axes of the kernel before its last two.

    Returns
    -------
    tf.Tensor of shape (n, *q, prod(k) · i)
        In the order of a kernel of shape (*k, i, j).
    """
    if op.pointwise:
        return input
    taps, channels, last = math.prod(window), input.shape[-1], len(input.shape) - 1
    apart = tf.reshape(tf.transpose(input, (0, last, *range(1, last))), (-1, *input.shape[1:-1], 1))
    moved = op.apply(apart, tf.reshape(tf.eye(taps, dtype=input.dtype), (*window, 1, taps)))
    pixels = moved.shape[1:-1]
    split = tf.reshape(moved, (-1, channels, *pixels, taps))
    together = tf.transpose(split, (0, *range(2, len(split.shape)), 1))
    return tf.reshape(together, (-1, *pixels, taps * channels))


def reordered(array: Array, order: Shape, merged: int) -> Array:
    """Put axes into this order and make one of the last `merged` ones."""
    sizes = [array.shape[axis] for axis in order]
    lead, rest = sizes[: len(sizes) - merged], sizes[len(sizes) - merged :]
    shape = (*lead, math.prod(rest))
    if tf.is_tensor(array):
        return tf.reshape(tf.transpose(array, order), shape)
    return array.transpose(order).reshape(shape)


def restored(array: Array, order: Shape, shape: Shape) -> Array:
    """Inverse of `reordered` for an array that had this shape."""
    inverse = sorted(range(len(order)), key=lambda axis: order[axis])
    sizes = tuple(shape[axis] for axis in order)
    if tf.is_tensor(array):
        return tf.transpose(tf.reshape(array, sizes), inverse)
    return array.reshape(sizes).transpose(inverse)
