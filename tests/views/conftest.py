"""One small report for all tests of pictures and HTML, and stand-ins for large kernels."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import trainobs


@pytest.fixture(scope="session")
def report() -> trainobs.Report:
    """Of a convolution, a layer that a bias killed, a frozen one and an output; 32 images of noise."""
    keras.utils.set_random_seed(3)
    dead = keras.initializers.Constant(-20.0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, (2, 3), activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, "relu", bias_initializer=dead, name="killed"),
            keras.layers.Dense(4, "sigmoid", trainable=False, name="kept"),
            keras.layers.Dense(3, "softmax", name="out"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).normal(size=(32, 6, 6, 2)), np.arange(32) % 3
    return trainobs.explain_near_zero_gradients(model, x.astype("float32"), y)


@pytest.fixture(autouse=True)
def _never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in this folder may open a window."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a picture was shown")

    monkeypatch.setattr(plt, "show", refuse)


@pytest.fixture
def kernel_report() -> Callable[..., Any]:
    """Make a stand-in for a report, with the given verdicts as the only kernel, "big"."""

    def make(verdict: np.ndarray, inputs: int | None = None) -> Any:
        inputs, units = inputs or verdict.shape[-2], verdict.shape[-1]
        row = {"layer": "big", "activation": "relu", "shape": verdict.shape, "near_zero": 0.5}
        return types.SimpleNamespace(
            layers=pd.DataFrame([row], index=["model/big/kernel"]),
            weights=lambda name: types.SimpleNamespace(verdict=verdict, grid=verdict),
            units=lambda name: pd.DataFrame(
                {"off": np.linspace(0, 1, units), "dead": np.arange(units) == units - 1}
            ),
            inputs=lambda name: pd.DataFrame(
                {"zero": np.linspace(1, 0, inputs), "dead": np.arange(inputs) == 0}
            ),
        )

    return make
