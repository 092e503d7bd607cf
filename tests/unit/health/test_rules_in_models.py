"""Rules, on models with planted faults."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.faults import models
from tests.unit.health.nets import MODELS, causes, checked, digits, severity, small_mlp, thousandfold_loss
from trainobs.health import check_health
from trainobs.thresholds import Thresholds

layers = keras.layers


def test_a_healthy_model_has_no_warning():
    """Of any kind; and the report says so."""
    for make, data in list(MODELS.values())[:4]:
        x, y = data()
        report = check_health(make(), x[:64], y[:64])
        assert report.healthy and not causes(report, "error", "warning"), report
        assert "healthy" in repr(report) and "<h4>" in report._repr_html_()
        assert not any(report.flow.values())


def test_non_finite():
    """NaN weights make NaN gradients: an error that names them."""
    model = small_mlp("tanh")
    model.layers[1].kernel.assign(np.full((32, 32), np.nan, "float32"))
    report = checked(model)
    assert severity(report, "non_finite") == "error" and not report.healthy
    assert report.flow["non_finite"] == tuple(layer.name for layer in model.layers)
    first, *others = report.findings["evidence"]
    assert first == f"The kernel of {model.layers[1].name} contains NaN or infinite values."
    assert "The loss is nan." in others


def test_half_precision_overflows_by_design():
    """Gradients of a loss whose scale is too large: a warning, for the step is skipped."""
    model = models.per_row_mlp("mixed_float16")
    x, y = models.rows_of_digits()
    assert "non_finite" not in causes(check_health(model, x[:64], np.repeat(y[:64, None], 8, 1)))
    for layer in model.layers:
        layer.kernel.assign(20 * layer.kernel)
    report = check_health(model, x[:64], np.repeat(y[:64, None], 8, 1))
    assert severity(report, "non_finite") == "warning" and "skips such a step" in repr(report)


def test_vanishing():
    """Gradients that are lost on the way: of some layers a warning, of all an error."""
    model = small_mlp("sigmoid")
    models.shift_bias(model, 1, 60.0)
    report = checked(model)
    first, second, last = (layer.name for layer in model.layers)
    assert severity(report, "vanishing") == "warning"
    assert report.flow["vanishing"] == (first, second) and last not in report.flow["vanishing"]
    model.layers[2].kernel.assign(np.zeros((32, 10), "float32"))
    model.layers[2].bias.assign(np.eye(10, dtype="float32")[3] * 100)
    x, y = digits()
    lost = check_health(model, x[y == 3], y[y == 3])
    assert severity(lost, "vanishing") == "error" and "global_norm_low" in causes(lost)


def test_no_gradient():
    """A weight from which no path leads to the loss."""

    class Apart(layers.Layer):
        def build(self, shape):
            self.used = self.add_weight(shape=(shape[-1],), initializer="ones", name="used")
            self.unused = self.add_weight(shape=(3,), initializer="ones", name="unused")

        def call(self, x):
            return x * self.used

    report = checked(models.between(Apart(name="apart")))
    (row,) = report.findings[report.findings["cause"] == "no_gradient"].itertuples()
    assert row.weight == "apart/unused" and row.severity == "warning"


def test_exploding_and_norm_bands():
    """A loss that is too large is all three: exploding weights, a large norm, large mean gradients."""
    model = small_mlp()
    model.compile(keras.optimizers.SGD(0.05), thousandfold_loss)
    report = checked(model)
    assert {"exploding", "global_norm_high", "mean_gradient_high"} <= causes(report)
    assert severity(report, "exploding") == "error" and severity(report, "global_norm_high") == "warning"
    assert report.flow["exploding"] == tuple(layer.name for layer in model.layers)
    assert "update_high" in causes(report)


@pytest.mark.parametrize(("units", "expected"), [(None, "error"), (10, "info")])
def test_dead_units(units, expected):
    """An error where an explanation finds the layer dead; fewer dead units than that inform."""
    model = small_mlp()
    name = models.shift_bias(model, 0, -100.0, units=units)
    report = checked(model)
    assert severity(report, "dead_units") == expected
    assert name in report.findings[report.findings["cause"] == "dead_units"]["evidence"].iloc[0]


def test_saturated():
    """More than half of a hidden layer's values; never the output's."""
    model = small_mlp("tanh")
    models.scale_kernel(model, 0, 100.0)
    report = checked(model)
    assert set(report.findings[report.findings["cause"] == "saturated"]["layer"]) == {model.layers[0].name}
    sigmoid = models.mlp(inputs=64, head="sigmoid", units=1, loss="mse")
    models.shift_bias(sigmoid, 0, -50.0)
    x, _ = digits()
    own = check_health(sigmoid, x[:64], np.zeros((64, 1)))
    assert own.layers["saturated"].iloc[0] == 1 and "saturated" not in causes(own)


@pytest.mark.parametrize(("factor", "rule"), [(0.01, "initial_weights_low"), (100.0, "initial_weights_high")])
def test_initial_weights(factor, rule):
    """Kernels far from the usual scales, at the first check only."""
    model = small_mlp()
    models.scale_kernel(model, 1, factor)
    assert rule in causes(checked(model))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    assert rule not in causes(checked(model))


def test_update_ratio_rules():
    """A learning rate that is far too small or too large."""
    assert "update_low" in causes(checked(small_mlp(optimizer=keras.optimizers.SGD(1e-9))))
    assert "update_high" in causes(checked(small_mlp(optimizer=keras.optimizers.SGD(100.0))))


def test_autotrainer_rules():
    """First against last kernel, and the share of exactly-zero gradients, which are off by default."""
    model = small_mlp("sigmoid")
    for index in (1, 2):
        models.scale_kernel(model, index, 1e-3)
    thresholds = Thresholds.preset("autotrainer")
    assert "first_last_low" in causes(checked(model, thresholds=thresholds))
    assert "first_last_low" not in causes(checked(model))
    dead = small_mlp()
    models.shift_bias(dead, 1, -100.0)
    assert "zero_gradients" in causes(checked(dead, thresholds=thresholds))
    large = small_mlp()
    models.scale_kernel(large, 2, 1e3)
    assert "first_last_high" in causes(checked(large, thresholds=thresholds))
