"""Layers of the form activation(input ∘ kernel + bias), and those of two such steps."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture.layers._kind import Array, Call, Kind, Part, Units
from trainobs.linear_ops import (
    ConvOp,
    ConvTransposeOp,
    DepthwiseConvOp,
    EinsumOp,
    LinearOp,
    bias_op,
    sent_back,
)
from trainobs.tensors import as_array, as_tensor

IDENTITY = "linear"


class LinearKind(Kind):
    """One kernel, a bias or none, and an activation.

    Parameters
    ----------
    op : callable
        Given the layer and the shape of its input, the spec of its kernel.
    """

    activates = True

    def __init__(self, op: Callable[[keras.Layer, tuple[int, ...]], LinearOp]) -> None:
        self._op = op

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {"kernel": layer.kernel, "bias": layer.bias}

    def operands(
        self, layer: keras.Layer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> dict[str, object]:
        return {"input": dense_float(super().operands(layer, args, kwargs)["input"], layer.compute_dtype)}

    def parts(self, call: Call) -> list[Part]:
        kernel, bias = call.weights["kernel"], call.weights["bias"]
        assert kernel is not None
        op = self._op(call.layer, call.input.shape)
        z = call.preactivation
        if z is None:
            z = preactivation(call.layer, op, call.input, kernel, bias)
        units = call.finish(z, bias)
        return [Part("kernel", op, call.input, units), *_bias_part(call, units)]


class EinsumKind(LinearKind):
    """EinsumDense, as long as its equation is a product of matrices."""

    def __init__(self) -> None:
        super().__init__(einsum_op)

    def knows(self, layer: keras.Layer) -> bool:
        return super().knows(layer) and einsum_is_bilinear(layer.equation)


class SeparableKind(Kind):
    """A depthwise convolution, then one of window 1 that mixes the channels."""

    activates = True

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {
            "depthwise_kernel": layer.depthwise_kernel,
            "pointwise_kernel": layer.pointwise_kernel,
            "bias": layer.bias,
        }

    def stages_of(self, layer: keras.Layer) -> tuple[str, ...]:
        return ("depthwise",)

    def parts(self, call: Call) -> list[Part]:
        layer, x, bias = call.layer, call.input, call.weights["bias"]
        first, second = call.weights["depthwise_kernel"], call.weights["pointwise_kernel"]
        assert first is not None
        assert second is not None
        depthwise = depthwise_op(layer, x.shape)
        ones = (1,) * len(depthwise.strides)
        pointwise = ConvOp(ones, "valid", ones, data_format=layer.data_format)
        between = apply_own(depthwise, x, first)
        units = call.finish(preactivation(layer, pointwise, between, second, bias), bias)
        d = units.preactivation_gradient
        arriving = None if d is None else sent_back(pointwise, second, d, between.shape)
        linear = linear_units(layer.name, between, arriving)
        return [
            Part("depthwise_kernel", depthwise, x, linear, stage=0, read_by="pointwise_kernel"),
            Part("pointwise_kernel", pointwise, between, units),
            *_bias_part(call, units),
        ]


def dense_float(tensor: object, dtype: str) -> tf.Tensor:
    """What a kernel meets: integers as floats, a sparse tensor made dense."""
    dense = (
        tf.sparse.to_dense(tensor) if isinstance(tensor, tf.SparseTensor) else tf.convert_to_tensor(tensor)
    )
    return dense if dense.dtype.is_floating else tf.cast(dense, dtype)


def _bias_part(call: Call, units: Units) -> list[Part]:
    """The bias of a layer, which meets 1 at every position of the units."""
    bias = call.weights["bias"]
    if bias is None:
        return []
    shape = units.preactivation.shape
    axes = bias_axes(call.layer, len(shape), bias.ndim)
    shared = tuple(a for a, size in zip(axes, bias.shape, strict=True) if size != shape[a])
    own = tuple(a for a in axes if a not in shared)
    return [Part("bias", bias_op(len(shape), axes, shared), ones_at(shape, own), units, "bias")]


def bias_axes(layer: keras.Layer, rank: int, many: int) -> tuple[int, ...]:
    """The axes of the preactivation that a bias runs along: the last ones, or the channels."""
    if getattr(layer, "data_format", None) == "channels_first":
        return (1,)
    return tuple(range(rank - many, rank))


def ones_at(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Ones at every position of an array of units; they take no memory."""
    left = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    return np.broadcast_to(np.float32(1), left)


