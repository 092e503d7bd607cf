"""Specs with a window: convolutions, depthwise and transposed ones, in one to three dimensions."""

from __future__ import annotations

import dataclasses

from trainobs.linear_ops._base import LinearOp, Shape, reordered, restored
from trainobs.tensors import Array, tf

_LAYOUTS = ("NWC", "NHWC", "NDHWC")  # named, because without it Conv3D's gradient fails


@dataclasses.dataclass(frozen=True)
class _WindowOp(LinearOp):
    """What all windows have in common: `data_format` says where a layer keeps its channels."""

    strides: Shape
    padding: str
    dilation: Shape
    groups: int = 1
    data_format: str = "channels_last"

    def canonical_input(self, array: Array) -> Array:
        return array if self.data_format == "channels_last" else _move_axis(array, 1, -1)

    def canonical_units(self, array: Array) -> Array:
        return self.canonical_input(array)

    def own_input(self, array: Array, shape: Shape) -> Array:
        del shape
        return array if self.data_format == "channels_last" else _move_axis(array, -1, 1)

    def own_units(self, array: Array, shape: Shape) -> Array:
        return self.own_input(array, shape)

    def unit_order(self, rank: int) -> tuple[Shape, int]:
        order = tuple(range(rank))
        return ((order if self.data_format == "channels_last" else _move_axis_of(order)), 1)

    @property
    def units_in_front(self) -> bool:
        return self.data_format == "channels_first"

    @property
    def _layout(self) -> str:
        return _LAYOUTS[len(self.strides) - 1]


@dataclasses.dataclass(frozen=True)
class ConvOp(_WindowOp):
    """A 1D, 2D or 3D convolution; ``padding`` may be "valid", "same" or "causal" (1D)."""

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        padding, window = self.padding, tuple(kernel.shape[:-2])
        if max(*window, *self.strides) == self.groups == 1:  # a dense layer at every pixel
            return tf.tensordot(input, tf.reshape(kernel, kernel.shape[-2:]), axes=1)
        if padding == "causal":
            left = self.dilation[0] * (kernel.shape[0] - 1)
            input = tf.pad(input, [[0, 0], [left, 0], [0, 0]])
            padding = "valid"
        kernel, dilation = _one_at_a_time(kernel, self.strides, self.dilation)
        # TensorFlow has no gradient for grouped convolutions on the CPU: one per group instead.
        parts = [
            tf.nn.convolution(
                i, k, self.strides, padding.upper(), data_format=self._layout, dilations=dilation
            )
            for i, k in zip(self._split(input), self._split(kernel), strict=True)
        ]
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)

    def _split(self, array: tf.Tensor) -> list[tf.Tensor]:
        return [array] if self.groups == 1 else tf.split(array, self.groups, axis=-1)

    def ungrouped(self) -> ConvOp:
        return dataclasses.replace(self, groups=1)


@dataclasses.dataclass(frozen=True)
class DepthwiseConvOp(_WindowOp):
    """A convolution of every channel with kernels of its own: as many groups as channels.

    The layer's kernel has the shape (*k, G, j), j the depth multiplier; canonical it is (*k, 1, G·j).
    """

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if len(set(self.strides)) > 1:  # TensorFlow has no such kernel for float64
            return ConvOp(self.strides, self.padding, self.dilation, self.groups).apply(input, kernel)
        window, units = tuple(kernel.shape[:-2]), kernel.shape[-1] // self.groups
        kernel = tf.reshape(kernel, (*window, self.groups, units))
        kernel, dilation = _one_at_a_time(kernel, self.strides, self.dilation)
        strides, one_axis = self.strides, len(window) == 1
        if one_axis:  # TensorFlow has it for images only
            input, kernel = input[:, None], kernel[None]
            strides, dilation = strides * 2, (1, *dilation)
        preactivation = tf.nn.depthwise_conv2d(
            input, kernel, (1, *strides, 1), self.padding.upper(), dilations=dilation
        )
        return tf.squeeze(preactivation, 1) if one_axis else preactivation

    def ungrouped(self) -> ConvOp:
        return ConvOp(self.strides, self.padding, self.dilation)

    def canonical_kernel(self, array: Array) -> Array:
        window = array.shape[:-2]
        return array.reshape(*window, 1, array.shape[-2] * array.shape[-1])

    def own_kernel(self, array: Array, shape: Shape) -> Array:
        return array.reshape(shape)


@dataclasses.dataclass(frozen=True)
class ConvTransposeOp(_WindowOp):
    """The transpose of a convolution, which makes images larger.

    The layer's kernel has the shape (*k, j, i); canonical it is (*k, i, j).
    """

    output_padding: Shape | None = None

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        own = _spread(tf.linalg.matrix_transpose(kernel), self.dilation)  # float64 has no dilated kernel
        spatial = [
            self._size(axis, tf.shape(input)[axis + 1], reach) for axis, reach in enumerate(own.shape[:-2])
        ]
        shape = [tf.shape(input)[0], *spatial, own.shape[-2]]
        return tf.nn.conv_transpose(input, own, shape, self.strides, self.padding.upper(), self._layout)

    def _size(self, axis: int, input: tf.Tensor, reach: int) -> tf.Tensor:
        """Output size along an axis, as Keras has it."""
        stride = self.strides[axis]
        if self.output_padding is None:
            return input * stride + (max(reach - stride, 0) if self.padding == "valid" else 0)
        margin = 0 if self.padding == "valid" else reach // 2
        return (input - 1) * stride + reach - 2 * margin + self.output_padding[axis]

    def canonical_kernel(self, array: Array) -> Array:
        rank = len(array.shape)
        return reordered(array, (*range(rank - 2), rank - 1, rank - 2), 1)

    def own_kernel(self, array: Array, shape: Shape) -> Array:
        rank = len(shape)
        return restored(array, (*range(rank - 2), rank - 1, rank - 2), shape)


def _one_at_a_time(kernel: tf.Tensor, strides: Shape, dilation: Shape) -> tuple[tf.Tensor, Shape]:
    """TensorFlow strides or dilates: for both at once, a kernel with its gaps written out."""
    both = max(strides) > 1 and max(dilation) > 1
    return (_spread(kernel, dilation), (1,) * len(dilation)) if both else (kernel, dilation)


def _spread(kernel: tf.Tensor, dilation: Shape) -> tf.Tensor:
    """The kernel with the zeros written out that a dilated one leaves between its taps."""
    for axis, rate in enumerate(dilation):
        if rate == 1:
            continue
        taps = kernel.shape[axis]
        gaps = [[0, rate - 1] if other == axis + 1 else [0, 0] for other in range(kernel.shape.rank + 1)]
        spread = tf.pad(tf.expand_dims(kernel, axis + 1), gaps)
        shape = [*kernel.shape[:axis], taps * rate, *kernel.shape[axis + 1 :]]
        reach = [slice(None)] * axis + [slice((taps - 1) * rate + 1)]
        kernel = tf.reshape(spread, shape)[tuple(reach)]
    return kernel


def _move_axis_of(order: Shape) -> Shape:
    return (order[0], *order[2:], order[1])


def _move_axis(array: Array, source: int, target: int) -> Array:
    axes = list(range(len(array.shape)))
    axes.insert(target % len(axes), axes.pop(source))
    return tf.transpose(array, axes) if tf.is_tensor(array) else array.transpose(axes)
