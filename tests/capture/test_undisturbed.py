"""Training with a Recorder is bit-equal to training without, for every kind of graph in short."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import trainobs

layers = keras.layers


def dense(activation):
    return [keras.Input((64,)), layers.Dense(32, activation), layers.Dense(32, activation)]


def conv(activation):
    convs = [layers.Conv2D(8, 3, activation=activation) for _ in range(2)]
    return [
        keras.Input((64,)),
        layers.Reshape((8, 8, 1)),
        *convs,
        layers.BatchNormalization(),
        layers.Flatten(),
    ]


def build(parts):
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    make, activation = parts
    model = keras.Sequential([*make(activation), layers.Dropout(0.2), layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def skips(activation):
    start = keras.Input((64,))
    hidden = layers.Dense(32)(start)
    for _ in range(2):
        inner = layers.Dense(32)(layers.Activation(activation)(layers.LayerNormalization()(hidden)))
        hidden = layers.Add()([hidden, inner])
    return [keras.Model(start, hidden)]


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
@pytest.mark.parametrize("make", [dense, conv, skips])
def test_training_is_bit_equal(make, activation):
    """Same seed: weights, optimizer and history are the same bits, with due steps among the others."""
    x, y = load_digits(return_X_y=True)
    x = (x[:256] / 16).astype("float32")
    ends = []
    for callbacks in ([], [trainobs.Recorder(every=2)]):
        model = build((make, activation))
        history = model.fit(x, y[:256], batch_size=32, epochs=2, verbose=0, callbacks=callbacks)
        values = [v.numpy() for v in (*model.weights, *model.optimizer.variables)]
        ends.append([*values, np.array(history.history["loss"])])
    for alone, observed in zip(*ends, strict=True):
        np.testing.assert_array_equal(alone, observed)
