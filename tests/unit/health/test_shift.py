"""How far activations move from check to check."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

import trainobs
from tests.faults import models
from tests.unit.health.nets import causes, digits, severity, small_mlp
from trainobs.health import check_health
from trainobs.health._samples import distance, samples_of, shift


class TestShift:
    def test_distance_is_that_of_kolmogorov_and_smirnov(self):
        """As SciPy has it, for samples with and without equal values."""
        stats = pytest.importorskip("scipy.stats")
        random = np.random.default_rng(0)
        for move in (0.5, 1.0, 3.0):
            first = np.sort(np.maximum(random.normal(size=500), 0))
            second = np.sort(np.maximum(random.normal(move, size=400), 0))
            assert distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)

    def test_scale_and_chance(self):
        """Units of measurement don't matter, and what chance alone may do is 0."""
        random = np.random.default_rng(0)
        first, second = np.sort(random.normal(size=1000)), np.sort(random.normal(1, size=1000))
        assert (
            distance(first * 1e-5, second * 1e-5) == distance(first, second) == pytest.approx(0.38, abs=0.05)
        )
        assert distance(first, np.sort(random.normal(size=1000))) == 0

    def test_large_effect(self):
        """The threshold's source: 0.8 standard deviations are a distance of 0.31."""
        random = np.random.default_rng(0)
        first, second = np.sort(random.normal(size=100_000)), np.sort(random.normal(0.8, size=100_000))
        assert distance(first, second) == pytest.approx(math.erf(0.4 / math.sqrt(2)), abs=0.01)

    def test_samples(self):
        """A sample stands for its layer: the same values at two checks have no distance, moved ones have."""
        model, (x, y) = small_mlp(), digits()
        record = trainobs.capture_batch(model, x[:512], y[:512])
        models.shift_bias(model, 0, 1.0)
        moved = trainobs.capture_batch(model, x[:512], y[:512])
        first, second = samples_of(record.sites), samples_of(moved.sites)
        name = model.layers[0].name
        assert shift(first[name], first[name]) == 0 and shift(first[name], second[name]) > 0.3
        assert math.isnan(shift({}, second[name]))


def test_shift_rule():
    """Activations that moved since the recorded step before."""
    model, recorder = small_mlp(), trainobs.Recorder(every=1)
    x, y = digits()
    move = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: models.shift_bias(model, 0, 5.0) if batch == 1 else None
    )
    model.fit(x[:256], y[:256], batch_size=64, verbose=0, callbacks=[recorder, move])
    assert "shift" not in causes(check_health(recorder, step=1))
    moved = check_health(recorder, step=2)
    assert severity(moved, "shift") == "info"
    assert moved.layers["shift"].iloc[0] > 0.3 and not math.isnan(moved.layers["update_ratio"].iloc[0])
