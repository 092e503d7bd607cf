"""How kernels that are no convolution meet their input, term by term: einsum, bias, scale, lookup."""

import math
from dataclasses import dataclass

import numpy as np

from .linear import UnitsLast


@dataclass(frozen=True)
class EinsumProblem:
    """An einsum with explicit letters of its own for every axis, "input,kernel->output".

    Its units are the kernel's letters that the output has too, flattened: first those that the input
    shares, then those of the output alone, each in the kernel's order.
    """

    equation: str

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        lengths = self._lengths(input_shape, kernel_shape)
        return tuple(lengths[letter] for letter in self._letters()[2])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        lengths = self._lengths(input_shape, kernel_shape)
        of_input, of_kernel, of_output = self._letters()
        for values in np.ndindex(*lengths.values()):
            at = dict(zip(lengths, values, strict=True))
            yield tuple(tuple(at[letter] for letter in word) for word in (of_kernel, of_input, of_output))

    def units(self, kernel_shape):
        """The number of units."""
        return math.prod(self._unit_lengths(kernel_shape))

    def unit_of_kernel(self, kernel_index, kernel_shape):
        """To which unit a weight belongs."""
        return self._unit(self._letters()[1], kernel_index, kernel_shape)

    def unit_of_output(self, output_index, kernel_shape):
        """To which unit an element of the preactivation belongs."""
        return self._unit(self._letters()[2], output_index, kernel_shape)

    def _letters(self):
        """The letters of input, kernel and output."""
        operands, of_output = self.equation.split("->")
        words = (*operands.split(","), of_output)
        assert len(words) == 3 and all(len(set(word)) == len(word) and word.isalpha() for word in words)
        return words

    def _lengths(self, input_shape, kernel_shape):
        """letter -> the length of its axis."""
        of_input, of_kernel, _ = self._letters()
        lengths = dict(zip(of_input, input_shape, strict=True))
        for letter, length in zip(of_kernel, kernel_shape, strict=True):
            assert lengths.setdefault(letter, length) == length
        return lengths

    def _unit_letters(self):
        """The letters that count the units."""
        of_input, of_kernel, of_output = self._letters()
        found = [letter for letter in of_kernel if letter in of_output]
        shared = [letter for letter in found if letter in of_input]
        return shared + [letter for letter in found if letter not in of_input]

    def _unit_lengths(self, kernel_shape):
        """The lengths of the axes that count the units."""
        lengths = dict(zip(self._letters()[1], kernel_shape, strict=True))
        return [lengths[letter] for letter in self._unit_letters()]

    def _unit(self, word, index, kernel_shape):
        """The number of the unit at an index with these letters."""
        at = dict(zip(word, index, strict=True))
        return _flat([at[letter] for letter in self._unit_letters()], self._unit_lengths(kernel_shape))


class EveryWeightAUnit:
    """A kernel whose axes lie along some axes of the output, so that an element of it has one weight."""

    def units(self, kernel_shape):
        """The number of units."""
        return math.prod(kernel_shape)

    def unit_of_kernel(self, kernel_index, kernel_shape):
        """To which unit a weight belongs."""
        return _flat(kernel_index, kernel_shape)

    def unit_of_output(self, output_index, kernel_shape):
        """To which unit an element of the preactivation belongs."""
        return _flat(_weight_at(self.axes, output_index, kernel_shape), kernel_shape)


@dataclass(frozen=True)
class BiasProblem(EveryWeightAUnit):
    """A bias along some axes of the output, broadcast along all others.

    The input stands for what it multiplies: ones, of the output's shape without these axes.
    """

    axes: tuple

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        rank, shape = len(input_shape) + len(kernel_shape), list(input_shape)
        for axis, length in sorted(zip(_positive(self.axes, rank), kernel_shape, strict=True)):
            shape.insert(axis, length)
        return tuple(shape)

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        shape = self.output_shape(input_shape, kernel_shape)
        axes = _positive(self.axes, len(shape))
        others = [axis for axis in range(len(shape)) if axis not in axes]
        for at in np.ndindex(*shape):
            yield tuple(at[axis] for axis in axes), tuple(at[axis] for axis in others), at


@dataclass(frozen=True)
class ScaleProblem(EveryWeightAUnit):
    """Every element of the input times its weight; the kernel's axes lie along these axes of the input.

    A kernel axis of length 1 is shared by all elements along it.
    """

    axes: tuple

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        for axis, length in zip(self.axes, kernel_shape, strict=True):
            assert length in (1, input_shape[axis])
        return tuple(input_shape)

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        for at in np.ndindex(*self.output_shape(input_shape, kernel_shape)):
            yield _weight_at(self.axes, at, kernel_shape), at, at


@dataclass(frozen=True, eq=False)
class LookupProblem(UnitsLast):
    """Rows of a table (V, d), one for each integer id, which are given here: terms depend on them.

    The input stands for what a looked-up row is multiplied by: ones, of the shape of the ids.
    """

    ids: np.ndarray

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        assert tuple(input_shape) == np.shape(self.ids)
        return (*input_shape, kernel_shape[-1])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        for at in np.ndindex(*self.output_shape(input_shape, kernel_shape)):
            *position, j = at
            yield (int(self.ids[tuple(position)]), j), tuple(position), at


def _positive(axes, rank):
    """Axes counted from the front."""
    return [axis % rank for axis in axes]


def _weight_at(axes, output_index, kernel_shape):
    """The index of the weight that an element of the output has; 0 along shared axes."""
    return tuple(
        0 if length == 1 else output_index[axis] for axis, length in zip(axes, kernel_shape, strict=True)
    )


def _flat(index, shape):
    """The number of an index in C order."""
    number = 0
    for at, length in zip(index, shape, strict=True):
        number = number * length + at
    return number
