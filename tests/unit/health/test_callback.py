"""The callback in a fit."""

from __future__ import annotations

import warnings

import keras
import numpy as np

import trainobs
from tests.faults import models
from tests.unit.health.nets import causes, digits, fitted, small_mlp
from trainobs.health import GradientHealth, HealthWarning, check_health
from trainobs.thresholds import Thresholds

layers = keras.layers


class TestCallback:
    def test_training_is_bit_equal(self):
        """With and without the callback, seeded alike, all weights are the same bits."""
        weights = []
        for callbacks in ([], [GradientHealth(every=3, act=("warn",), thresholds=Thresholds())]):
            keras.utils.clear_session()
            keras.utils.set_random_seed(1)
            model = models.normalised_cnn(layers.BatchNormalization())
            x, y = models.small_images()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HealthWarning)
                model.fit(x[:640], y[:640], epochs=2, batch_size=32, verbose=0, callbacks=callbacks)
            weights.append(model.get_weights())
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))

    def test_history_and_reports(self):
        """Tidy figures of each check, and reports that hold no tensors."""
        health = GradientHealth(every=10, act=())
        fitted(small_mlp(), health)
        assert [report.step for report in health.reports] == [0, 10, 20]
        assert health.report is health.reports[-1] and "20" in repr(health)
        history = health.history
        norms = history[history["figure"] == "global_norm"]["value"]
        assert norms.tolist() == [report.global_norm for report in health.reports]
        assert not history["value"].isna().any()
        assert not [v for r in health.reports for v in vars(r).values() if isinstance(v, np.ndarray)]
        assert {"gradient_norm", "update_ratio", "dead_units", "shift"} <= set(history["figure"])

    def test_reports_are_those_of_a_recorder(self):
        """A check sees what a Recorder records beside it, also where several steps are one execution."""
        model = small_mlp()
        model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=4)
        health, recorder = GradientHealth(every=6, act=()), trainobs.Recorder(every=6)
        model.fit(*digits(), batch_size=64, verbose=0, callbacks=[health, recorder])
        assert tuple(report.step for report in health.reports) == recorder.recording.steps
        for report in health.reports:
            assert report.global_norm == check_health(recorder, step=report.step).global_norm

    def test_warns_once(self):
        """A finding is warned of once per rule and layer, with what to do."""
        model = small_mlp()
        name = models.shift_bias(model, 0, -100.0)
        texts = fitted(model, GradientHealth(every=5))
        dead = [text for text in texts if f"units of {name} never fire" in text]
        assert len(dead) == 1 and "use leaky ReLU" in dead[0] and dead[0].startswith("Step 0: ")
        assert fitted(model, GradientHealth(every=5, act=())) == []

    def test_a_healthy_fit_is_quiet(self):
        """No warning in a training that goes well."""
        model = models.normalised_cnn(layers.BatchNormalization())
        x, y = models.small_images()
        assert fitted(model, GradientHealth(every=10), x=x, y=y, epochs=2) == []

    def test_stops(self):
        """Training ends at an error, and it is said why."""
        model = small_mlp()
        models.shift_bias(model, 0, -100.0)
        health = GradientHealth(every=4, act=("stop",))
        texts = fitted(model, health, epochs=3)
        assert len(health.reports) == 1 and int(model.optimizer.iterations) == 1
        assert texts[0].startswith("Training stops at step 0: ")
        assert "dead_units" in causes(health.report, "error")

    def test_layers(self):
        """Only the layers asked for are checked."""
        model = small_mlp()
        health = GradientHealth(layers=model.layers[1].name, act=())
        fitted(model, health)
        assert set(health.report.layers["layer"]) == {model.layers[1].name}
