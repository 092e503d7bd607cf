"""The specs of how kernels meet inputs, against Keras' layers and the oracle's loops over terms."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.reference.linear import ConvProblem, DenseProblem, forward, weight_sums
from trainobs.linear_ops import ConvOp, DenseOp, input_vjp, op_from_config, weight_vjp

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

every_case = pytest.mark.parametrize("name", CASES)


class Case:
    """A Keras layer with input and cotangent, the product's spec of it and the oracle's."""

    def __init__(self, name: str) -> None:
        kind, options, shape = CASES[name]
        rng = np.random.default_rng(0)
        self.layer = kind(4, **options)
        self.received = rng.normal(size=shape).astype(np.float32)
        self.returned = self.layer(self.received).numpy() - self.layer.bias.numpy().reshape(
            _along(self.layer, shape)
        )
        self.op, self.problem = _specs(self.layer)
        self.kernel = self.layer.kernel.numpy()
        self.input = self.op.channels_last(self.received)
        self.output = self.op.channels_last(self.returned)
        self.cotangent = rng.normal(size=self.output.shape).astype(np.float32)

    def vjp(self, input: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """weight_vjp in float64."""
        arrays = (tf.constant(np.asarray(array, np.float64)) for array in (input, cotangent))
        return weight_vjp(self.op, *arrays, self.kernel.shape).numpy()


def _along(layer: layers.Layer, shape: tuple) -> tuple:
    """The shape in which a bias broadcasts to the layer's output."""
    first = getattr(layer, "data_format", "") == "channels_first"
    return (-1, *(1,) * (len(shape) - 2)) if first else (-1,)


def _specs(layer: layers.Layer) -> tuple:
    if isinstance(layer, layers.Dense):
        return DenseOp(), DenseProblem()
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    return (
        ConvOp(strides, layer.padding, dilation, layer.groups, layer.data_format),
        ConvProblem(strides, layer.padding, dilation, layer.groups),
    )


@every_case
def test_apply_equals_the_keras_layer(name):
    """A spec maps input and kernel as the layer it stands for does, without the bias."""
    case = Case(name)
    output = case.op.apply(tf.constant(case.input), tf.constant(case.kernel)).numpy()
    np.testing.assert_allclose(output, case.output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, forward(case.problem, case.input, case.kernel), rtol=1e-4, atol=1e-5)


@every_case
def test_weight_vjp_sums_over_terms(name):
    """weight_vjp(1, 1) counts the terms of each weight, padding gives none; (a, c) sums a·c over them."""
    case = Case(name)
    ones = np.ones_like(case.input), np.ones_like(case.output)
    counts = weight_sums(case.problem, *ones, case.kernel.shape)
    np.testing.assert_array_equal(case.vjp(*ones), counts)
    for a, c in ((case.input, case.cotangent), (case.input > 0.3, case.cotangent**2)):
        sums = weight_sums(case.problem, a, c, case.kernel.shape)
        np.testing.assert_allclose(case.vjp(a, c), sums, rtol=1e-12, atol=1e-12)


@every_case
def test_input_vjp_is_the_adjoint_of_apply(name):
    """⟨apply(a, W), c⟩ = ⟨a, input_vjp(W, c)⟩ for any a."""
    case = Case(name)
    a, w, c = (tf.constant(x.astype(np.float64)) for x in (case.input, case.kernel, case.cotangent))
    back = input_vjp(case.op, w, c, case.input.shape)
    assert back.shape == case.input.shape
    assert np.sum(case.op.apply(a, w) * c) == pytest.approx(np.sum(a * back))


@every_case
def test_layout_and_configuration_round_trips(name):
    """from_channels_last undoes channels_last, and a spec is made again from its configuration."""
    case = Case(name)
    there = case.op.channels_last(case.received)
    assert there.shape[-1] == case.kernel.shape[-2] * case.op.groups
    np.testing.assert_array_equal(case.op.from_channels_last(there), case.received)
    tensor = case.op.channels_last(tf.constant(case.received))
    np.testing.assert_array_equal(tensor, there)
    np.testing.assert_array_equal(case.op.from_channels_last(tensor), case.received)
    again = op_from_config(json.loads(json.dumps(case.op.to_config())))
    assert again == case.op and hash(again) == hash(case.op) and type(again) is type(case.op)
    assert op_from_config(case.op.to_config()) == case.op


def test_ungrouped_keeps_everything_but_the_groups():
    """The spec for inputs of a single channel differs in its groups only."""
    op = ConvOp((2,), "same", (1,), 3, "channels_first")
    assert op.ungrouped() == ConvOp((2,), "same", (1,), 1, "channels_first")
    assert DenseOp().ungrouped() == DenseOp()


def test_vjps_run_in_graphs_of_unknown_batch():
    """A graph that was traced without a batch size gives the same sums."""
    case = Case("conv2d same strided")
    signature = [tf.TensorSpec((None, *array.shape[1:])) for array in (case.input, case.cotangent)]
    traced = tf.function(lambda a, c: weight_vjp(case.op, a, c, case.kernel.shape), input_signature=signature)
    np.testing.assert_allclose(
        traced(case.input, case.cotangent), case.vjp(case.input, case.cotangent), rtol=1e-4, atol=1e-5
    )


def test_keras_agrees_on_the_kernel_gradient():
    """weight_vjp(input, dJ/dZ) is the gradient that a tape delivers for the layer's kernel."""
    case = Case("conv2d channels first grouped")
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(case.layer(case.received) * case.op.from_channels_last(case.cotangent))
    gradient = tape.gradient(loss, case.layer.kernel.value)
    np.testing.assert_allclose(case.vjp(case.input, case.cotangent), gradient, rtol=1e-4, atol=1e-5)
