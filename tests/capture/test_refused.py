"""What cannot be observed is refused in words that help, and what Keras accepts is not refused."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from trainobs.errors import InvalidArgument

OTHER_BACKEND = """
import keras, numpy as np, trainobs
from trainobs.errors import UnsupportedBackend
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
for attempt in (
    lambda: trainobs.explain_near_zero_gradients(model, np.ones((2, 4)), np.ones((2, 3))),
    lambda: trainobs.capture_batch(model, np.ones((2, 4)), np.ones((2, 3))),
):
    try:
        attempt()
    except UnsupportedBackend as error:
        print(error)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="Keras' NumPy backend imports JAX")
def test_other_backend():
    """Keras on NumPy: the error names the backend and the environment variable to set."""
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    above = os.path.dirname(os.path.dirname(trainobs.__file__))
    command = [sys.executable, "-c", OTHER_BACKEND]
    done = subprocess.run(command, env=environment, cwd=above, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "backend is 'numpy'" in line and "KERAS_BACKEND=tensorflow" in line


def unbuilt(*stack):
    """A Sequential that does not know its input yet."""
    return zoo.compiled(keras.Sequential([*stack, keras.layers.Dense(8, "relu"), keras.layers.Dense(10)]))


class LateLayers(keras.Model):
    """Makes its layers when it is built."""

    def build(self, shape):
        self.only = keras.layers.Dense(10, name="dense")
        self.only.build(shape)

    def call(self, inputs):
        return self.only(inputs)


@pytest.mark.parametrize(
    "make",
    [unbuilt, lambda: zoo.compiled(zoo.Subclassed()), lambda: zoo.compiled(LateLayers())],
    ids=["sequential", "own", "late"],
)
def test_unbuilt_model_is_recorded(make):
    """A model that its first batch builds is recorded from that batch on."""
    x, y = zoo.digits()
    recorder = trainobs.Recorder(every=2)
    make().fit(x, y, batch_size=zoo.BATCH, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (0, 2, 4)
    assert all(site.kernel_gradient is not None for record in recorder.recording for site in record.sites)


@pytest.mark.parametrize("make", [unbuilt, lambda: zoo.compiled(zoo.Subclassed())], ids=["sequential", "own"])
def test_layers_that_an_unbuilt_model_does_not_have(make):
    """The layers there are, are listed as soon as they are known."""
    x, y = zoo.digits()
    with pytest.raises(InvalidArgument, match=r"matches no layer with a kernel.*dense.* \(Dense\)"):
        make().fit(x, y, verbose=0, callbacks=[trainobs.Recorder(layers="nothing")])


def test_unbuilt_model_without_data():
    """A model that was never called can be explained with data only."""
    with pytest.raises(InvalidArgument, match="needs data: pass `x` and `y`"):
        trainobs.explain_near_zero_gradients(unbuilt())


@pytest.mark.parametrize("shape", [(8, 5), (64,), (8, 8, 8), (8, 64, 1, 1)], ids=str)
@pytest.mark.parametrize("call", [trainobs.capture_batch, trainobs.explain_near_zero_gradients])
def test_wrong_shape(call, shape):
    """Expected and received shape are said, whatever the number of axes."""
    expected = rf"wrong shape. Expected \(None, 64\).*Received \({', '.join(map(str, shape))},?\)"
    with pytest.raises(InvalidArgument, match=expected):
        call(zoo.compiled(zoo.net()), np.ones(shape, "float32"), np.zeros(shape[0], "int64"))


def test_dataset_without_batches():
    """A dataset of samples, which someone forgot to batch, has the wrong shape."""
    data = tf.data.Dataset.from_tensor_slices(zoo.digits())
    with pytest.raises(InvalidArgument, match=r"Expected \(None, 64\).*Received \(64,\)"):
        trainobs.explain_near_zero_gradients(zoo.compiled(zoo.net()), data)


def test_generator_with_y():
    """A generator brings its own targets."""
    with pytest.raises(InvalidArgument, match="has its own targets"):
        trainobs.explain_near_zero_gradients(zoo.compiled(zoo.net()), zoo.batches(), zoo.digits()[1])


def test_empty_generator():
    """A generator that yields nothing."""
    with pytest.raises(InvalidArgument, match=r"data is empty.*at least one sample"):
        trainobs.explain_near_zero_gradients(zoo.compiled(zoo.net()), iter(()))


def test_length_of_sample_weights():
    """Sample weights of another length than x: all lengths are said."""
    x, y = zoo.digits()
    with pytest.raises(InvalidArgument, match=r"same length.*\[8, 8, 5\]"):
        trainobs.capture_batch(zoo.compiled(zoo.net()), x[:8], y[:8], np.ones(5))


def test_missing_targets():
    """Without the targets that the loss needs, Keras' own words come through."""
    with pytest.raises(ValueError, match=r"Exactly one label|y_true|None"):
        trainobs.capture_batch(zoo.compiled(zoo.net()), zoo.digits()[0][:8])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": [True]}, "step numbers from 0"),
        ({"at": [1.5]}, "step numbers from 0"),
        ({"at": "10"}, "step numbers from 0"),
        ({"at": 1.5}, "step numbers from 0"),
        ({"every": True}, "positive integer.*every=True"),
        ({"every": "10"}, "positive integer.*every='10'"),
        ({"near_zero": 0.1}, r"trainobs\.NearZero.*0\.1"),
        ({"keep": None}, r"one of \('tensors', 'statistics'\).*None"),
        ({"max_bytes": -1}, "positive integer.*max_bytes=-1"),
        ({"max_bytes": 1e9}, "positive integer.*max_bytes=1000000000"),
        ({"layers": 3}, "layer name, a pattern, a layer class"),
    ],
    ids=str,
)
def test_recorder(arguments, message):
    """A Recorder refuses what cannot work when it is made, with what came and what was expected."""
    with pytest.raises(InvalidArgument, match=message):
        trainobs.Recorder(**arguments)


@pytest.mark.parametrize("arguments", [(-1,), (10.5,), ("x",), (10, 0), (10, 1.5)], ids=str)
def test_log_spaced(arguments):
    """So does a log-spaced schedule."""
    with pytest.raises(InvalidArgument, match=r"`last` must be .*`per_decade`"):
        trainobs.log_spaced(*arguments)


@pytest.mark.parametrize(
    "model", ["model", None, keras.layers.Dense(3), zoo.net], ids=["str", "None", "layer", "function"]
)
def test_what_is_no_model(model):
    """What is no model is named with its type."""
    with pytest.raises(InvalidArgument, match=r"Expected a compiled `keras\.Model`.*of type"):
        trainobs.capture_batch(model, *zoo.digits())


def test_nan_is_recorded_as_it_is():
    """A step with NaN in it is recorded and explained, from the data that brings it."""
    x, y = zoo.digits()
    x = x.copy()
    x[0, 3] = np.nan
    recorder = trainobs.Recorder(every=1)
    model = zoo.compiled(zoo.net())
    model.fit(x, y, batch_size=zoo.BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    for step, words in ((0, "data that hidden reads"), (5, "kernel of hidden")):
        findings = trainobs.explain_near_zero_gradients(recorder, step=step).findings
        assert list(findings[["cause", "layer"]].iloc[0]) == ["non_finite", "hidden"]
        assert words in findings.evidence.iloc[0]
