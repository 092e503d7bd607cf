"""How a kernel meets its input, term by term; padding gives no term."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np


class UnitsLast:
    """The last axis of the kernel and of the output counts the units."""

    def units(self, kernel_shape):
        """The number of units."""
        return kernel_shape[-1]

    def unit_of_kernel(self, kernel_index, kernel_shape):
        """To which unit a weight belongs."""
        return kernel_index[-1]

    def unit_of_output(self, output_index, kernel_shape):
        """To which unit an element of the preactivation belongs."""
        return output_index[-1]


@dataclass(frozen=True)
class DenseProblem(UnitsLast):
    """A dense kernel (i, j) on an input (..., i); every leading axis counts positions."""

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        return (*input_shape[:-1], kernel_shape[-1])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        inputs, units = kernel_shape
        for position in np.ndindex(*input_shape[:-1]):
            for i in range(inputs):
                for j in range(units):
                    yield (i, j), (*position, i), (*position, j)


@dataclass(frozen=True)
class ConvProblem(UnitsLast):
    """A convolution, channels last: kernel (*window, i / groups, j) on an input (batch, *size, i)."""

    strides: int | tuple = 1
    padding: str = "valid"
    dilation: int | tuple = 1
    groups: int = 1

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        pixels = [axis.pixels for axis in _conv_axes(self, input_shape, kernel_shape)]
        return (input_shape[0], *pixels, kernel_shape[-1])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        axes = _conv_axes(self, input_shape, kernel_shape)
        channels_in, channels_out = kernel_shape[-2:]
        for sample, pixel, tap, place in _meetings(axes, input_shape[0], kernel_shape[:-2]):
            for i, j in product(range(channels_in), range(channels_out)):
                group = j // (channels_out // self.groups)
                source = group * channels_in + i
                yield (*tap, i, j), (sample, *place, source), (sample, *pixel, j)


@dataclass(frozen=True)
class DepthwiseConvProblem(UnitsLast):
    """Each channel i has m windows of its own: kernel (*window, i, m), output channel i * multiplier + m."""

    strides: int | tuple = 1
    padding: str = "valid"
    dilation: int | tuple = 1

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        pixels = [axis.pixels for axis in _conv_axes(self, input_shape, kernel_shape)]
        return (input_shape[0], *pixels, self.units(kernel_shape))

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        axes = _conv_axes(self, input_shape, kernel_shape)
        channels, multiplier = kernel_shape[-2:]
        for sample, pixel, tap, place in _meetings(axes, input_shape[0], kernel_shape[:-2]):
            for i, m in product(range(channels), range(multiplier)):
                yield (*tap, i, m), (sample, *place, i), (sample, *pixel, i * multiplier + m)

    def units(self, kernel_shape):
        """The number of units."""
        return kernel_shape[-2] * kernel_shape[-1]

    def unit_of_kernel(self, kernel_index, kernel_shape):
        """To which unit a weight belongs."""
        return kernel_index[-2] * kernel_shape[-1] + kernel_index[-1]


@dataclass(frozen=True)
class ConvTransposeProblem(UnitsLast):
    """A convolution from output to input, read backwards: kernel (*window, j, i) on (batch, *size, i).

    Padding gives no term here either: it is what a window reaches beyond the output.
    """

    strides: int | tuple = 1
    padding: str = "valid"
    output_padding: int | tuple | None = None
    dilation: int | tuple = 1

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        size = [axis.length for axis in self._axes(input_shape, kernel_shape)]
        return (input_shape[0], *size, kernel_shape[-2])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        axes = self._axes(input_shape, kernel_shape)
        units, channels_in = kernel_shape[-2:]
        for sample, pixel, tap, place in _meetings(axes, input_shape[0], kernel_shape[:-2]):
            for i, j in product(range(channels_in), range(units)):
                yield (*tap, j, i), (sample, *pixel, i), (sample, *place, j)

    def units(self, kernel_shape):
        """The number of units."""
        return kernel_shape[-2]

    def unit_of_kernel(self, kernel_index, kernel_shape):
        """To which unit a weight belongs."""
        return kernel_index[-2]

    def _axes(self, input_shape, kernel_shape):
        """The axes of the convolution that is read backwards: its pixels are the input's."""
        size, window = input_shape[1:-1], kernel_shape[:-2]
        options = self.strides, self.dilation, self.output_padding
        options = (_per_axis(option, len(size)) for option in options)
        axes = []
        for pixels, taps, stride, dilation, extra in zip(size, window, *options, strict=True):
            reach = (taps - 1) * dilation + 1
            length = _length_transposed(self.padding, pixels, reach, stride, extra)
            again, before = _pixels_and_padding(self.padding, length, reach, stride)
            assert length == 0 or again == pixels, "TensorFlow refuses this output padding"
            axes.append(Axis(length, pixels, before, stride, dilation))
        return axes


