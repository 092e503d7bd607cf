"""What recording and explaining whole networks costs, in plain steps of the same network.

Run by hand (`python -m tests.benchmarks.networks`, or with a part of a name). Ratios are measured
interleaved, and the median of several rounds counts. Peak memory is the most that a process of its
own took, TensorFlow included, until it had explained the network, and until it had trained it. The first
call also traces the step and the sums, once per model and shape; its time is printed too.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

import trainobs
from tests.benchmarks.overhead import ratio
from trainobs.analysis import condensed
from trainobs.capture import BatchCapture
from trainobs.statistics import gather

ROUNDS = 5
Network = tuple[keras.Model, np.ndarray, np.ndarray]


def application(name: str) -> Network:
    """A network of Keras' own, as it is initialised, on noise."""
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(96, 96, 3), classes=10)
    return compiled(model, np.random.default_rng(0).normal(size=(8, 96, 96, 3)).astype(np.float32))


def transformer(depth: int = 4, length: int = 64, width: int = 128) -> Network:
    """An encoder on random tokens."""
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(1000, width)(tokens)
    for _ in range(depth):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, width // 4)(x, x))
        inner = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(inner))
    head = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return compiled(keras.Model(tokens, head), np.random.default_rng(0).integers(0, 1000, (32, length)))


def lstm(length: int = 100) -> Network:
    """A classifier of sequences."""
    stack = [layers.LSTM(128), layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((length, 32)), *stack])
    return compiled(model, np.random.default_rng(0).normal(size=(64, length, 32)).astype(np.float32))


def compiled(model: keras.Model, x: np.ndarray) -> Network:
    """The network ready to train, with labels."""
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return model, x, np.random.default_rng(1).integers(0, 10, len(x))


NETWORKS: dict[str, Callable[[], Network]] = {
    "MobileNetV2, 8 × 96×96": lambda: application("MobileNetV2"),
    "ResNet50, 8 × 96×96": lambda: application("ResNet50"),
    "Transformer, 4 layers": transformer,
    "LSTM(128), 100 steps": lstm,
}


def peak() -> float:
    """The most memory that this process ever took, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def explain(name: str) -> None:
    """Print what explaining one batch takes, in plain steps."""
    model, x, y = NETWORKS[name]()
    capture = BatchCapture(model)

    def once() -> None:
        thresholds = trainobs.Thresholds()
        statistics_ = gather(capture(x, y), thresholds.near_zero, condense=condensed)
        report = trainobs.Report(statistics_, thresholds)
        assert not report.layers.empty
        assert len(report.findings) >= 0

    for _ in range(2):
        model.train_on_batch(x, y)
    of_training = peak()
    first = _seconds(once)
    ratios, plain = [], []
    for _ in range(ROUNDS):
        plain.append(_seconds(lambda: model.train_on_batch(x, y)))
        ratios.append(_seconds(once) / plain[-1])
    print(
        f"{name:24} explain {statistics.median(ratios):5.1f} plain steps (bar 10; plain step "
        f"{1e3 * statistics.median(plain):.0f} ms), peak memory {peak():.0f} MB "
        f"(training alone {of_training:.0f} MB), first call {first:.1f} s",
        flush=True,
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def due(name: str) -> None:
    """Print what a due step takes, in plain steps."""
    network = NETWORKS[name]
    value, seconds = ratio(lambda: network()[0], network()[1], steps=4)
    print(f"{name:24} due step {value:6.2f} (bar 1.5; plain step {1e3 * seconds:.0f} ms)", flush=True)


def main(only: str = "") -> None:
    """Print every ratio beside its bar, each network in a process of its own."""
    names = [name for name in NETWORKS if only in name]
    if len(names) == 1:
        explain(names[0])
        due(names[0])
        return
    for name in names:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.networks", name], check=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
