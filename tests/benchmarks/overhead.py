"""What recording costs, as ratios measured interleaved in one run.

Run by hand (`python -m tests.benchmarks.overhead`); it prints each figure beside its bar. These
are benchmarks, not timed tests: a machine may be busy.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import sys
import time
from collections.abc import Callable

import keras
import numpy as np

import trainobs

ROUNDS = 7


def _mlp(*widths: int, inputs: int = 784) -> keras.Model:
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    return _compiled(
        keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(10, activation="softmax")])
    )


def _cnn() -> keras.Model:
    convs = [
        keras.layers.Conv2D(filters, 3, strides=s, activation="relu")
        for filters, s in ((32, 1), (64, 2), (128, 2))
    ]
    layers = [
        keras.Input((28, 28, 1)),
        *convs,
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    return _compiled(keras.Sequential(layers))


def _compiled(model: keras.Model) -> keras.Model:
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _seconds_per_step(
    model: keras.Model, data: tuple, batch: int, recorder: trainobs.Recorder | None
) -> float:
    callbacks = [] if recorder is None else [recorder]
    start = time.perf_counter()
    model.fit(*data, batch_size=batch, verbose=0, shuffle=False, callbacks=callbacks)
    return (time.perf_counter() - start) / (len(data[0]) // batch)


def ratio(
    make: Callable[[], keras.Model], batch: np.ndarray, *, steps: int, due: bool = True
) -> tuple[float, float]:
    """Median ratio of a fit step with a Recorder to one without, and the plain step's seconds."""
    plain, recorded = make(), make()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, len(batch))
    data = np.concatenate([batch] * steps), np.concatenate([labels] * steps)
    every = {"every": 1} if due else {"at": [10**9]}
    held = 8 * trainobs.capture_batch(recorded, batch, labels).nbytes
    recorder = trainobs.Recorder(**every, max_bytes=held)
    ratios, seconds = [], []
    for round_ in range(ROUNDS + 1):
        runs = [(plain, None), (recorded, recorder)]
        found = {
            used: _seconds_per_step(model, data, len(batch), used) for model, used in runs[:: (-1) ** round_]
        }
        a, b = found[None], found[recorder]
        if round_:  # the first round traces
            ratios.append(b / a)
            seconds.append(a)
    return statistics.median(ratios), statistics.median(seconds)


def noise(model: keras.Model, batch: int) -> np.ndarray:
    """A batch of random inputs."""
    return np.random.default_rng(0).random((batch, *model.input_shape[1:]), np.float32)


CASES = {
    "MLP 784-256-256-128-10, batch 64": (lambda: _mlp(256, 256, 128), 64, 300, 1.5),
    "CNN 32-64-128 on 28×28, batch 64": (_cnn, 64, 40, 1.3),
    "20 × Dense(512), batch 256": (lambda: _mlp(*[512] * 20, inputs=512), 256, 40, 1.3),
}


def main(only: str = "") -> None:
    """Print every ratio beside its bar."""
    for name, (make, batch, steps, bar) in CASES.items():
        if only not in name:
            continue
        for due, limit in ((False, 1.02), (True, bar)):
            value, seconds = ratio(make, noise(make(), batch), steps=steps, due=due)
            kind = "due step" if due else "step not due"
            print(
                f"{name:36} {kind:14} {value:6.3f} (bar {limit}; plain step {1e3 * seconds:.2f} ms)",
                flush=True,
            )


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
