"""Figures of weights: their scales, and how far a step moves them."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from tests.faults import models
from tests.unit.health.nets import digits, small_mlp
from trainobs.health import GradientHealth, check_health

layers = keras.layers


def test_weight_scales():
    """He's ratio and Glorot's are those of the initialisers' formulas."""
    start = keras.Input((8, 8, 1))
    he = keras.initializers.HeNormal(seed=0)
    hidden = layers.Conv2D(32, 3, kernel_initializer=he, name="conv")(start)
    hidden = layers.Flatten()(hidden)
    hidden = layers.Dense(64, kernel_initializer="glorot_uniform", name="dense")(hidden)
    model = models.classifier(start, hidden)
    table = check_health(model, *(part[:16] for part in models.small_images())).layers
    kernel = model.get_layer("conv").kernel.numpy()
    assert table.loc["conv/kernel", "weight_rms"] == pytest.approx(np.sqrt(np.mean(kernel**2)))
    assert table.loc["conv/kernel", "he_ratio"] == pytest.approx(1, abs=0.1)
    assert table.loc["conv/kernel", "he_ratio"] == pytest.approx(np.sqrt(np.mean(kernel**2) * 9 / 2))
    assert table.loc["dense/kernel", "glorot_ratio"] == pytest.approx(1, abs=0.02)
    assert math.isnan(table.loc["dense/bias", "he_ratio"])


@pytest.mark.parametrize(
    "make", [lambda: small_mlp(), lambda: models.recurrent(layers.LSTM(6))], ids=["dense", "lstm"]
)
def test_update_ratio_is_measured(make):
    """‖ΔW‖ / ‖W‖ from the weights before and after the step, whatever the optimizer does."""
    model = make()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    x, y = digits() if len(model.input_shape) == 2 else models.rows_of_digits()
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    health = GradientHealth(every=100, act=())
    model.fit(x[:64], y[:64], batch_size=64, verbose=0, callbacks=[health])
    for variable in model.trainable_variables:
        old, ratio = before[variable.path], health.report.layers.loc[variable.path, "update_ratio"]
        if np.any(old):
            assert ratio == pytest.approx(
                np.linalg.norm(variable.numpy() - old) / np.linalg.norm(old), rel=1e-4
            )
        else:
            assert math.isnan(ratio)


def test_update_ratio_of_a_model_is_that_of_gradient_descent():
    """Learning rate times gradient norm against the weight's norm."""
    row = check_health(small_mlp(), *(part[:64] for part in digits())).layers.iloc[0]
    norm = row["weight_rms"] * np.sqrt(row["size"])
    assert row["update_ratio"] == pytest.approx(0.05 * row["gradient_norm"] / norm)
