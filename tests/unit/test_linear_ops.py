"""The specs of how kernels meet inputs, against Keras' layers and the oracle's loops over terms."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.reference.layers import BiasProblem, EinsumProblem, LookupProblem, ScaleProblem
from tests.reference.linear import (
    ConvProblem,
    ConvTransposeProblem,
    DenseProblem,
    DepthwiseConvProblem,
    forward,
    weight_sums,
)
from trainobs.linear_ops import (
    ConvOp,
    ConvTransposeOp,
    DenseOp,
    DepthwiseConvOp,
    EinsumOp,
    LinearOp,
    LookupOp,
    bias_op,
    input_vjp,
    op_from_config,
    scale_op,
    weight_vjp,
)

# id: (Keras layer and its options, shape of the input in the layer's own layout)
CASES: dict[str, tuple] = {
    "dense": (layers.Dense, {}, (5, 3)),
    "dense on time steps": (layers.Dense, {}, (2, 4, 3)),
    "conv1d": (layers.Conv1D, {"kernel_size": 3}, (2, 6, 3)),
    "conv1d same": (layers.Conv1D, {"kernel_size": 3, "padding": "same"}, (2, 5, 3)),
    "conv1d same even window": (layers.Conv1D, {"kernel_size": 4, "padding": "same"}, (2, 5, 3)),
    "conv1d same strided": (layers.Conv1D, {"kernel_size": 3, "padding": "same", "strides": 2}, (2, 6, 3)),
    "conv1d causal": (layers.Conv1D, {"kernel_size": 3, "padding": "causal"}, (2, 5, 3)),
    "conv1d causal dilated": (
        layers.Conv1D, {"kernel_size": 2, "padding": "causal", "dilation_rate": 3}, (2, 7, 3),
    ),
    "conv1d causal strided": (
        layers.Conv1D, {"kernel_size": 3, "padding": "causal", "strides": 2}, (2, 6, 3),
    ),
    "conv1d window beyond the image": (layers.Conv1D, {"kernel_size": 5, "padding": "same"}, (2, 2, 3)),
    "conv1d grouped": (layers.Conv1D, {"kernel_size": 3, "groups": 2, "padding": "same"}, (2, 5, 4)),
    "conv1d channels first": (
        layers.Conv1D, {"kernel_size": 3, "data_format": "channels_first", "padding": "same"}, (2, 3, 5),
    ),
    "conv2d": (layers.Conv2D, {"kernel_size": (3, 2)}, (2, 5, 4, 2)),
    "conv2d same strided": (
        layers.Conv2D, {"kernel_size": 3, "padding": "same", "strides": (2, 1)}, (2, 5, 4, 2),
    ),
    "conv2d same dilated": (
        layers.Conv2D, {"kernel_size": 2, "padding": "same", "dilation_rate": (1, 2)}, (2, 4, 5, 2),
    ),
    "conv2d grouped": (layers.Conv2D, {"kernel_size": 2, "groups": 2, "strides": 2}, (2, 4, 5, 4)),
    "conv2d channels first": (
        layers.Conv2D, {"kernel_size": 3, "data_format": "channels_first", "padding": "same"}, (2, 2, 4, 5),
    ),
    "conv2d channels first grouped": (
        layers.Conv2D, {"kernel_size": 2, "data_format": "channels_first", "groups": 2}, (2, 4, 4, 3),
    ),
    "conv3d": (layers.Conv3D, {"kernel_size": 2}, (2, 3, 4, 3, 2)),
    "conv3d same strided": (
        layers.Conv3D, {"kernel_size": 2, "padding": "same", "strides": (2, 1, 2)}, (2, 3, 3, 4, 2),
    ),
    "conv3d grouped dilated": (
        layers.Conv3D, {"kernel_size": 2, "groups": 2, "dilation_rate": (1, 2, 1)}, (1, 3, 4, 3, 4),
    ),
}  # fmt: skip

every_layer = pytest.mark.parametrize("name", CASES)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A spec of the product, the problem of the oracle that it is, and the layer's own shapes."""

    op: LinearOp
    problem: Any
    input_shape: tuple
    kernel_shape: tuple
    #: Whether channels come first; the oracle has them last.
    first: bool = False

    def normal(self, shape: tuple, seed: int) -> np.ndarray:
        """Random numbers, the same every time."""
        return np.random.default_rng(seed).normal(size=shape)

    def of_oracle(self, array: np.ndarray) -> np.ndarray:
        """An array of pixels as the oracle has it."""
        return np.moveaxis(array, 1, -1) if self.first else array

    def of_layer(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `of_oracle`."""
        return np.moveaxis(array, -1, 1) if self.first else array

    @property
    def input(self) -> np.ndarray:
        """What the kernel meets, in the layer's own layout."""
        if isinstance(self.op, LookupOp):
            return self.problem.ids
        return np.ones(self.input_shape) if self.op.constant_input else self.normal(self.input_shape, 0)

    @property
    def met(self) -> np.ndarray:
        """What the kernel meets, as the oracle has it."""
        return np.ones(self.input_shape) if isinstance(self.op, LookupOp) else self.of_oracle(self.input)

    @property
    def kernel(self) -> np.ndarray:
        """Random weights, in the layer's own layout."""
        return self.normal(self.kernel_shape, 1)

    @property
    def output_shape(self) -> tuple:
        """Of the preactivation, in the layer's own layout."""
        shape = self.problem.output_shape(self.met.shape, self.kernel_shape)
        return self.of_layer(np.broadcast_to(0, shape)).shape

    @property
    def cotangent(self) -> np.ndarray:
        """Something that arrives at the preactivation, in the layer's own layout."""
        return self.normal(self.output_shape, 2)

    def vjp(self, input: np.ndarray, cotangent: np.ndarray, dtype: str = "float64") -> np.ndarray:
        """`weight_vjp` of arrays in the layer's own layout, and its result in that of the kernel."""
        op = self.op
        a, c = (tf.constant(array) for array in (op.canonical_input(input), op.canonical_units(cotangent)))
        a = a if isinstance(op, LookupOp) else tf.cast(a, dtype)
        shape = op.canonical_kernel(self.kernel).shape
        return op.own_kernel(weight_vjp(op, a, tf.cast(c, dtype), shape).numpy(), self.kernel_shape)

    def sums(self, met: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """The same by the oracle's loops."""
        return weight_sums(self.problem, met, self.of_oracle(cotangent), self.kernel_shape)


def window(kind: type, problem: type, input: tuple, kernel: tuple, *, first: bool = False, **options) -> Spec:
    """A spec with a window; stride and dilation are one number for each pixel axis."""
    rank = len(input) - 2
    given = {"strides": (1,) * rank, "padding": "valid", "dilation": (1,) * rank} | options
    layout = {"data_format": "channels_first"} if first else {}
    groups = {"groups": kernel[-2]} if kind is DepthwiseConvOp else {}
    return Spec(kind(**given, **groups, **layout), problem(**given), input, kernel, first)


depthwise = functools.partial(window, DepthwiseConvOp, DepthwiseConvProblem)
transposed = functools.partial(window, ConvTransposeOp, ConvTransposeProblem)


def einsum(equation: str, input: tuple, kernel: tuple, groups: int = 1) -> Spec:
    """An EinsumDense."""
    return Spec(EinsumOp(equation, groups), EinsumProblem(equation), input, kernel)


def bias(output: tuple, axes: tuple, shared: tuple = ()) -> Spec:
    """A bias along these axes of the output, of length 1 along the shared ones."""
    rank, own = len(output), tuple(axis for axis in axes if axis not in shared)
    kernel = tuple(1 if axis in shared else output[axis] for axis in axes)
    if not shared:
        return Spec(bias_op(rank, axes), BiasProblem(axes), tuple(np.delete(output, axes)), kernel)
    return Spec(bias_op(rank, axes, shared), _SharedBias(axes, own), tuple(np.delete(output, own)), kernel)


@dataclasses.dataclass(frozen=True)
class _SharedBias(ScaleProblem):
    """A bias with axes of length 1: a scale of ones, which are given without the axes it runs along."""

    own: tuple = ()

    def output_shape(self, input_shape: tuple, kernel_shape: tuple) -> tuple:
        """Of the preactivation."""
        shape = list(input_shape)
        for axis, length in zip(self.axes, kernel_shape, strict=True):
            if axis in self.own:
                shape.insert(axis, length)
        return tuple(shape)

    def terms(self, input_shape: tuple, kernel_shape: tuple) -> Iterator[tuple]:
        """(kernel_index, input_index, output_index) of every term."""
        whole = self.output_shape(input_shape, kernel_shape)
        for kernel_index, _, to in ScaleProblem(self.axes).terms(whole, kernel_shape):
            yield kernel_index, tuple(at for axis, at in enumerate(to) if axis not in self.own), to


def scale(output: tuple, axes: tuple, shared: tuple = ()) -> Spec:
    """A scale along these axes."""
    kernel = tuple(1 if axis in shared else output[axis] for axis in axes)
    op = scale_op(len(output), axes, int(np.prod(kernel)), shared)
    return Spec(op, ScaleProblem(axes), output, kernel)


def lookup(ids: object, rows: int) -> Spec:
    """The table of an embedding of width 2."""
    array = np.array(ids)
    return Spec(LookupOp(rows), LookupProblem(array), array.shape, (rows, 2))


def of_layer(name: str) -> Spec:
    """The spec of one of the Keras layers in `CASES`."""
    kind, options, shape = CASES[name]
    layer = kind(4, **options)
    layer.build(shape)
    op, problem = _specs(layer)
    first = getattr(layer, "data_format", "") == "channels_first"
    return Spec(op, problem, shape, tuple(layer.kernel.shape), first)


SPECS: dict[str, Callable[[], Spec]] = {
    **{name: functools.partial(of_layer, name) for name in CASES},
    "conv1d strided and dilated": lambda: window(
        ConvOp, ConvProblem, (2, 9, 2), (3, 2, 4), strides=(2,), dilation=(2,)
    ),
    "conv2d same strided and dilated": lambda: window(
        ConvOp, ConvProblem, (1, 7, 6, 2), (2, 3, 2, 3), strides=(2, 1), dilation=(1, 2), padding="same"
    ),
    "depthwise 1d": lambda: depthwise((2, 5, 3), (3, 3, 1)),
    "depthwise 1d multiplied": lambda: depthwise((2, 5, 3), (3, 3, 2), padding="same"),
    "depthwise 1d strided and dilated": lambda: depthwise((2, 9, 2), (3, 2, 2), strides=(2,), dilation=(2,)),
    "depthwise 1d same strided and dilated": lambda: depthwise(
        (2, 8, 2), (3, 2, 2), strides=(3,), dilation=(2,), padding="same"
    ),
    "depthwise 1d channels first": lambda: depthwise((2, 3, 5), (3, 3, 2), first=True, strides=(2,)),
    "depthwise 2d": lambda: depthwise((1, 4, 5, 2), (2, 3, 2, 1)),
    "depthwise 2d same strided": lambda: depthwise(
        (1, 5, 4, 2), (3, 2, 2, 2), strides=(2, 2), padding="same"
    ),
    "depthwise 2d unequal strides": lambda: depthwise((1, 6, 5, 2), (3, 2, 2, 2), strides=(2, 1)),
    "depthwise 2d dilated": lambda: depthwise((1, 5, 6, 2), (2, 2, 2, 2), dilation=(2, 3)),
    "depthwise 2d strided and dilated": lambda: depthwise(
        (1, 8, 7, 2), (2, 3, 2, 2), strides=(2, 2), dilation=(3, 2)
    ),
    "depthwise 2d same strided and dilated": lambda: depthwise(
        (1, 8, 7, 2), (3, 2, 2, 2), strides=(2, 2), dilation=(2, 2), padding="same"
    ),
    "depthwise 2d channels first": lambda: depthwise((1, 3, 4, 5), (2, 3, 3, 2), first=True),
    "transposed 1d": lambda: transposed((2, 3, 2), (3, 4, 2)),
    "transposed 1d strided": lambda: transposed((2, 3, 2), (3, 4, 2), strides=(2,)),
    "transposed 1d stride beyond the window": lambda: transposed((2, 3, 2), (2, 4, 2), strides=(3,)),
    "transposed 1d same strided": lambda: transposed((2, 3, 2), (3, 4, 2), strides=(2,), padding="same"),
    "transposed 1d output padding": lambda: transposed(
        (2, 3, 2), (2, 4, 2), strides=(3,), output_padding=(2,)
    ),
    "transposed 1d dilated": lambda: transposed((2, 3, 2), (2, 4, 2), dilation=(2,)),
    "transposed 1d channels first": lambda: transposed((2, 2, 3), (3, 4, 2), first=True, strides=(2,)),
    "transposed 2d": lambda: transposed((1, 2, 3, 2), (2, 3, 4, 2), strides=(1, 2)),
    "transposed 2d same": lambda: transposed((1, 2, 3, 2), (3, 3, 4, 2), strides=(2, 1), padding="same"),
    "transposed 2d same output padding": lambda: transposed(
        (1, 2, 3, 2), (2, 3, 4, 2), strides=(2, 3), padding="same", output_padding=(1, 2)
    ),
    "transposed 2d dilated": lambda: transposed((1, 2, 3, 2), (2, 2, 4, 2), dilation=(1, 2), padding="same"),
    "transposed 3d": lambda: transposed((1, 2, 2, 1, 2), (2, 1, 2, 3, 2), strides=(1, 2, 2)),
    "transposed 3d same": lambda: transposed(
        (1, 2, 1, 2, 2), (2, 2, 2, 3, 2), strides=(2, 2, 2), padding="same", output_padding=(1, 1, 1)
    ),
    "einsum dense": lambda: einsum("ab,bc->ac", (3, 2), (2, 4)),
    "einsum of two unit axes": lambda: einsum("abc,cde->abde", (2, 3, 2), (2, 2, 3)),
    "einsum of two summed axes": lambda: einsum("abde,dec->abc", (2, 2, 3, 2), (3, 2, 4)),
    "einsum with a kernel per step": lambda: einsum("abc,bcd->abd", (3, 2, 3), (2, 3, 2), 2),
    "einsum with units in front": lambda: einsum("abc,dbc->adb", (2, 2, 3), (4, 2, 3), 2),
    "einsum with the kernel turned round": lambda: einsum("abc,dc->adb", (2, 3, 2), (4, 2)),
    "einsum with positions between units": lambda: einsum("abc,cde->adbe", (2, 3, 2), (2, 2, 3)),
    "einsum that scales": lambda: einsum("abc,c->abc", (2, 3, 4), (4,), 4),
    "einsum that scales to several": lambda: einsum("abc,cd->abcd", (2, 3, 4), (4, 2), 4),
    "bias": lambda: bias((2, 3, 4), (2,)),
    "bias channels first": lambda: bias((2, 3, 4, 2), (1,)),
    "bias of two axes": lambda: bias((2, 3, 4), (1, 2)),
    "bias of length 1 along an axis": lambda: bias((2, 3, 4, 2), (1, 2, 3), (2,)),
    "bias of length 1 along the last axis": lambda: bias((2, 3, 4, 2), (1, 2, 3), (2, 3)),
    "scale": lambda: scale((2, 3, 4), (2,)),
    "scale along the first axis": lambda: scale((2, 3, 4), (1,)),
    "scale along two axes": lambda: scale((2, 3, 4), (1, 2)),
    "scale shared": lambda: scale((2, 3, 4, 2), (1, 2, 3), (1, 2)),
    "lookup": lambda: lookup([2, 0, 2, 3], 5),
    "lookup of steps": lambda: lookup([[1, 0, 1], [2, 1, 1]], 4),
}

every_spec = pytest.mark.parametrize("name", SPECS)


def _specs(layer: layers.Layer) -> tuple:
    if isinstance(layer, layers.Dense):
        return DenseOp(), DenseProblem()
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    return (
        ConvOp(strides, layer.padding, dilation, layer.groups, layer.data_format),
        ConvProblem(strides, layer.padding, dilation, layer.groups),
    )


@every_layer
def test_apply_equals_the_keras_layer(name):
    """A spec maps input and kernel as the layer it stands for does."""
    kind, options, shape = CASES[name]
    layer = kind(4, use_bias=False, **options)
    received = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    returned, (op, _) = layer(received).numpy(), _specs(layer)
    found = op.apply(tf.constant(op.canonical_input(received)), op.canonical_kernel(layer.kernel.numpy()))
    np.testing.assert_allclose(op.own_units(found.numpy(), returned.shape), returned, rtol=1e-4, atol=1e-5)


@every_spec
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_apply_equals_the_oracle(name, dtype):
    """A spec maps input and kernel as the oracle's loops over terms do, in either precision."""
    spec = SPECS[name]()
    op, rounding = spec.op, {"float32": 1e-5, "float64": 1e-12}[dtype]
    input = tf.constant(op.canonical_input(spec.input))
    input = input if isinstance(op, LookupOp) else tf.cast(input, dtype)
    found = op.apply(input, tf.constant(op.canonical_kernel(spec.kernel), dtype)).numpy()
    assert found.dtype == dtype
    expected = forward(spec.problem, spec.met, spec.kernel)
    units = spec.of_oracle(op.own_units(found, spec.output_shape))
    np.testing.assert_allclose(units, expected, rtol=10 * rounding, atol=rounding)


@every_spec
def test_weight_vjp_sums_over_terms(name):
    """weight_vjp(1, 1) counts the terms of each weight, padding gives none; (a, c) sums a·c over them."""
    spec = SPECS[name]()
    ones, a, c = np.ones(spec.output_shape), spec.input, spec.cotangent
    live = a if spec.op.constant_input else np.ones_like(a)
    counts = spec.sums(np.ones_like(spec.met), ones)
    np.testing.assert_array_equal(spec.vjp(live, ones), counts)
    np.testing.assert_array_equal(spec.vjp(live, ones, "float32"), counts)
    for arriving in (c, c**2):
        sums = spec.sums(spec.met, arriving)
        np.testing.assert_allclose(spec.vjp(a, arriving), sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(spec.vjp(a, arriving, "float32"), sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SPECS if not name.startswith(("bias", "lookup"))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_input_vjp_sends_back_along_every_term(name, dtype):
    """input_vjp adds to every input each term's cotangent times its weight."""
    spec = SPECS[name]()
    op, shape = spec.op, spec.input.shape
    weights, arriving = op.canonical_kernel(spec.kernel), op.canonical_units(spec.cotangent)
    arrays = (tf.constant(array, dtype) for array in (weights, arriving))
    found = input_vjp(op, *arrays, op.canonical_input(spec.input).shape).numpy()
    assert found.dtype == dtype
    expected, cotangent = np.zeros(spec.met.shape), spec.of_oracle(spec.cotangent)
    for kernel_index, at, to in spec.problem.terms(spec.met.shape, spec.kernel_shape):
        expected[at] += cotangent[to] * spec.kernel[kernel_index]
    rounding = {"float32": 1e-5, "float64": 1e-12}[dtype]
    own = spec.of_oracle(op.own_input(found, shape))
    np.testing.assert_allclose(own, expected, rtol=10 * rounding, atol=rounding)


@every_spec
def test_layouts_round_trip(name):
    """own_* undoes canonical_*, for arrays and for tensors."""
    spec = SPECS[name]()
    for what, array in (("input", spec.input), ("units", spec.cotangent), ("kernel", spec.kernel)):
        there, back = getattr(spec.op, f"canonical_{what}"), getattr(spec.op, f"own_{what}")
        np.testing.assert_array_equal(back(there(array), array.shape), array)
        if what != "kernel":
            tensor = there(tf.constant(array))
            np.testing.assert_array_equal(tensor, there(array))
            np.testing.assert_array_equal(back(tensor, array.shape), array)


@every_spec
def test_the_last_canonical_axis_counts_the_units(name):
    """Canonical kernels and units have the oracle's units in order, and as many groups as they say."""
    spec = SPECS[name]()
    problem, shape = spec.problem, spec.kernel_shape
    units = problem.units(shape)
    of_outputs = np.zeros(spec.of_oracle(spec.cotangent).shape, int)
    of_weights = np.zeros(shape, int)
    for index in np.ndindex(*of_outputs.shape):
        of_outputs[index] = problem.unit_of_output(index, shape)
    for index in np.ndindex(*shape):
        of_weights[index] = problem.unit_of_kernel(index, shape)
    canonical = spec.op.canonical_units(spec.of_layer(of_outputs))
    kernel = spec.op.canonical_kernel(of_weights)
    for found in (canonical, kernel):
        assert found.shape[-1] == units and (found == np.arange(units)).all()
    if not isinstance(spec.op, LookupOp):
        inputs = spec.op.canonical_input(spec.input).shape[-1]
        assert inputs == kernel.shape[-2] * spec.op.groups and units % spec.op.groups == 0


@every_spec
def test_unit_order_says_where_the_units_stand(name):
    """canonical_units is a transpose to `unit_order`, with so many of the last axes merged."""
    spec = SPECS[name]()
    array = spec.cotangent
    order, merged = spec.op.unit_order(array.ndim)
    shuffled = array.transpose(order)
    lead = shuffled.shape[: array.ndim - merged]
    np.testing.assert_array_equal(shuffled.reshape(*lead, -1), spec.op.canonical_units(array))
    in_front = array.ndim > 2 and order[-merged:] == tuple(range(1, merged + 1))
    assert spec.op.units_in_front == in_front


@every_spec
def test_configuration_round_trip(name):
    """A spec is made again from its configuration, also by way of JSON."""
    op = SPECS[name]().op
    again = op_from_config(json.loads(json.dumps(op.to_config())))
    assert again == op and hash(again) == hash(op) and type(again) is type(op)
    assert op_from_config(op.to_config()) == op


def test_only_kernels_have_a_healthy_size():
    """w* is He's scale for what multiplies a signal, and nan for biases, scales and tables."""
    assert DenseOp().healthy_weight((8, 3)) == pytest.approx(0.5)
    assert depthwise((1, 4, 4, 2), (2, 4, 2, 3)).op.healthy_weight((2, 4, 1, 6)) == pytest.approx(0.5)
    others = bias((2, 3), (1,)), scale((2, 3), (1,)), lookup([0], 2)
    assert all(np.isnan(spec.op.healthy_weight((1, 3))) for spec in others)


def test_ungrouped_keeps_everything_but_the_groups():
    """The spec for inputs of a single channel differs in its groups only."""
    op = ConvOp((2,), "same", (1,), 3, "channels_first")
    assert op.ungrouped() == ConvOp((2,), "same", (1,), 1, "channels_first")
    assert DenseOp().ungrouped() == DenseOp()
    assert EinsumOp("abc,bcd->abd", 2).ungrouped() == DenseOp()
    assert DepthwiseConvOp((2,), "same", (1,), 3).ungrouped() == ConvOp((2,), "same", (1,))


def test_rows_of_a_table_are_listed_once():
    """rows_of lists the rows that are looked up, and where each position's row stands in that list."""
    rows, places = LookupOp.rows_of(np.array([[5, 1], [1, 7]]))
    assert rows.tolist() == [1, 5, 7] and places.tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    "name",
    [
        "conv2d same strided",
        "depthwise 2d same strided",
        "transposed 2d same",
        "einsum with a kernel per step",
    ],
)
def test_vjps_run_in_graphs_of_unknown_batch(name):
    """A graph that was traced without a batch size gives the same sums."""
    spec = SPECS[name]()
    op = spec.op
    arrays = op.canonical_input(spec.input), op.canonical_units(spec.cotangent)
    arrays = [array.astype(np.float32) for array in arrays]
    shape = op.canonical_kernel(spec.kernel).shape
    signature = [tf.TensorSpec((None, *array.shape[1:])) for array in arrays]
    traced = tf.function(lambda a, c: weight_vjp(op, a, c, shape), input_signature=signature)
    found = op.own_kernel(traced(*arrays).numpy(), spec.kernel_shape)
    np.testing.assert_allclose(found, spec.vjp(spec.input, spec.cotangent), rtol=1e-4, atol=1e-5)


def test_keras_agrees_on_the_kernel_gradient():
    """weight_vjp(input, dJ/dZ) is the gradient that a tape delivers for the layer's kernel."""
    name = "conv2d channels first grouped"
    kind, options, _ = CASES[name]
    spec, layer = of_layer(name), kind(4, **options)
    received, cotangent = spec.input.astype(np.float32), spec.cotangent.astype(np.float32)
    layer(received)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(received) * cotangent)
    gradient = tape.gradient(loss, layer.kernel.value)
    np.testing.assert_allclose(spec.vjp(received, cotangent), gradient, rtol=1e-4, atol=1e-5)
