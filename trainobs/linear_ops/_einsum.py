"""Specs that are matrix products once the axes are in order: dense layers, biases, scales.

The letters of an equation fall into four kinds:

| letters                          | meaning                         | canonical axis        |
|----------------------------------|---------------------------------|-----------------------|
| in input and output only         | positions: n, *p                | one each, in front    |
| in input, kernel and output      | groups G                        | merged with i or j    |
| in kernel but not in the output  | inputs i (summed over)          | merged into the input |
| in kernel and output only        | units j                         | merged into the units |
"""

from __future__ import annotations

import dataclasses
import string
from typing import ClassVar

from trainobs.linear_ops._base import LinearOp, Shape, reordered, restored
from trainobs.tensors import Array, tf


@dataclasses.dataclass(frozen=True)
class DenseOp(LinearOp):
    """``Z[n, …, j] = Σ_i input[n, …, i] · kernel[i, j]``."""

    pointwise: ClassVar[bool] = True

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(input, kernel, axes=1)


@dataclasses.dataclass(frozen=True)
class EinsumOp(LinearOp):
    """Any product of an input and a kernel that `tf.einsum` can write, such as "abc,cde->abde".

    Parameters
    ----------
    equation : str
        With one letter per axis, no ellipsis. A kernel axis of size 1 may have a letter of its own.
    groups : int
        Product of the sizes of the letters that input, kernel and output share.
    """

    equation: str
    groups: int = 1
    pointwise: ClassVar[bool] = True

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self.groups == 1:
            return tf.tensordot(input, kernel, axes=1)
        units = kernel.shape[-1] // self.groups
        if kernel.shape[0] == 1:
            return (input if units == 1 else tf.repeat(input, units, axis=-1)) * kernel[0]
        lead = tf.shape(input)[:-1]
        rows = tf.reshape(input, (-1, self.groups, kernel.shape[0]))
        per_group = tf.reshape(kernel, (kernel.shape[0], self.groups, units))
        columns = tf.einsum("ngi,igj->ngj", rows, per_group)
        return tf.reshape(columns, tf.concat([lead, [self.groups * units]], axis=0))

    def ungrouped(self) -> DenseOp:
        return DenseOp()

    def canonical_input(self, array: Array) -> Array:
        return reordered(array, *self._input_axes)

    def canonical_units(self, array: Array) -> Array:
        return reordered(array, *self._unit_axes)

    def canonical_kernel(self, array: Array) -> Array:
        order, inputs = self._kernel_axes
        rows = reordered(array, order, len(order) - inputs)
        return rows.reshape(-1, rows.shape[-1])

    def own_input(self, array: Array, shape: Shape) -> Array:
        return restored(array, self._input_axes[0], shape)

    def own_units(self, array: Array, shape: Shape) -> Array:
        return restored(array, self._unit_axes[0], shape)

    def own_kernel(self, array: Array, shape: Shape) -> Array:
        return restored(array, self._kernel_axes[0], shape)

    def unit_order(self, rank: int) -> tuple[Shape, int]:
        del rank
        return self._unit_axes

    @property
    def units_in_front(self) -> bool:
        order, merged = self._unit_axes
        return len(order) > 2 and order[-merged:] == tuple(range(1, merged + 1))

    @property
    def _letters(self) -> tuple[str, str, str]:
        operands, output = self.equation.split("->")
        input, kernel = operands.split(",")
        return input, kernel, output

    @property
    def _groups(self) -> str:
        input, kernel, output = self._letters
        return "".join(letter for letter in input if letter in kernel and letter in output)

    @property
    def _positions(self) -> str:
        input, kernel, _ = self._letters
        return "".join(letter for letter in input if letter not in kernel)

    @property
    def _summed(self) -> str:
        _, kernel, output = self._letters
        return "".join(letter for letter in kernel if letter not in output)

    @property
    def _input_axes(self) -> tuple[Shape, int]:
        input = self._letters[0]
        merged = self._groups + "".join(letter for letter in self._summed if letter in input)
        return _axes(input, self._positions + merged), len(merged)

    @property
    def _unit_axes(self) -> tuple[Shape, int]:
        input, kernel, output = self._letters
        merged = self._groups + "".join(
            letter for letter in kernel if letter in output and letter not in input
        )
        return _axes(output, self._positions + merged), len(merged)

    @property
    def _kernel_axes(self) -> tuple[Shape, int]:
        input, kernel, output = self._letters
        units = "".join(letter for letter in kernel if letter in output and letter not in input)
        return _axes(kernel, self._summed + self._groups + units), len(self._summed)


def _axes(letters: str, order: str) -> Shape:
    return tuple(letters.index(letter) for letter in order)


@dataclasses.dataclass(frozen=True)
class BiasOp(EinsumOp):
    """``Z = bias``, the same at every position: a kernel whose one input is always 1."""

    constant_input: ClassVar[bool] = True

    def healthy_weight(self, kernel_shape: Shape) -> float:
        return float("nan")


@dataclasses.dataclass(frozen=True)
class ScaleOp(EinsumOp):
    """``Z = scale · input``, element by element along some axes: gamma of a normalisation, PReLU."""

    def healthy_weight(self, kernel_shape: Shape) -> float:
        return float("nan")


def bias_op(rank: int, axes: Shape = (-1,), shared: Shape = ()) -> BiasOp:
    """The spec of a bias along these axes of an array of this rank; of size 1 along the `shared` ones."""
    output, own = _equation(rank, axes)
    shared = tuple(axis % rank for axis in shared)
    letters = "".join(letter.upper() if output.index(letter) in shared else letter for letter in own)
    positions = "".join(letter for letter in output if letter not in letters)
    return BiasOp(f"{positions},{letters}->{output}")


def scale_op(rank: int, axes: Shape, groups: int, shared: Shape = ()) -> ScaleOp:
    """The spec of a scale along these axes, `groups` elements in all; of size 1 along the `shared` ones."""
    output, own = _equation(rank, axes)
    letters = (letter.upper() if axis in shared else letter for axis, letter in zip(axes, own, strict=True))
    return ScaleOp(f"{output},{''.join(letters)}->{output}", groups)


def _equation(rank: int, axes: Shape) -> tuple[str, str]:
    output = string.ascii_lowercase[:rank]
    return output, "".join(output[axis] for axis in axes)
