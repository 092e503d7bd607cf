"""Planted faults with known answers, on real digits: the right cause at the right layer, and no other."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import trainobs
from tests.faults import models
from tests.faults.models import (
    cnn,
    digits,
    kernel_layers,
    mlp,
    scale_kernel,
    shift_bias,
    small_digits,
    trained,
)

layers = keras.layers


def explain(model, x, y, samples=256):
    return trainobs.explain_near_zero_gradients(model, x[:samples], y[:samples])


def problems(report):
    """Findings as (cause, layer), without those that only inform."""
    found = report.findings[report.findings.severity != "info"]
    return list(zip(found.cause, found.layer, strict=True))


def informs(report):
    """Those that only inform."""
    told = report.findings[report.findings.severity == "info"]
    return list(zip(told.cause, told.layer, strict=True))


def images():
    x, y = digits()
    return x.reshape(-1, 28, 28, 1), y


class TestDeadLayer:
    def test_named_with_its_bias_and_the_layers_that_suffer(self):
        """A hidden ReLU layer with biases far below zero is the one root cause, by bias."""
        model = trained(mlp(64, 64, 64), *digits())
        name = shift_bias(model, 1, -20.0)
        report = explain(model, *digits())
        assert problems(report) == [("dead_activation", name)]
        finding = report.findings.iloc[0]
        assert set(finding.affects) == {kernel_layers(model)[0].name, kernel_layers(model)[2].name}
        row = report.kernels.set_index("layer").loc[name]
        assert row.dead_units == 64
        assert row.share_activation > 0.95  # units of a dead input have two causes
        assert row.off_by_bias > max(row.off_by_input, row.off_by_weights, row.off_by_combination)
        assert "bias" in finding.evidence

    def test_convolution(self):
        """A dead convolution is named, over all its pixels."""
        model = cnn()
        name = shift_bias(model, 1, -20.0)
        report = explain(model, *images(), samples=64)
        assert problems(report) == [("dead_activation", name)]
        assert report.kernels.set_index("layer").loc[name].positions == 64 * 11 * 11

    def test_partly_dead(self):
        """A layer with most of its units dead is named, though its other gradients live."""
        model = trained(mlp(64, 64, 64), *digits())
        name = shift_bias(model, 1, -20.0, units=40)
        report = explain(model, *digits())
        assert problems(report) == [("dead_activation", name)]
        assert report.units(name).dead[:40].all()

    def test_behind_batch_normalisation(self):
        """Where beta kills a separate ReLU behind a normalisation, the kernel's site is credited."""
        model = cnn(normalised=True)
        norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
        norm.beta.assign(norm.beta - 20.0)
        report = explain(model, *images(), samples=64)
        name = kernel_layers(model)[0].name
        assert problems(report) == [("dead_activation", name)]
        row = report.kernels.set_index("layer").loc[name]
        assert row.off_by_bias > row.off_by_combination


class TestSaturatedLayer:
    @pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
    def test_by_its_kernel(self, activation):
        """A bounded layer with a huge kernel is saturated by its weights."""
        model = mlp(64, 64, 64, activation=activation)
        name = scale_kernel(model, 1, 300.0)
        report = explain(model, *digits())
        assert problems(report) == [("saturated_activation", name)]
        assert report.kernels.set_index("layer").loc[name].off_by_weights > 0.5

    def test_by_its_bias(self):
        """A sigmoid layer with a huge bias is saturated by it."""
        model = mlp(64, 64, activation="sigmoid")
        name = shift_bias(model, 1, 30.0)
        report = explain(model, *digits())
        assert problems(report) == [("saturated_activation", name)]
        assert report.kernels.set_index("layer").loc[name].off_by_bias > 0.9

    def test_by_unscaled_input(self):
        """Pixels of 0 to 255 saturate a tanh layer: the input's scale is named."""
        x, y = digits()
        model = mlp(64, 64, activation="tanh")
        assert problems(explain(model, 255 * x, y)) == [("unscaled_input", kernel_layers(model)[0].name)]


