"""Recordings of a small training: tensors, and statistics."""

import keras
import numpy as np
import pytest

import trainobs
from trainobs.recording import Recording


@pytest.fixture(scope="package")
def recordings() -> dict[str, Recording]:
    """By what was kept."""
    return {keep: recorded(keep) for keep in ("tensors", "statistics")}


@pytest.fixture(params=["tensors", "statistics"])
def recording(request, recordings) -> Recording:
    """Each of them in turn."""
    return recordings[request.param]


def recorded(keep: str) -> Recording:
    """Three steps of a small network with a convolution, a table and a penalty."""
    keras.utils.set_random_seed(0)
    images, words = keras.Input((6, 6, 2)), keras.Input((3,), dtype="int32")
    seen = keras.layers.Conv2D(3, 3, strides=2, activation="relu", kernel_regularizer="l2")(images)
    read = keras.layers.Embedding(5, 4)(words)
    both = keras.layers.Concatenate()([keras.layers.Flatten()(seen), keras.layers.Flatten()(read)])
    model = keras.Model([images, words], keras.layers.Dense(4, activation="softmax")(both))
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    data = [rng.random((40, 6, 6, 2), np.float32), rng.integers(0, 5, (40, 3))]
    recorder = trainobs.Recorder(every=2, keep=keep)
    model.fit(data, rng.integers(0, 4, 40), batch_size=8, verbose=0, callbacks=[recorder])
    return recorder.recording
