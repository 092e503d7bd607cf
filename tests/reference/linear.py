"""How a kernel meets its input, term by term; padding gives no term."""

from dataclasses import dataclass
from itertools import product

import numpy as np


@dataclass(frozen=True)
class DenseProblem:
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
class ConvProblem:
    """A convolution, channels last: kernel (*window, i / groups, j) on an input (batch, *size, i)."""

    strides: int | tuple = 1
    padding: str = "valid"
    dilation: int | tuple = 1
    groups: int = 1

    def axes(self, input_shape, kernel_shape):
        """For each spatial axis (pixels out, padding before, stride, dilation)."""
        size, window = input_shape[1:-1], kernel_shape[:-2]
        strides, dilations = _per_axis(self.strides, len(size)), _per_axis(self.dilation, len(size))
        found = []
        for length, taps, stride, dilation in zip(size, window, strides, dilations, strict=True):
            pixels, before = _pixels_and_padding(self.padding, length, taps, stride, dilation)
            found.append((pixels, before, stride, dilation))
        return found

    def output_shape(self, input_shape, kernel_shape):
        """The shape of the preactivation."""
        pixels = [axis[0] for axis in self.axes(input_shape, kernel_shape)]
        return (input_shape[0], *pixels, kernel_shape[-1])

    def terms(self, input_shape, kernel_shape):
        """Yield (kernel_index, input_index, output_index) for every term."""
        axes = self.axes(input_shape, kernel_shape)
        window, (channels_in, channels_out) = kernel_shape[:-2], kernel_shape[-2:]
        pixels = [axis[0] for axis in axes]
        for sample in range(input_shape[0]):
            for pixel, tap in product(np.ndindex(*pixels), np.ndindex(*window)):
                place = _place(axes, pixel, tap)
                if not _inside(place, input_shape[1:-1]):
                    continue
                for i, j in product(range(channels_in), range(channels_out)):
                    group = j // (channels_out // self.groups)
                    source = group * channels_in + i
                    yield (*tap, i, j), (sample, *place, source), (sample, *pixel, j)


def _per_axis(value, rank):
    """One number for every spatial axis."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _pixels_and_padding(padding, length, taps, stride, dilation):
    """The number of output pixels along one axis, and the padding before the first input element."""
    reach = (taps - 1) * dilation + 1
    if padding == "valid":
        return max((length - reach) // stride + 1, 0), 0
    pixels = -(-length // stride)
    if padding == "causal":
        return pixels, reach - 1
    if padding == "same":
        return pixels, max((pixels - 1) * stride + reach - length, 0) // 2
    raise ValueError(f"unknown padding {padding!r}")


def _place(axes, pixel, tap):
    """Where in the image (or in its padding) a tap of the window at an output pixel lies."""
    place = []
    for (_, before, stride, dilation), p, k in zip(axes, pixel, tap, strict=True):
        place.append(p * stride + k * dilation - before)
    return tuple(place)


def _inside(place, size):
    """Whether a place lies inside the image."""
    return all(0 <= p < length for p, length in zip(place, size, strict=True))


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