def apply_own(op: LinearOp, input: Array, kernel: Array) -> Array:
    """``input ∘ kernel`` in the layer's own layout."""
    given = as_tensor(op.canonical_input(input))
    return as_array(op.apply(given, tf.cast(as_tensor(op.canonical_kernel(kernel)), given.dtype)))


def preactivation(layer: keras.Layer, op: LinearOp, input: Array, kernel: Array, bias: Array | None) -> Array:
    """Z = input ∘ kernel + bias, in the layer's own layout."""
    z = apply_own(op, input, kernel)
    z = op.own_units(z, _own_shape(layer, op, input, kernel, z))
    if bias is None:
        return z
    shape = [1] * z.ndim
    for axis, size in zip(bias_axes(layer, z.ndim, bias.ndim), bias.shape, strict=True):
        shape[axis] = size
    return np.asarray(z + bias.astype(z.dtype).reshape(shape), z.dtype)


def _own_shape(layer: keras.Layer, op: LinearOp, input: Array, kernel: Array, z: Array) -> tuple[int, ...]:
    if not isinstance(op, EinsumOp):
        return z.shape
    operands, output = op.equation.split("->")
    sizes = dict(zip(operands.replace(",", ""), (*input.shape, *kernel.shape), strict=True))
    return tuple(sizes[letter] for letter in output)


def linear_units(layer: str, z: Array, arriving: Array | None) -> Units:
    """Units without an activation function."""
    activation = Activation(IDENTITY, layer, (1.0,))
    return Units(activation, z, z, z, np.broadcast_to(np.ones((), z.dtype), z.shape), arriving, arriving)


# ---- specs from the configuration of layers ------------------------------------------------------


def conv_op(layer: keras.Layer, shape: tuple[int, ...]) -> ConvOp:
    """The spec of a convolution."""
    del shape
    return ConvOp(
        strides=tuple(layer.strides),
        padding=layer.padding,
        dilation=tuple(layer.dilation_rate),
        groups=layer.groups,
        data_format=layer.data_format,
    )


def depthwise_op(layer: keras.Layer, shape: tuple[int, ...]) -> DepthwiseConvOp:
    """The spec of a depthwise convolution."""
    strides, dilation = layer.strides, layer.dilation_rate
    rank = len(shape) - 2
    return DepthwiseConvOp(
        strides=(strides,) * rank if isinstance(strides, int) else tuple(strides),
        padding=layer.padding,
        dilation=(dilation,) * rank if isinstance(dilation, int) else tuple(dilation),
        groups=shape[1 if layer.data_format == "channels_first" else -1],
        data_format=layer.data_format,
    )


def transpose_op(layer: keras.Layer, shape: tuple[int, ...]) -> ConvTransposeOp:
    """The spec of a transposed convolution."""
    rank, padding = len(shape) - 2, layer.output_padding
    return ConvTransposeOp(
        strides=tuple(layer.strides),
        padding=layer.padding,
        dilation=tuple(layer.dilation_rate),
        data_format=layer.data_format,
        output_padding=(padding,) * rank if isinstance(padding, int) else padding and tuple(padding),
    )


def einsum_op(layer: keras.Layer, shape: tuple[int, ...]) -> EinsumOp:
    """The spec of an EinsumDense, with a letter for each axis behind its ellipsis."""
    operands, output = layer.equation.replace(" ", "").split("->")
    input, kernel = operands.split(",")
    spare = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in layer.equation]
    hidden = "".join(spare[: len(shape) - len(input.replace("...", ""))])
    input, output = input.replace("...", hidden), output.replace("...", hidden)
    sizes = dict(zip(input, shape, strict=True))
    groups = int(np.prod([sizes[letter] for letter in input if letter in kernel and letter in output]))
    return EinsumOp(f"{input},{kernel}->{output}", groups)


def einsum_is_bilinear(equation: str) -> bool:
    """Whether every letter of an EinsumDense stands where a spec can put it."""
    operands, output = equation.replace(" ", "").replace("...", "").split("->")
    input, kernel = operands.split(",")
    known = all(letter in output or letter in kernel for letter in input)
    reached = all(letter in input or letter in output for letter in kernel)
    return known and reached and all(letter in input + kernel for letter in output)
