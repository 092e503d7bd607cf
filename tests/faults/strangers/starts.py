"""Dense nets by depth and by how they start."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import KERAS, Built, Family, compiled, normal

CASES = Family()


def _table() -> tuple[np.ndarray, np.ndarray]:
    x = normal(256, 6)
    return x, (x[:, :1] > 0).astype("float32")


def _stack(inputs: int, *hidden: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), *hidden])


@CASES(
    "twelve sigmoid layers",
    "https://ai.stackexchange.com/questions/16557: hidden layers of sigmoids are not learning, 0.25 "
    "per layer",
    truth=(("vanishing", "*"),),
    tape={"s0/kernel": "small", "s1/kernel": "small", "s11": "live"},
)
def sigmoids() -> Built:
    """Real targets, as in the question."""
    hidden = [dense(32, f"s{number}", "sigmoid") for number in range(12)]
    x, _ = _table()
    return compiled(_stack(6, *hidden, dense(1, "out", None)), "mse", x, x[:, :1])


@CASES(
    "residual tanh layers",
    "https://d2l.ai/chapter_convolutional-modern/resnet.html: a short cut past each",
)
def residual_tanhs() -> Built:
    """Twelve of them, each added to what it reads."""
    start = keras.Input((6,))
    hidden = dense(32, "first", None)(start)
    for number in range(12):
        hidden = layers.Add()([hidden, dense(32, f"s{number}", "tanh")(hidden)])
    x, _ = _table()
    model = keras.Model(start, dense(1, "out", None)(layers.LayerNormalization(name="norm")(hidden)))
    return compiled(model, "mse", x, x[:, :1])


def _constant(value: float, bias: float = 0.0) -> Built:
    x, y = small_digits()
    options = {"kernel_initializer": keras.initializers.Constant(value)}
    hidden = [
        layers.Dense(
            16, activation="tanh", name=name, **options, bias_initializer=keras.initializers.Constant(bias)
        )
        for name in ("h1", "h2")
    ]
    net = _stack(64, *hidden, dense(10, "out", "softmax"))
    return compiled(net, "sparse_categorical_crossentropy", x[:192], y[:192])


@CASES(
    "all hidden weights are the same",
    "https://d2l.ai/chapter_multilayer-perceptrons/numerical-stability-and-init.html: the layer "
    "behaves as if it "
    "had a single unit",
    truth=(("symmetric", "h1"), ("symmetric", "h2"), ("symmetric", "out")),
)
def same_weights() -> Built:
    """Constant 0.02."""
    return _constant(0.02)


@CASES(
    "all hidden weights are zero",
    "https://github.com/wagonhelm/NaNmnist/issues/2 (cs231n's pitfall: all zero initialization)",
    truth=(("zero_weights", "h1"), ("zero_weights", "h2")),
    tape={"h1": "zero", "h2/kernel": "zero", "out/kernel": "zero", "out/bias": "live"},
)
def zero_start() -> Built:
    """tanh of zeros is zero: only the last bias learns."""
    return _constant(0.0)


@CASES(
    "kernels set by hand to one number",
    KERAS + "16539: after set_weights with 0.75 and 0.25 only biases change; crossentropy on linear outputs",
    truth=(("output_mismatch", "dense_2"), ("symmetric", "dense_1")),
)
def set_by_hand() -> Built:
    """Two linear layers, categorical crossentropy of probabilities."""
    x, y = small_digits()
    net = _stack(64, dense(10, "dense_1", None), dense(10, "dense_2", None))
    kernel, bias = net.get_layer("dense_1").get_weights()
    net.get_layer("dense_1").set_weights([np.full_like(kernel, 0.75), np.full_like(bias, 0.25)])
    return compiled(net, "categorical_crossentropy", x[:192], np.eye(10, dtype="float32")[y[:192]])


@CASES(
    "SELU layers", "https://www.tensorflow.org/api_docs/python/tf/keras/activations/selu, with lecun_normal"
)
def selu() -> Built:
    """Eight of them."""
    hidden = [
        layers.Dense(32, activation="selu", kernel_initializer="lecun_normal", name=f"s{number}")
        for number in range(8)
    ]
    return compiled(_stack(6, *hidden, dense(1, "out", "sigmoid")), "binary_crossentropy", *_table())
