"""The oracle's problems against Keras' own layers: their forward pass and the gradients of a tape."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from .layers import BiasProblem, EinsumProblem, LookupProblem, ScaleProblem
from .linear import (
    ConvProblem,
    ConvTransposeProblem,
    DenseProblem,
    DepthwiseConvProblem,
    forward,
    weight_sums,
)


@dataclass(frozen=True)
class Case:
    """A layer with one weight tensor of interest, the problem it is, and the shape of the data."""

    layer: Callable[[], layers.Layer]
    problem: object
    shape: tuple
    weight: str = "kernel"
    #: From the data what the weight multiplies, and what the layer adds to the product.
    meets: Callable = lambda x: x
    adds: Callable = lambda x: 0

    def data(self) -> np.ndarray:
        """The input of the layer."""
        if isinstance(self.problem, LookupProblem):
            return self.problem.ids
        return np.random.default_rng(1).normal(size=self.shape).astype(np.float32)

    def run(self) -> tuple[np.ndarray, ...]:
        """(weight, output, cotangent, gradient of the weight) of the layer with random weights."""
        rng, layer, x = np.random.default_rng(2), self.layer(), self.data()
        layer.build(x.shape)
        weight = getattr(layer, self.weight)
        weight.assign(rng.normal(size=weight.shape))
        with tf.GradientTape() as tape:
            output = layer(x, training=True)
            cotangent = rng.normal(size=output.shape)
            loss = keras.ops.sum(output * cotangent)
        gradient = tf.convert_to_tensor(tape.gradient(loss, weight.value))
        return weight.numpy(), output.numpy(), cotangent, gradient.numpy()


def plain(kind: type, problem: object, shape: tuple, *arguments, **options) -> Case:
    """A layer without bias."""
    return Case(lambda: kind(*arguments, use_bias=False, **options), problem, shape)


def depthwise(rank: int, shape: tuple, window: object, multiplier: int = 1, **options) -> Case:
    """A depthwise convolution; stride, padding and dilation go to Keras and to the oracle."""
    kind = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}[rank]
    problem = DepthwiseConvProblem(**options)
    return plain(kind, problem, shape, window, depth_multiplier=multiplier, **keras_names(options))


def transposed(rank: int, shape: tuple, window: object, **options) -> Case:
    """A transposed convolution to two channels; its options go to Keras and to the oracle."""
    kind = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}[rank]
    return plain(kind, ConvTransposeProblem(**options), shape, 2, window, **keras_names(options))


def keras_names(options: dict) -> dict:
    """The options of a problem as Keras calls them."""
    return {{"dilation": "dilation_rate"}.get(name, name): value for name, value in options.items()}


def einsum(equation: str, shape: tuple, output_shape: tuple) -> Case:
    """An EinsumDense of this equation."""
    return Case(lambda: layers.EinsumDense(equation, output_shape), EinsumProblem(equation), shape)


def bias(layer: Callable[..., layers.Layer], problem: object, shape: tuple, **options) -> Case:
    """The bias of a layer whose kernel is zero: what it meets has the output's shape, or less."""
    without = problem.axes if isinstance(problem, BiasProblem) else ()

    def ones(output: np.ndarray) -> np.ndarray:
        return np.ones(np.delete(output.shape, without))

    return Case(lambda: layer(kernel_initializer="zeros", **options), problem, shape, "bias", ones)


def prelu(shape: tuple, *shared_axes: int) -> Case:
    """A PReLU: alpha scales what is below zero, the rest is added to it."""
    problem = ScaleProblem(tuple(range(1, len(shape))))
    return Case(
        lambda: layers.PReLU(shared_axes=shared_axes or None),
        problem,
        shape,
        "alpha",
        lambda x: np.minimum(x, 0),
        lambda x: np.maximum(x, 0),
    )


def normalised(kind: type, axes: tuple, over: tuple, shape: tuple, **options) -> Case:
    """The scale of a normalisation along `axes`; mean and variance are taken over `over`."""

    def standard(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 1e-3)

    return Case(
        lambda: kind(center=False, epsilon=1e-3, **options), ScaleProblem(axes), shape, "gamma", standard
    )


def lookup(ids: object, rows: int) -> Case:
    """An Embedding of width 2."""
    found = LookupProblem(np.array(ids))
    return Case(lambda: layers.Embedding(rows, 2), found, found.ids.shape, "embeddings", np.ones_like)


