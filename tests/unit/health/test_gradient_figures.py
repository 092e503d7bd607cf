"""Figures of gradients, against the tape."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.faults import models
from tests.unit.health.nets import MODELS, causes, digits, shared_layer, small_mlp
from trainobs.health import check_health
from trainobs.health._figures import figures
from trainobs.health._gradients import Moved
from trainobs.thresholds import Thresholds

layers = keras.layers


def true_gradients(model: keras.Model, x, y) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    paths = [variable.path for variable in model.trainable_variables]
    return {path: tf.convert_to_tensor(g).numpy() for path, g in zip(paths, gradients, strict=True)}


@pytest.mark.parametrize("name", MODELS)
def test_gradient_figures_are_those_of_the_tape(name):
    """Each weight counts once: norms, means and maxima, and the global norm, are the true ones."""
    make, data = MODELS[name]
    model, (x, y) = make(), data()
    x, y = tf.constant(x[:32]), tf.constant(y[:32])
    true = true_gradients(model, x, y)
    report = check_health(model, x, y)
    assert sorted(report.layers.index) == sorted(true)
    np.testing.assert_allclose(report.global_norm, tf.linalg.global_norm(list(true.values())), rtol=1e-4)
    table = report.layers
    for path, gradient in true.items():
        row = table.loc[path]
        whole = gradient if row["role"] != "table" else gradient[np.unique(x)]
        np.testing.assert_allclose(row["gradient_norm"], np.linalg.norm(gradient), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(row["gradient_mean_abs"], np.mean(np.abs(whole)), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(row["gradient_max_abs"], np.max(np.abs(whole)), rtol=1e-4, atol=1e-9)
        assert row["size"] == gradient.size and row["non_finite"] == 0


def test_frozen_weights_have_no_gradient_figures():
    """A weight that does not train is in the table, with nothing to say, and no finding."""
    model = small_mlp()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    report = check_health(model, *(part[:64] for part in digits()))
    row = report.layers.iloc[0]
    assert not row["trainable"] and math.isnan(row["gradient_norm"]) and report.healthy
    assert report.layers["trainable"].tolist() == [False, False, True, True, True, True]


def test_what_all_calls_cancel_is_cancelled():
    """The record says of each call whether the layers behind take the bias away; all of them have to."""
    model = shared_layer()
    record = trainobs.capture_batch(model, *(part[:8] for part in digits()))
    for cancelling, expected in (({0}, False), ({0, 1}, True)):
        sites = tuple(
            dataclasses.replace(site, cancels=site.role == "bias" and site.call in cancelling)
            for site in record.sites
        )
        weights = figures(dataclasses.replace(record, sites=sites), Thresholds(), Moved())
        known = {weight.weight: weight.cancelled for weight in weights}
        assert known["shared/bias"] is expected and not known["shared/kernel"]


def test_a_gradient_that_is_zero_by_design_is_no_finding():
    """A bias that a normalisation takes away again does not vanish."""
    start = keras.Input((64,))
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Dense(16, name="hidden")(start)))
    report = check_health(models.classifier(start, hidden), *(part[:64] for part in digits()))
    assert report.layers.loc["hidden/bias", "gradient_norm"] < 1e-7
    assert report.layers.loc["hidden/bias", "cancelled"]
    assert "vanishing" not in causes(report) and not report.flow["vanishing"]
