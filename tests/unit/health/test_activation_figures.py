"""Figures of the activations behind a weight."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.faults import models
from tests.unit.health.nets import digits, small_mlp
from trainobs.health import check_health
from trainobs.thresholds import Thresholds

layers = keras.layers


def test_dead_units_are_those_that_never_fire():
    """The share of ReLU units that are 0 for the whole batch."""
    model, (x, y) = small_mlp(), digits()
    models.shift_bias(model, 0, -100.0, units=9)
    values = model.layers[0](x[:64]).numpy()
    expected = float(np.mean(np.all(values == 0, axis=0)))
    table = check_health(model, x[:64], y[:64]).layers
    assert expected >= 9 / 32 and table["dead_units"].iloc[0] == pytest.approx(expected)
    assert table["dead_units"].iloc[[1, 3]].isna().all()  # a bias does not say it again


def test_dead_units_with_a_floor():
    """SageMaker's preset counts units that fire at less than 1 % of the positions."""
    model, (x, y) = small_mlp(), digits()
    x, y = x[:200], y[:200]
    values = model.layers[0](x).numpy()
    unit = int(np.argmax(np.max(values, axis=0)))
    model.layers[0].bias.assign(-np.eye(32)[unit] * np.sort(values[:, unit])[-2])  # fires at one position
    silent = float(np.mean(np.sum(model.layers[0](x).numpy() > 0, axis=0) <= 2))
    never = float(np.mean(np.all(model.layers[0](x).numpy() == 0, axis=0)))
    assert check_health(model, x, y).layers["dead_units"].iloc[0] == pytest.approx(never)
    preset = check_health(model, x, y, thresholds=Thresholds.preset("sagemaker"))
    assert preset.layers["dead_units"].iloc[0] == pytest.approx(silent) and silent > never


def test_saturated_values_are_those_with_a_small_slope():
    """The share of tanh values with a slope of at most 1e-2."""
    model, (x, y) = small_mlp("tanh"), digits()
    models.scale_kernel(model, 0, 4.0)
    values = model.layers[0](x[:64]).numpy().astype(np.float64)
    expected = float(np.mean(1 - values**2 <= 1e-2))
    table = check_health(model, x[:64], y[:64]).layers
    assert 0.05 < expected < 0.95
    assert table["saturated"].iloc[0] == pytest.approx(expected, abs=2e-3)
    assert table["dead_units"].isna().all()


def test_activation_moments():
    """Mean and standard deviation of the layer's output."""
    model, (x, y) = small_mlp(), digits()
    values = model.layers[0](x[:64]).numpy()
    row = check_health(model, x[:64], y[:64]).layers.iloc[0]
    np.testing.assert_allclose(
        [row["activation_mean"], row["activation_std"]], [values.mean(), values.std()], rtol=1e-5
    )
