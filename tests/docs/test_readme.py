"""What the README shows can be typed in."""

from __future__ import annotations

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from tests.docs.pages import run_blocks


def test_its_python_blocks_run(tmp_path, monkeypatch):
    """On any model with layers of the names it uses: `fit`, and a loop of the user's own."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(32, 5, 3)).astype("float32")
    y = np.random.default_rng(1).normal(size=(32, 1)).astype("float32")
    stack = [keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(4, "relu", name="dense_1")]
    model = keras.Sequential([keras.Input((5, 3)), *stack, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    names = {
        "__name__": "readme",
        "tf": tf,
        "model": model,
        "x": x,
        "y": y,
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
        "loss_function": keras.losses.MeanSquaredError(),
        "optimizer": keras.optimizers.SGD(0.01),
    }
    run_blocks("README.md", names)
    plt.close("all")
    assert names["recorder"].recording.steps == (0,)
    assert names["report"].statistics.step == 0
    assert (tmp_path / "report.html").exists()
