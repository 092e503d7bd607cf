"""Bad input gets a clear error: what came, what was expected, what to do. Broken numbers are no crash."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from trainobs.errors import InvalidArgument, ModelNotReady, NotRecorded, UnsupportedBackend

X, Y = np.ones((8, 4), "float32"), np.zeros((8, 3), "float32")


def dense_model(compiled=True, **options):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    if compiled:
        model.compile("sgd", options.pop("loss", "mse"), **options)
    return model


def explain(*args, **kwargs):
    return trainobs.explain_near_zero_gradients(*args, **kwargs)


class TestModel:
    def test_uncompiled(self):
        """A model without a loss to differentiate: compile it."""
        with pytest.raises(ModelNotReady, match=r"is not compiled.*Call `model\.compile"):
            explain(dense_model(compiled=False), X, Y)

    def test_no_loss(self):
        """A model compiled without any loss: name one."""
        with pytest.raises(ModelNotReady, match=r"has no loss.*compile\(loss="):
            explain(dense_model(loss=None), X, Y)

    def test_unbuilt_is_built_by_the_data(self):
        """A model that was never called is built by the first batch."""
        model = keras.Sequential([keras.layers.Dense(3)])
        model.compile("sgd", "mse")
        assert list(explain(model, X, Y).layers["shape"]) == [(4, 3), (3,)]

    def test_no_model(self):
        """Something that is no model is named with its type."""
        with pytest.raises(InvalidArgument, match=r"Expected a compiled `keras\.Model`.*type int"):
            explain(3, X, Y)

    def test_no_weights(self):
        """A model without weights: its layers are listed."""
        model = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0), keras.layers.ReLU()])
        model.compile("sgd", "mse")
        with pytest.raises(
            ModelNotReady, match=r"has no weights, so it has no gradients to explain.*ReLU, Rescaling"
        ):
            explain(model, X, X)

    def test_fit_without_weights(self):
        """A Recorder says so before the first step."""
        model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
        model.compile("sgd", "mse")
        with pytest.raises(ModelNotReady, match="has no weights, so it has no gradients to explain"):
            model.fit(X, X, verbose=0, callbacks=[trainobs.Recorder()])

    def test_no_kernel_is_no_reason(self):
        """A model whose only weights are those of an activation has a row for them, recorded or not."""
        model = keras.Sequential([keras.Input((4,)), keras.layers.PReLU()])
        model.compile("sgd", "mse")
        recorder = trainobs.Recorder()
        model.fit(X, X, verbose=0, callbacks=[recorder])
        for report in (explain(model, X, X), explain(recorder.recording)):
            assert list(report.layers["shape"]) == [(4,)]

    def test_other_backend(self, monkeypatch):
        """On another Keras backend the error says which environment variable to set.

        Keras' other backends need JAX or Torch, too large for a test: only its answer is replaced.
        """
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(UnsupportedBackend, match=r"backend is 'jax'.*KERAS_BACKEND=tensorflow"):
            explain(dense_model(), X, Y)


class TestData:
    def test_none(self):
        """A model needs data."""
        with pytest.raises(InvalidArgument, match="A model needs data"):
            explain(dense_model())

    @pytest.mark.parametrize("call", [explain, trainobs.capture_batch], ids=["explain", "capture_batch"])
    def test_empty(self, call):
        """An empty batch has nothing to explain."""
        with pytest.raises(InvalidArgument, match="empty"):
            call(dense_model(), X[:0], Y[:0])

    def test_empty_dataset(self):
        """A dataset without batches has nothing to explain."""
        with pytest.raises(InvalidArgument, match="The data is empty"):
            explain(dense_model(), tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(2))

    @pytest.mark.parametrize("call", [explain, trainobs.capture_batch], ids=["explain", "capture_batch"])
    def test_lengths(self, call):
        """x and y of different length: both lengths are said."""
        with pytest.raises(InvalidArgument, match=r"same length.*\[5, 8\]|same length.*\[8, 5\]"):
            call(dense_model(), X, Y[:5])

    def test_shape(self):
        """A batch of the wrong shape: expected and received shapes are said."""
        with pytest.raises(InvalidArgument, match=r"Expected \(None, 4\).*Received \(8, 7\)"):
            explain(dense_model(), np.ones((8, 7)), Y)

    def test_endless_dataset(self):
        """A dataset that never ends: take some of it."""
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat()
        with pytest.raises(InvalidArgument, match=r"never ends.*take\(100\)"):
            explain(dense_model(), data)

    def test_dataset_with_y(self):
        """A dataset brings its own targets."""
        with pytest.raises(InvalidArgument, match="its own targets"):
            explain(dense_model(), tf.data.Dataset.from_tensor_slices((X, Y)).batch(2), Y)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"layers": "conv*"}, r"matches no layer.*hidden \(Dense\), head \(Dense\)"),
            ({"layers": 3}, "layer name, a pattern, a layer class"),
            ({"layers": [3]}, r"names, patterns or layer classes.*type int"),
            ({"backprop": "magic"}, r"one of \('tape', 'pinv'\).*'magic'"),
            ({"batch_size": 0}, "positive integer.*0"),
            ({"near_zero": 0.1}, r"trainobs\.NearZero.*0\.1"),
            ({"step": 3}, "goes with a Recorder or Recording"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_explain(self, arguments, message):
        """Each argument is checked by name, with what would be right."""
        with pytest.raises(InvalidArgument, match=message):
            explain(dense_model(), X, Y, **arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"every": 2, "at": [3]}, "either `every` or `at`"),
            ({"every": 0}, "positive integer.*every=0"),
            ({"every": -5}, "positive integer.*every=-5"),
            ({"every": 2.5}, "positive integer.*every=2.5"),
            ({"at": []}, "step numbers from 0"),
            ({"at": [-1]}, "step numbers from 0"),
            ({"keep": "all"}, r"one of \('tensors', 'statistics'\).*'all'"),
            ({"max_bytes": 0}, "positive integer.*max_bytes=0"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_recorder(self, arguments, message):
        """A Recorder refuses what can't work when it is made."""
        with pytest.raises(InvalidArgument, match=message):
            trainobs.Recorder(**arguments)

    def test_recorder_layers_that_match_nothing(self):
        """Layers that match nothing are said before the first step, with those there are."""
        with pytest.raises(InvalidArgument, match=r"matches no layer.*hidden \(Dense\)"):
            dense_model().fit(X, Y, verbose=0, callbacks=[trainobs.Recorder(layers="conv*")])

    def test_names_of_a_report(self):
        """A layer that a report does not have: those it has are listed."""
        with pytest.raises(NotRecorded, match=r"'nope'.*hidden, head"):
            explain(dense_model(), X, Y).units("nope")


