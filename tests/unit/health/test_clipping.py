"""Adaptive clipping in a fit."""

from __future__ import annotations

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.unit.health.nets import digits, fitted, small_mlp, thousandfold_loss
from trainobs.errors import InvalidArgument
from trainobs.health import GradientHealth, HealthWarning
from trainobs.health._clipping import clip_value
from trainobs.thresholds import Thresholds


class Breaking(keras.callbacks.Callback):
    """Breaks a fit off at a batch."""

    def __init__(self, batch: int, where: str) -> None:
        super().__init__()
        self.batch, self.where = batch, where

    def on_train_batch_begin(self, batch, logs=None):
        if self.where == "begin" and batch == self.batch:
            raise KeyError("broken")

    def on_train_batch_end(self, batch, logs=None):
        if self.where == "end" and batch == self.batch:
            raise KeyError("broken")


class TestClipping:
    def exploding(self, optimizer=None) -> keras.Model:
        """Gradients of a thousandfold loss, and a rate at which they do no harm."""
        model = small_mlp(optimizer=optimizer or keras.optimizers.SGD(1e-6))
        model.compile(model.optimizer, thousandfold_loss)
        return model

    def test_value(self):
        """The median of the healthy norms, or the middle of the band."""
        assert clip_value([0.01, 2.0, 4.0, 3.0, math.nan, 50.0], (0.1, 10.0)) == 3.0
        assert clip_value([], (0.1, 10.0)) == pytest.approx(1.0)

    @pytest.mark.parametrize("eager", [False, True])
    def test_updates_are_clipped(self, eager):
        """From the next step on, due or not, an update is at most rate × norm; the first one is not."""
        model = self.exploding()
        model.compile(model.optimizer, thousandfold_loss, run_eagerly=eager)
        sizes, held = [], [model.get_weights()]

        def measure(batch, logs):
            held.append(model.get_weights())
            change = [a - b for a, b in zip(held[-1], held[-2], strict=True)]
            sizes.append(float(tf.linalg.global_norm(change)) / 1e-6)

        health = GradientHealth(every=3, act=("clip",))
        x, y = digits()
        with pytest.warns(HealthWarning, match="from now on gradients are clipped to a global norm of 1"):
            model.fit(
                x[:512], y[:512], batch_size=64, verbose=0,
                callbacks=[health, keras.callbacks.LambdaCallback(on_train_batch_end=measure)],
            )  # fmt: skip
        assert sizes[0] > 100
        np.testing.assert_allclose(sizes[1:], 1.0, rtol=0.2)  # float32 weights round such small steps
        assert all(report.global_norm > 100 for report in health.reports)  # measured before clipping
        assert model.optimizer.global_clipnorm is None

    def test_nothing_stays(self):
        """After the fit model and optimizer have their own again: a step is not clipped."""
        model, health = self.exploding(), GradientHealth(every=2, act=("clip",))
        assert len(fitted(model, health)) == 1
        assert model.optimizer.global_clipnorm is None
        x, y = digits()
        before = model.get_weights()
        model.train_on_batch(x[:64], y[:64])
        change = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
        assert float(tf.linalg.global_norm(change)) / 1e-6 > 100
        assert len(fitted(model, health)) == 1  # and clips again in the next fit

    @pytest.mark.parametrize("where", ["begin", "end"])
    @pytest.mark.parametrize("batch", [5, 6])
    @pytest.mark.parametrize("order", [1, -1])
    def test_nothing_stays_after_an_exception(self, where, batch, order):
        """Of a callback before or behind it, in a due step or not: the next step is not clipped."""
        model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
        model.make_train_function()
        own = model.train_function
        x, y = digits()
        callbacks = [Breaking(batch, where), health][::order]
        with pytest.raises(KeyError), pytest.warns(HealthWarning):
            model.fit(x, y, batch_size=64, verbose=0, callbacks=callbacks)
        assert model.optimizer.global_clipnorm is None
        before = model.get_weights()
        model.train_on_batch(x[:64], y[:64])
        change = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
        assert float(tf.linalg.global_norm(change)) / 1e-6 > 100
        assert model.optimizer.global_clipnorm is None
        assert model.train_function is own

    @pytest.mark.parametrize("batches", [5, 6])
    @pytest.mark.parametrize("order", [1, -1])
    def test_nothing_stays_after_a_failing_step(self, batches, order):
        """Data that ends in an error, in a due step or not, or in one that a Recorder beside it wants."""
        model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
        model.make_train_function()
        own = model.train_function
        callbacks = [health, trainobs.Recorder(at=[5])][::order]
        x, y = digits()

        def data():
            for k in range(batches):
                yield x[64 * k : 64 * (k + 1)], y[64 * k : 64 * (k + 1)]
            yield x[:64], y[:63]

        with pytest.raises(Exception), pytest.warns(HealthWarning):  # noqa: B017, PT011 (Keras' versions differ)
            model.fit(data(), steps_per_epoch=20, verbose=0, callbacks=callbacks)
        assert model.optimizer.global_clipnorm is None
        assert model.train_function is own

    def test_beside_a_recorder(self):
        """Recorders before and behind record their steps, and those are clipped too."""
        for order in (slice(None), slice(None, None, -1)):
            model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
            recorder = trainobs.Recorder(at=[3, 4])
            x, y = digits()
            with pytest.warns(HealthWarning):
                model.fit(x[:384], y[:384], batch_size=64, verbose=0, callbacks=[health, recorder][order])
            assert recorder.recording.steps == (3, 4)
            before, after = (recorder.recording.at(step).sites[0].kernel for step in (3, 4))
            assert np.linalg.norm(after - before) <= 1.2e-6
            assert model.optimizer.global_clipnorm is None

    def test_ends_when_norms_are_healthy_again(self):
        """After so many healthy checks in a row; and it begins at most so many times."""
        thresholds = Thresholds(clip_release=2, clip_most=2)
        health = GradientHealth(every=1, act=("clip",), thresholds=thresholds)
        model = small_mlp(optimizer=keras.optimizers.SGD(1e-6))
        x, y = digits()
        weights = np.ones(640, "float32")
        weights[64:128] = weights[320:384] = 1000.0
        texts = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HealthWarning)
            model.fit(
                x[:640],
                y[:640],
                sample_weight=weights,
                batch_size=64,
                shuffle=False,
                verbose=0,
                callbacks=[health],
            )
        texts = [str(warning.message) for warning in caught if warning.category is HealthWarning]
        assert ["no longer" in text for text in texts] == [False, True, False]
        norms = [report.global_norm for report in health.reports]
        assert f"global norm of {norms[0]:.4g}" in texts[0]  # the only healthy one so far

    @pytest.mark.parametrize("own", [{"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 2.0}])
    def test_an_optimizer_that_clips_is_refused(self, own):
        """Two clippings would hide one another."""
        model = small_mlp(optimizer=keras.optimizers.SGD(0.1, **own))
        with pytest.raises(InvalidArgument, match="the optimizer clips already"):
            fitted(model, GradientHealth(act=("clip",)))

    def test_healthy_norms_are_not_clipped(self):
        """Nothing is done, and training is bit-equal, while norms are healthy."""
        weights = []
        for callbacks in ([], [GradientHealth(every=3, act=("clip",))]):
            keras.utils.set_random_seed(1)
            model = small_mlp()
            model.fit(*digits(), batch_size=64, verbose=0, callbacks=callbacks)
            weights.append(model.get_weights())
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
