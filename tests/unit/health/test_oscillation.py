"""The loss between checks, and how much it oscillates."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from tests.unit.health.nets import causes, fitted
from trainobs.health import GradientHealth
from trainobs.health._oscillation import LossHistory, oscillation
from trainobs.thresholds import Thresholds

layers = keras.layers


class TestOscillation:
    def test_share_of_turning_points(self):
        """Only turns with a swing on both sides count."""
        assert oscillation([1, 2, 1, 2, 1], 0.03) == 1
        assert oscillation([1, 1.01, 1, 1.01, 1], 0.03) == 0
        assert oscillation([3, 2, 1, 2, 3], 0.03) == pytest.approx(1 / 3)
        assert oscillation([1, 2, 1, 2, 1], 0.03, noise=2.0) == 0
        assert math.isnan(oscillation([1, 2], 0.03)) and math.isnan(oscillation([1, math.nan, 1], 0.03))

    def test_points_from_running_means(self):
        """The mean loss of a stretch comes from the running means at its ends, epoch by epoch."""
        losses = np.random.default_rng(0).random(40)
        means = np.cumsum(losses) / np.arange(1, 41)
        history = LossHistory(Thresholds(oscillation_steps=10))
        for steps in (1, 11, 15, 21, 40):
            history.add(steps, means[steps - 1])
        history.begin_epoch()
        history.add(12, 7.0)
        expected = [losses[:11].mean(), losses[11:21].mean(), losses[21:].mean(), 7.0]
        np.testing.assert_allclose(list(history.points), expected)

    @pytest.mark.parametrize(("rate", "oscillates"), [(0.01, False), (2.5, True)])
    def test_in_a_fit(self, rate, oscillates):
        """A learning rate beyond the stable one makes the loss swing."""
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(rate), "mae")
        thresholds = Thresholds(oscillation_steps=1)
        health = GradientHealth(every=1, act=(), thresholds=thresholds)
        x = np.full((8, 1), 1.0, "float32")
        fitted(model, health, x=x, y=3 * x, epochs=1, batch_size=1)
        assert math.isnan(health.report.oscillation)  # too few points
        fitted(model, health, x=np.tile(x, (3, 1)), y=3 * np.tile(x, (3, 1)), batch_size=1)
        assert ("oscillation" in causes(health.report)) == oscillates