class TestInput:
    @pytest.mark.parametrize("scale", [0.0, 1e-5], ids=["zero", "tiny"])
    def test_zero_and_tiny_input(self, scale):
        """Data that is zero or tiny is the root cause of every layer's lost gradient."""
        x, y = digits()
        model = mlp(128, 64)
        report = explain(model, scale * x, y)
        assert problems(report) == [("zero_input", kernel_layers(model)[0].name)]
        assert (report.kernels.near_zero == 1.0).all()
        assert set(report.kernels.root_cause) == {"zero_input"}

    def test_black_border_is_named_per_input(self):
        """Always-black border pixels are dead inputs, exactly those, and hold their weights by input."""
        x, y = digits()
        model = mlp(64)
        report = explain(model, x, y, samples=1024)
        name = kernel_layers(model)[0].name
        inputs = report.inputs(name)
        black = (np.abs(x[:1024]) <= 1e-3).all(axis=0)
        np.testing.assert_array_equal(inputs.dead, black)
        assert (inputs.near_zero[black] == 1.0).all()
        verdict = report.weights(name).verdict
        assert (verdict[black] & trainobs.Cause.INPUT == trainobs.Cause.INPUT).all()
        assert problems(report) == []  # a border that leaves most inputs live is no fault

    def test_wide_black_border_is_a_finding(self):
        """A border that blacks most inputs out is a finding, and names them."""
        x, y = images()
        x = x.copy()
        x[:, :6], x[:, -6:], x[:, :, :6], x[:, :, -6:] = 0, 0, 0, 0
        report = explain(mlp(64), x.reshape(-1, 784), y)
        assert [cause for cause, _ in problems(report)] == ["zero_input"]
        assert "inputs 0–173" in report.findings.iloc[0].evidence


class TestWeights:
    @pytest.mark.parametrize("stddev", [1e-3, 1e-4])
    def test_tiny_initialisation(self, stddev):
        """Tiny kernels everywhere are one slow decay, driven by the kernels."""
        start = keras.initializers.RandomNormal(stddev=stddev)
        report = explain(mlp(64, 64, 64, 64, 64, kernel_initializer=start), *digits())
        assert [cause for cause, _ in problems(report)] == ["vanishing"]
        assert "kernels too small" in report.findings.iloc[0].evidence
        assert report.findings.iloc[0].share > 0.99  # the head's bias has a gradient

    @pytest.mark.parametrize("index", [1, 2], ids=["hidden", "head"])
    def test_zero_initialised_next_layer(self, index):
        """A kernel of zeros is the root cause of the lost gradients before (and behind) it."""
        model = mlp(64, 64)
        name = scale_kernel(model, index, 0.0)
        report = explain(model, *digits())
        assert problems(report) == [("zero_weights", name)]
        assert report.layers.iloc[0].root_layer == name

    def test_constant_initialisation(self):
        """Units with the same weights and gradients stay one; what reads the last ones tells them apart."""
        model = mlp(64, 64, kernel_initializer=keras.initializers.Constant(0.05))
        first, second = (layer.name for layer in kernel_layers(model)[:2])
        report = explain(model, *digits())
        assert problems(report) == [("symmetric", first)]
        assert informs(report) == [("symmetric", second)]
        model.fit(*digits(), epochs=2, verbose=0)
        stays, parted = (layer.kernel.numpy() for layer in kernel_layers(model)[:2])
        spread = [np.ptp(kernel, axis=-1).max() for kernel in (stays, parted)]
        assert spread[0] < 1e-5 < 1e-3 < spread[1]

    @pytest.mark.parametrize("regularizer", [None, "l2"])
    def test_ten_sigmoid_layers(self, regularizer):
        """Ten sigmoid layers are one slow decay, driven by the slopes; an L2 penalty does not hide it."""
        model = mlp(*[64] * 10, activation="sigmoid", kernel_regularizer=regularizer)
        report = explain(model, *digits())
        assert [cause for cause, _ in problems(report)] == ["vanishing"]
        assert "slopes of the activations" in report.findings.iloc[0].evidence
        assert report.layers.iloc[0].share_backprop > 0.5
        assert report.layers.residual.max() < 1e-5


class TestLoss:
    def test_converged_regression(self):
        """Where predictions are right the loss has no gradient to give."""
        model = mlp(32, inputs=64, head="linear", units=1, loss="mse")
        x, _ = small_digits()
        report = explain(model, x, model.predict(x, verbose=0))
        assert not problems(report)
        assert ("zero_loss_gradient", kernel_layers(model)[-1].name) in informs(report)

    def test_converged_classifier(self):
        """A classifier that knows its batch by heart has converged; nothing is broken."""
        x, y = small_digits()
        model = mlp(128, inputs=64)
        model.optimizer.learning_rate = 0.01
        model.fit(x[:256], y[:256], epochs=150, verbose=0)
        report = explain(model, x, y)
        assert not problems(report)
        assert [cause for cause, _ in informs(report)] == ["zero_loss_gradient"]

    def test_softmax_over_one_unit(self):
        """Softmax over one unit is always 1: head, loss and targets don't fit."""
        x, y = small_digits()
        model = mlp(32, inputs=64, units=1, loss="mse")
        with pytest.warns(UserWarning, match="softmax over axis"):
            report = explain(model, x, (y > 4).astype("float32"))
        assert problems(report) == [("output_mismatch", kernel_layers(model)[-1].name)]

    def test_targets_out_of_range(self):
        """A ReLU output can't reach negative targets."""
        x, y = small_digits()
        model = mlp(32, inputs=64, head="relu", units=1, loss="mse")
        assert problems(explain(model, x, -(y + 1.0))) == [("output_mismatch", kernel_layers(model)[-1].name)]

    def test_logits_into_a_loss_that_clips(self):
        """Linear outputs into a crossentropy on probabilities are clipped, without a dead unit."""
        x, y = small_digits()
        model = mlp(32, inputs=64, head="linear", units=1, loss="binary_crossentropy")
        assert problems(explain(model, x, (y > 4).astype("float32"))) == [
            ("output_mismatch", kernel_layers(model)[-1].name)
        ]