class TestRecordings:
    def test_empty(self):
        """An empty recording: let a due step come."""
        with pytest.raises(NotRecorded, match="recording is empty"):
            explain(trainobs.Recorder())

    def test_step_that_was_not_recorded(self):
        """A step that was not recorded: those that were are listed."""
        recorder = trainobs.Recorder(every=2)
        dense_model().fit(X, Y, batch_size=2, verbose=0, callbacks=[recorder])
        with pytest.raises(NotRecorded, match=r"Step 1 was not recorded.*\[0, 2\]"):
            explain(recorder, step=1)

    def test_data_beside_a_recording(self):
        """A recording holds its own data."""
        recorder = trainobs.Recorder()
        dense_model().fit(X, Y, verbose=0, callbacks=[recorder])
        with pytest.raises(InvalidArgument, match="has its own data"):
            explain(recorder, X, Y)


class TestBrokenNumbers:
    """NaN and infinite values are no crash: the report names the first place."""

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_data(self, value):
        """Broken data is found at the layer that reads it."""
        x = X.copy()
        x[2, 1] = value
        report = explain(dense_model(), x, Y)
        assert list(report.findings[["cause", "layer"]].iloc[0]) == ["non_finite", "hidden"]
        assert "data" in report.findings.evidence.iloc[0]
        assert repr(report)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights(self, value):
        """A broken weight is found at its layer."""
        model = dense_model()
        kernel = model.get_layer("head").kernel.numpy()
        kernel[0, 0] = value
        model.get_layer("head").kernel.assign(kernel)
        report = explain(model, X, Y)
        assert list(report.findings[["cause", "layer"]].iloc[0]) == ["non_finite", "head"]

    def test_gradients(self):
        """A loss with a broken gradient is found going back from the loss."""
        model = dense_model(loss=lambda y, p: keras.ops.sqrt(keras.ops.sum(0.0 * p, axis=-1)))
        report = explain(model, X, Y)
        assert list(report.findings[["cause", "layer"]].iloc[0]) == ["non_finite", "head"]
        assert report.layers.near_zero.isna().all()