CASES: dict[str, Case] = {
    "dense": plain(layers.Dense, DenseProblem(), (2, 3, 2), 3),
    "conv": plain(
        layers.Conv2D, ConvProblem((2, 1), "same", 1, 2), (2, 4, 3, 4), 2, 3,
        strides=(2, 1), padding="same", groups=2,
    ),
    "depthwise 1d": depthwise(1, (2, 5, 2), 3),
    "depthwise 1d same strided multiplied": depthwise(1, (2, 6, 2), 3, 3, strides=2, padding="same"),
    "depthwise 1d same even window": depthwise(1, (1, 5, 2), 2, padding="same"),
    "depthwise 1d dilated": depthwise(1, (1, 6, 2), 2, 2, dilation=3),
    "depthwise 2d": depthwise(2, (1, 4, 3, 2), (2, 3), 2),
    "depthwise 2d same strided": depthwise(2, (1, 5, 4, 2), (3, 2), 2, strides=2, padding="same"),
    "depthwise 2d same dilated": depthwise(2, (1, 4, 5, 2), 2, 2, dilation=(1, 2), padding="same"),
    "transposed 1d": transposed(1, (2, 3, 2), 3),
    "transposed 1d strided": transposed(1, (1, 3, 2), 3, strides=2),
    "transposed 1d stride beyond window": transposed(1, (1, 3, 2), 2, strides=3),
    "transposed 1d same": transposed(1, (1, 4, 2), 3, padding="same"),
    "transposed 1d same even window": transposed(1, (1, 4, 2), 4, padding="same"),
    "transposed 1d same strided": transposed(1, (1, 3, 2), 3, strides=2, padding="same"),
    "transposed 1d same stride beyond window": transposed(1, (1, 3, 2), 2, strides=3, padding="same"),
    "transposed 1d same window beyond output": transposed(1, (1, 1, 2), 5, strides=2, padding="same"),
    "transposed 1d output padding": transposed(1, (1, 3, 2), 2, strides=3, output_padding=2),
    "transposed 1d same output padding": transposed(
        1, (1, 3, 2), 3, strides=3, padding="same", output_padding=1
    ),
    "transposed 1d same even window output padding": transposed(
        1, (1, 3, 2), 2, strides=2, padding="same", output_padding=1
    ),
    "transposed 1d dilated": transposed(1, (1, 3, 2), 2, dilation=2),
    "transposed 1d same dilated": transposed(1, (1, 4, 2), 3, dilation=2, padding="same"),
    "transposed 2d": transposed(2, (1, 3, 2, 3), (2, 3), strides=(1, 2)),
    "transposed 2d same": transposed(2, (2, 2, 3, 2), 3, strides=(2, 1), padding="same"),
    "transposed 2d same output padding": transposed(
        2, (1, 2, 3, 2), (2, 3), strides=(2, 3), padding="same", output_padding=(1, 2)
    ),
    "transposed 2d dilated": transposed(2, (1, 2, 3, 2), 2, dilation=(1, 2), padding="same"),
    "transposed 3d": transposed(3, (1, 2, 2, 1, 2), (2, 1, 2), strides=(1, 2, 2)),
    "transposed 3d same": transposed(3, (1, 2, 1, 2, 2), 2, strides=2, padding="same", output_padding=1),
    "einsum dense": einsum("ab,bc->ac", (3, 2), (4,)),
    "einsum two unit axes": einsum("abc,cde->abde", (2, 3, 2), (None, 2, 3)),
    "einsum two summed axes": einsum("abde,dec->abc", (2, 2, 3, 2), (None, 4)),
    "einsum kernel per step": einsum("abc,bcd->abd", (3, 2, 3), (2, 2)),
    "einsum units in front": einsum("abc,dbc->adb", (2, 2, 3), (2, 2)),
    "einsum kernel turned round": einsum("abc,dc->adb", (2, 3, 2), (4, 3)),
    "einsum scale": einsum("abc,c->abc", (2, 3, 2), (None, 2)),
    "einsum axis summed out of the input": einsum("abc,cd->ad", (2, 3, 2), (2,)),
    "bias of dense": bias(layers.Dense, BiasProblem((-1,)), (2, 3, 4), units=2),
    "bias channels first": bias(
        layers.Conv1D, BiasProblem((1,)), (2, 3, 4), filters=2, kernel_size=1, data_format="channels_first"
    ),
    "bias of two axes": bias(
        layers.EinsumDense, BiasProblem((2, 3)), (2, 3, 4),
        equation="abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de",
    ),
    "bias with an axis of length 1": bias(
        layers.EinsumDense, ScaleProblem((1, 2, 3)), (2, 3, 4),
        equation="abc,cde->adbe", output_shape=(2, None, 3), bias_axes="de",
    ),
    "prelu": prelu((3, 2, 4)),
    "prelu shared": prelu((2, 2, 3, 2), 1, 2),
    "prelu channels shared": prelu((2, 3, 2), 2),
    "batch normalisation": normalised(layers.BatchNormalization, (-1,), (0, 1), (4, 3, 2)),
    "batch normalisation channels first": normalised(
        layers.BatchNormalization, (1,), (0, 2), (4, 2, 3), axis=1
    ),
    "layer normalisation": normalised(layers.LayerNormalization, (1, 2), (1, 2), (2, 3, 2), axis=[1, 2]),
    "lookup": lookup([0, 3, 3, 2], 5),
    "lookup of sequences": lookup([[1, 0, 1], [2, 1, 1]], 4),
}  # fmt: skip

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def given(case: Case, output: np.ndarray) -> np.ndarray:
    """What the problem takes for input."""
    return case.meets(output if case.weight == "bias" else case.data())


@every_case
def test_forward_is_that_of_the_layer(case):
    """Input and kernel give the layer's output, in shape and in value."""
    weight, output, _, _ = case.run()
    found = forward(case.problem, given(case, output), weight)
    assert found.shape == output.shape
    np.testing.assert_allclose(found + case.adds(case.data()), output, rtol=1e-4, atol=1e-5)


@every_case
def test_weight_sums_are_the_gradient_of_a_tape(case):
    """The sum over a weight's terms of input times cotangent is the gradient that Keras trains with."""
    weight, output, cotangent, gradient = case.run()
    found = weight_sums(case.problem, given(case, output), cotangent, weight.shape)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-5)


@every_case
def test_units_part_weights_and_outputs(case):
    """A term joins a weight and an output of one unit, and all units have as many of each."""
    weight, output, _, _ = case.run()
    problem, shape = case.problem, weight.shape
    units = problem.units(shape)
    for kernel_index, _, output_index in problem.terms(given(case, output).shape, shape):
        assert problem.unit_of_kernel(kernel_index, shape) == problem.unit_of_output(output_index, shape)
    weights = [problem.unit_of_kernel(index, shape) for index in np.ndindex(*shape)]
    outputs = [problem.unit_of_output(index, shape) for index in np.ndindex(*output.shape)]
    assert np.bincount(weights).tolist() == [weight.size // units] * units
    assert np.bincount(outputs).tolist() == [output.size // units] * units