class TestGraph:
    def test_frozen_layer(self):
        """A frozen layer is said to be frozen, and nothing else is wrong."""
        model = mlp(64, 64)
        frozen = kernel_layers(model)[1]
        frozen.trainable = False
        report = explain(models.compiled(model), *digits())
        assert list(report.findings.cause) == ["frozen"]
        assert report.findings.iloc[0].layer == frozen.name
        assert np.isnan(report.kernels.set_index("layer").loc[frozen.name].near_zero)

    def test_stop_gradient_operation(self):
        """`keras.ops.stop_gradient` in a functional model is where the gradient ends."""
        start = keras.Input((784,))
        hidden = layers.Dense(64, activation="relu")(layers.Dense(64, activation="relu")(start))
        cut = keras.ops.stop_gradient(hidden)
        model = keras.Model(start, layers.Dense(10, activation="softmax")(cut))
        report = explain(models.compiled(model), *digits())
        assert [cause for cause, _ in problems(report)] == ["disconnected"]
        assert "stop_gradient" in report.findings.iloc[0].layer
        assert list(report.kernels.near_zero[:2]) == [1.0, 1.0]

    def test_stop_gradient_layer(self):
        """A Lambda layer that stops the gradient is named."""
        model = keras.Sequential(
            [
                keras.Input((784,)),
                layers.Dense(64, activation="relu"),
                layers.Lambda(keras.ops.stop_gradient, name="cut"),
                layers.Dense(10, activation="softmax"),
            ]
        )
        assert problems(explain(models.compiled(model), *digits())) == [("disconnected", "cut")]


class TestBroken:
    def test_nan_in_data(self):
        """NaN in the data is named at the layer that reads it."""
        x, y = digits()
        x = x[:256].copy()
        x[3, 5] = np.nan
        model = mlp(64)
        report = explain(model, x, y)
        assert problems(report) == [("non_finite", kernel_layers(model)[0].name)]
        assert "data" in report.findings.iloc[0].evidence

    def test_infinite_weight(self):
        """An infinite weight is named at its layer, not where it spreads to."""
        model = mlp(64, 64)
        kernel = kernel_layers(model)[1].kernel.numpy()
        kernel[0, 0] = np.inf
        kernel_layers(model)[1].kernel.assign(kernel)
        assert problems(explain(model, *digits())) == [("non_finite", kernel_layers(model)[1].name)]

    def test_exploding(self):
        """Linear layers with huge kernels explode."""
        start = keras.initializers.RandomNormal(stddev=1.0)
        report = explain(mlp(*[64] * 8, activation="linear", kernel_initializer=start), *digits())
        assert [cause for cause, _ in problems(report)] == ["exploding"]


HEALTHY = {
    "fresh MLP": lambda: (mlp(128, 64), *digits()),
    "trained MLP": lambda: (trained(mlp(128, 64), *digits(), epochs=3), *digits()),
    "fresh CNN": lambda: (cnn(), *images()),
    "trained CNN": lambda: (trained(cnn(), *images()), *images()),
    "trained CNN with BatchNormalization": lambda: (trained(cnn(normalised=True), *images()), *images()),
    "20 ReLU layers": lambda: (mlp(*[64] * 20, kernel_initializer="he_normal"), *digits()),
    "GELU": lambda: (trained(mlp(128, 64, activation="gelu"), *digits()), *digits()),
    "tanh": lambda: (trained(mlp(128, 64, activation="tanh"), *digits(), epochs=3), *digits()),
    "sigmoid": lambda: (trained(mlp(128, 64, activation="sigmoid"), *digits(), epochs=3), *digits()),
    "SELU": lambda: (mlp(*[64] * 6, activation="selu", kernel_initializer="lecun_normal"), *digits()),
    "autoencoder": lambda: (
        trained(mlp(64, 16, 64, head="sigmoid", units=784, loss="mse"), digits()[0], digits()[0], epochs=5),
        digits()[0],
        digits()[0],
    ),
    "small digits": lambda: (trained(mlp(128, 64, inputs=64), *small_digits(), epochs=5), *small_digits()),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_model_has_no_finding(case):
    """A healthy model has no finding at all, however sparse its ReLUs are."""
    report = explain(*HEALTHY[case](), samples=128)
    assert report.findings.empty, report.findings.evidence.tolist()
    assert report.layers.residual.max() < 1e-5
