"""What it costs to prove a finding, in the model's own train step without a graph.

Run by hand (`python -m tests.benchmarks.proving`); it prints each figure beside its bar.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from trainobs import capture, explain

ROUNDS = 7
FAR = keras.initializers.Constant(-100.0)


def _mlp() -> tuple[keras.Model, tuple[int, ...]]:
    hidden = [layers.Dense(256, "relu", bias_initializer=FAR if k == 2 else "zeros") for k in range(4)]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, "softmax")]), (784,)


def _cnn() -> tuple[keras.Model, tuple[int, ...]]:
    convs = [layers.Conv2D(32, 3, activation="relu", bias_initializer=f) for f in ("zeros", FAR, "zeros")]
    shape = (28, 28, 1)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input(shape), *convs, *head]), shape


def _lstm() -> tuple[keras.Model, tuple[int, ...]]:
    rnn = layers.LSTM(64, bias_initializer=keras.initializers.Constant(50.0), unit_forget_bias=False)
    return keras.Sequential([keras.Input((28, 28)), rnn, layers.Dense(10, "softmax")]), (28, 28)


#: Models with a layer that is off.
MODELS: dict[str, Callable[[], tuple[keras.Model, tuple[int, ...]]]] = {
    "MLP": _mlp,
    "CNN": _cnn,
    "LSTM": _lstm,
}


def main() -> None:
    """Print the seconds of all trials of a report, in steps and for each finding that was tried."""
    for name, make in MODELS.items():
        model, shape = make()
        model.compile("adam", "sparse_categorical_crossentropy")
        x = np.random.default_rng(0).normal(size=(256, *shape)).astype("float32")
        batch = x, np.arange(256) % 10
        steps, trials, findings, runs = zip(*(_round(model, batch) for _ in range(ROUNDS)), strict=True)
        cost = statistics.median(t / f / s for s, t, f in zip(steps, trials, findings, strict=True))
        each = runs[-1] / findings[-1]
        print(f"{name:6} {cost:.2f} eager steps a finding ({each:.1f} runs; bar 2)", flush=True)


def _round(model: keras.Model, batch: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, int, int]:
    """Seconds of an eager step, and of all trials of a report; findings that were tried, and runs."""
    seconds: list[float] = []
    own = capture.try_out

    def timed(*args: object) -> object:
        start = time.perf_counter()
        result = own(*args)
        seconds.append(time.perf_counter() - start)
        return result

    capture.try_out = timed
    try:
        findings = explain.explain_near_zero_gradients(model, *batch).findings
    finally:
        capture.try_out = own
    return _eager_step(model, batch), sum(seconds), int(findings.proved.notna().sum()), len(seconds)


def _eager_step(model: keras.Model, batch: tuple[np.ndarray, np.ndarray]) -> float:
    """Seconds of the model's own train step, its update included; the model is put back."""
    data = tuple(map(tf.convert_to_tensor, batch))
    weights = model.get_weights()
    tf.config.run_functions_eagerly(True)
    start = time.perf_counter()
    model.train_step(data)
    taken = time.perf_counter() - start
    tf.config.run_functions_eagerly(False)
    model.set_weights(weights)
    return taken


if __name__ == "__main__":
    main()
