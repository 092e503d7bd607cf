"""When a Recorder records, what it keeps, and what it lets go."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import trainobs
from trainobs.statistics import Statistics

X, Y = np.random.default_rng(0).random((64, 4), np.float32), np.zeros((64, 3), "float32")


def dense_model(**options):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    return model


def recorded(recorder, model=None, epochs=1, batch_size=8, **options):
    (model or dense_model()).fit(
        X, Y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[recorder], **options
    )
    return recorder.recording


class TestSchedule:
    def test_every(self):
        """`every` records step 0 and each multiple."""
        assert recorded(trainobs.Recorder(every=3)).steps == (0, 3, 6)

    def test_default_is_every_hundredth(self):
        """Without a schedule every hundredth step is recorded."""
        assert recorded(trainobs.Recorder(), epochs=13).steps == (0, 100)

    def test_at(self):
        """`at` records just these steps."""
        assert recorded(trainobs.Recorder(at=[1, 5, 99])).steps == (1, 5)

    def test_log_spaced(self):
        """A log-spaced schedule is dense early and sparse later."""
        assert trainobs.log_spaced(30) == (0, 1, 2, 3, 6, 10, 18)
        assert recorded(trainobs.Recorder(at=trainobs.log_spaced(30))).steps == (0, 1, 2, 3, 6)

    def test_steps_count_on_over_fits(self):
        """Steps are counted over epochs and over `fit` calls; the epoch is that of its fit."""
        recorder, model = trainobs.Recorder(every=5), dense_model()
        recorded(recorder, model, epochs=2)
        recording = recorded(recorder, model)
        assert recording.steps == (0, 5, 10, 15, 20)
        assert [record.epoch for record in recording] == [0, 0, 1, 1, 0]

    def test_steps_per_execution(self):
        """With several steps per execution the last step of one with a due step is recorded."""
        recording = recorded(trainobs.Recorder(every=3), dense_model(steps_per_execution=2))
        assert recording.steps == (1, 3, 7)


class TestRecords:
    def test_recorded_step_is_the_applied_one(self):
        """Weights after a recorded step are those before minus learning rate times its gradient."""
        model = dense_model()
        record = recorded(trainobs.Recorder(at=[7]), model).at(7)
        trained = {variable.path: variable.numpy() for variable in model.trainable_variables}
        assert [site.weight for site in record.sites] == list(trained)
        for site in record.sites:
            after = trained[site.weight]
            np.testing.assert_array_equal(after, site.kernel - np.float32(0.1) * site.kernel_gradient)

    def test_loss_is_that_of_the_batch(self):
        """The loss is the batch's own, not Keras' running mean."""
        record = recorded(trainobs.Recorder(at=[5])).at()
        prediction = record.outputs[0].value
        assert record.loss == pytest.approx(np.mean((prediction - record.outputs[0].target) ** 2), rel=1e-6)

    def test_consumers_give_the_next_gradient(self):
        """dJ/dW_{l+1} is at hand by the site's consumers."""
        record = recorded(trainobs.Recorder()).at()
        (consumer,) = record.site("hidden").consumers
        assert record.site(consumer).layer == "head"
        assert record.site(consumer).kernel_gradient.shape == (5, 3)

    def test_ragged_last_batch(self):
        """A smaller last batch is recorded as it is."""
        recording = recorded(trainobs.Recorder(every=1), batch_size=24)
        assert [record.site("head").positions for record in recording] == [24, 24, 16]

    def test_no_retrace_per_step(self):
        """Many due steps trace the twin once (and once more for the ragged batch's shape)."""
        traces = []

        class Counting(keras.Sequential):
            def train_step(self, data):
                traces.append(1)
                return super().train_step(data)

        model = Counting([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", "mse")
        model.fit(X, Y, batch_size=24, epochs=4, verbose=0)
        own = len(traces)
        model.fit(X, Y, batch_size=24, epochs=4, verbose=0, callbacks=[trainobs.Recorder(every=1)])
        assert len(traces) - own <= own


class TestKeep:
    @pytest.mark.parametrize(
        "layers", ["head", "he*", "sequential/head", [keras.layers.Dense], ["head", "hidden"]]
    )
    def test_layers(self, layers):
        """Only the layers asked for are recorded: by name, pattern, path, or class."""
        model = keras.Sequential(dense_model().layers, name="sequential")
        model.compile("sgd", "mse")
        names = {site.layer for site in recorded(trainobs.Recorder(layers=layers), model).at().sites}
        assert "head" in names
        assert ("hidden" in names) == isinstance(layers, list)

    def test_statistics_say_the_same(self):
        """Records of statistics give the same report as records of tensors, without the arrays."""
        tensors, statistics = trainobs.Recorder(at=[3]), trainobs.Recorder(at=[3], keep="statistics")
        keras.utils.set_random_seed(1)
        a = recorded(tensors, dense_model())
        keras.utils.set_random_seed(1)
        keras.utils.clear_session()
        b = recorded(statistics, dense_model())
        assert isinstance(b.at(), Statistics)
        a, b = (trainobs.explain_near_zero_gradients(recording).layers for recording in (a, b))
        np.testing.assert_array_equal(
            a.to_numpy()[:, 6:-2].astype(float), b.to_numpy()[:, 6:-2].astype(float)
        )

    def test_newest_records_stay_and_it_is_said_once(self):
        """Beyond max_bytes the oldest records go, with one warning."""
        size = recorded(trainobs.Recorder(at=[0])).at().nbytes
        recorder = trainobs.Recorder(every=1, max_bytes=3 * size)
        with pytest.warns(UserWarning, match="let the record of step 0 go") as caught:
            recording = recorded(recorder)
        assert recording.steps[-1] == 7
        assert 2 <= len(recording.steps) <= 3
        assert sum(record.nbytes for record in recording) <= 3 * size
        assert sum("let the record" in str(w.message) for w in caught) == 1

    def test_a_step_that_is_too_large_is_not_held(self):
        """max_bytes bounds even one record; training goes on, and the warning says what to do."""
        size = recorded(trainobs.Recorder(at=[0])).at().nbytes
        recorder = trainobs.Recorder(every=1, max_bytes=size - 1)
        told = r"step 0 takes [\d,]+ by itself.*Raise `max_bytes`"
        with pytest.warns(UserWarning, match=told) as caught:
            recording = recorded(recorder)
        assert not recording.steps and len(caught) == 1
        with pytest.raises(trainobs.errors.NotRecorded, match="`max_bytes` is not kept"):
            recording.at()