class Axis(NamedTuple):
    """One spatial axis of a convolution: image length, pixels out, padding before, stride and dilation."""

    length: int
    pixels: int
    before: int
    stride: int
    dilation: int


def _conv_axes(op, input_shape, kernel_shape):
    """The axes of a convolution with strides, padding and dilation."""
    size, window = input_shape[1:-1], kernel_shape[:-2]
    options = (_per_axis(option, len(size)) for option in (op.strides, op.dilation))
    axes = []
    for length, taps, stride, dilation in zip(size, window, *options, strict=True):
        pixels, before = _pixels_and_padding(op.padding, length, (taps - 1) * dilation + 1, stride)
        axes.append(Axis(length, pixels, before, stride, dilation))
    return axes


def _meetings(axes, samples, window):
    """Every (sample, pixel, tap, place in the image) where a tap of a pixel's window lies in the image."""
    for sample in range(samples):
        for pixel, tap in product(np.ndindex(*(axis.pixels for axis in axes)), np.ndindex(*window)):
            place = _place(axes, pixel, tap)
            if all(0 <= p < axis.length for p, axis in zip(place, axes, strict=True)):
                yield sample, pixel, tap, place


def _per_axis(value, rank):
    """One number for every spatial axis."""
    return (value,) * rank if value is None or isinstance(value, int) else tuple(value)


def _pixels_and_padding(padding, length, reach, stride):
    """The number of output pixels along one axis, and the padding before the first input element."""
    if padding == "valid":
        return max((length - reach) // stride + 1, 0), 0
    pixels = -(-length // stride)
    if padding == "causal":
        return pixels, reach - 1
    if padding == "same":
        return pixels, max((pixels - 1) * stride + reach - length, 0) // 2
    raise ValueError(f"unknown padding {padding!r}")


def _length_transposed(padding, pixels, reach, stride, extra):
    """The output length of a transposed convolution along one axis, as Keras has it."""
    if padding == "valid":
        return (pixels - 1) * stride + (max(reach, stride) if extra is None else reach + extra)
    if padding == "same":
        return pixels * stride if extra is None else (pixels - 1) * stride + reach % 2 + extra
    raise ValueError(f"unknown padding {padding!r}")


def _place(axes, pixel, tap):
    """Where in the image (or in its padding) a tap of the window at an output pixel lies."""
    return tuple(
        p * axis.stride + k * axis.dilation - axis.before for axis, p, k in zip(axes, pixel, tap, strict=True)
    )


def forward(op, input, kernel):
    """The kernel applied to the input, without bias."""
    input, kernel = np.asarray(input, np.float64), np.asarray(kernel, np.float64)
    output = np.zeros(op.output_shape(input.shape, kernel.shape))
    for kernel_index, input_index, output_index in op.terms(input.shape, kernel.shape):
        output[output_index] += input[input_index] * kernel[kernel_index]
    return output


def weight_sums(op, input, cotangent, kernel_shape):
    """For every weight the sum over its terms of input times cotangent; with dJ/dZ the kernel's gradient."""
    input, cotangent = np.asarray(input, np.float64), np.asarray(cotangent, np.float64)
    sums = np.zeros(kernel_shape)
    for kernel_index, input_index, output_index in op.terms(input.shape, kernel_shape):
        sums[kernel_index] += input[input_index] * cotangent[output_index]
    return sums
