"""Ten small networks on real data, with layers of known names, to plant faults in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.faults.models import rows_of_digits, small_digits, small_images

Array = np.ndarray
Data = tuple[Array, Array]
CROSSENTROPY = "sparse_categorical_crossentropy"


# ---- data: what scikit-learn ships ---------------------------------------------------------------


def _standardised(x: Array) -> Array:
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")


def _shuffled(x: Array, y: Array) -> Data:
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


@functools.cache
def raw_wine() -> Data:
    """178 wines: (178, 13) as measured, from 0.1 to 1,680; and their class of 3."""
    from sklearn.datasets import load_wine

    data = load_wine()
    return _shuffled(data.data.astype("float32"), data.target)


def wine() -> Data:
    """The same with unit variance."""
    x, y = raw_wine()
    return _standardised(x), y


@functools.cache
def raw_cancer() -> Data:
    """569 tumours: (569, 30) as measured, from 0.0001 to 4,254; and their class of 2."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _shuffled(data.data.astype("float32"), data.target.astype("float32"))


def cancer() -> Data:
    """The same with unit variance."""
    x, y = raw_cancer()
    return _standardised(x), y


@functools.cache
def diabetes() -> Data:
    """442 patients: (442, 10) and (442, 1), how far their illness came; unit variance."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    x, y = _shuffled(_standardised(data.data), _standardised(data.target[:, None]))
    return x, y


def tokens() -> Data:
    """The small digits as sequences of 64 grey levels, 0 to 16."""
    x, y = small_digits()
    return np.rint(16 * x).astype("int32"), y


def pictures() -> Data:
    """The small digits, to be told again."""
    x, _ = small_digits()
    return x, x


# ---- networks ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Network:
    """How to make a model of a kind, and its data.

    Attributes
    ----------
    build : callable
        Given an activation and options for its hidden layers, returns the model's input and output.
    data : callable
    hidden : tuple of str
        The layers with that activation, from the input on; the last one is "head".
    loss : str
    """

    build: Callable[..., tuple[Any, Any]]
    data: Callable[[], Data]
    hidden: tuple[str, ...]
    loss: str = CROSSENTROPY

    def __call__(self, activation: str = "relu", *, loss: str | None = None, **options: Any) -> keras.Model:
        """A compiled model."""
        model = keras.Model(*self.build(activation, **options))
        model.compile(keras.optimizers.Adam(0.003), loss or self.loss)
        return model


def dense_stack(inputs: int, *widths: int, head: Any = (10, "softmax")) -> Callable[..., Any]:
    """Dense layers "h1", "h2", … and "head"."""

    def build(activation: str, **options: Any) -> tuple[Any, Any]:
        start = hidden = keras.Input((inputs,))
        for number, width in enumerate(widths, 1):
            hidden = layers.Dense(width, activation, name=f"h{number}", **options)(hidden)
        return start, _head(hidden, head)

    return build


def _head(hidden: Any, head: Any = (10, "softmax")) -> Any:
    units, activation = head
    return layers.Dense(units, activation, name="head")(hidden)


def _convolutions(activation: str, **options: Any) -> tuple[Any, Any]:
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(8, 3, activation=activation, name="h1", **options)(start)
    hidden = layers.Conv2D(16, 3, activation=activation, name="h2", **options)(hidden)
    hidden = layers.Flatten()(layers.MaxPooling2D()(hidden))
    return start, _head(layers.Dense(32, activation, name="h3", **options)(hidden))


def _normalised_convolutions(activation: str, **options: Any) -> tuple[Any, Any]:
    start = hidden = keras.Input((8, 8, 1))
    for number, filters in enumerate((8, 16), 1):
        hidden = layers.Conv2D(filters, 3, use_bias=False, name=f"h{number}", **options)(hidden)
        hidden = layers.BatchNormalization(name=f"norm{number}")(hidden)
        hidden = layers.Activation(activation)(hidden)
    return start, _head(layers.Flatten()(hidden))


def _residual(activation: str, **options: Any) -> tuple[Any, Any]:
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(12, 3, padding="same", activation=activation, name="h1", **options)(start)
    for number in (2, 3):
        branch = layers.Conv2D(12, 3, padding="same", activation=activation, name=f"h{number}", **options)(
            hidden
        )
        branch = layers.Conv2D(12, 3, padding="same", name=f"back{number}", **options)(branch)
        hidden = layers.Add()([hidden, branch])
    return start, _head(layers.Flatten()(layers.AveragePooling2D(2)(hidden)))


def _lstm(activation: str, **options: Any) -> tuple[Any, Any]:
    start = keras.Input((8, 8))
    hidden = layers.LSTM(24, name="rnn")(start)
    return start, _head(layers.Dense(24, activation, name="h1", **options)(hidden))


def _embedding(activation: str, **options: Any) -> tuple[Any, Any]:
    start = keras.Input((64,), dtype="int32")
    hidden = layers.Embedding(17, 4, embeddings_initializer="glorot_uniform", name="table")(start)
    hidden = layers.Flatten()(hidden)
    for number, width in enumerate((32, 24), 1):
        hidden = layers.Dense(width, activation, name=f"h{number}", **options)(hidden)
    return start, _head(hidden)


def _attention(activation: str, **options: Any) -> tuple[Any, Any]:
    start = keras.Input((8, 8))
    hidden = layers.Dense(24, name="lift", **options)(start)
    hidden = layers.LayerNormalization(name="norm")(
        hidden + layers.MultiHeadAttention(2, 12, name="attention")(hidden, hidden)
    )
    hidden = layers.Dense(32, activation, name="h1", **options)(hidden)
    hidden = layers.Dense(24, activation, name="h2", **options)(layers.Flatten()(hidden))
    return start, _head(hidden)


NETWORKS = {
    "MLP": Network(dense_stack(64, 48, 48, 32), small_digits, ("h1", "h2", "h3")),
    "tabular MLP": Network(dense_stack(13, 32, 24, head=(3, "softmax")), wine, ("h1", "h2")),
    "binary MLP": Network(
        dense_stack(30, 24, 24, head=(1, "sigmoid")), cancer, ("h1", "h2"), "binary_crossentropy"
    ),
    "CNN": Network(_convolutions, small_images, ("h1", "h2", "h3")),
    "BN-CNN": Network(_normalised_convolutions, small_images, ("h1", "h2")),
    "residual": Network(_residual, small_images, ("h1", "h2", "h3")),
    "LSTM": Network(_lstm, rows_of_digits, ("h1",)),
    "embedding": Network(_embedding, tokens, ("h1", "h2")),
    "attention": Network(_attention, rows_of_digits, ("h1", "h2")),
    "autoencoder": Network(
        dense_stack(64, 32, 16, 32, head=(64, "sigmoid")), pictures, ("h1", "h2", "h3"), "mse"
    ),
    "regression": Network(dense_stack(10, 32, 24, head=(1, None)), diabetes, ("h1", "h2"), "mse"),
}


def half_wrong(units: int, sign: float) -> tuple[keras.Model, Array, Array]:
    """ReLU units that fire on one side of zero, and targets that are met where inputs are negative only."""
    x = np.random.default_rng(0).normal(size=(256, 1)).astype("float32")
    model = _one_input(units, sign)
    return model, x, model.predict(x, verbose=0) + np.maximum(x, 0)


def sparse_input(sign: float) -> tuple[keras.Model, Array, Array]:
    """ReLU units with positive biases, on an input that is zero, or above 1."""
    x = np.random.default_rng(0).normal(size=(256, 1)).astype("float32")
    x = np.where(x > 0, 1 + x, 0).astype("float32")
    return _one_input(8, sign, bias_initializer=keras.initializers.Constant(0.3)), x, 1 - x


def _one_input(units: int, sign: float, **options: Any) -> keras.Model:
    start = keras.initializers.RandomUniform(0.5, 1.5)
    hidden = layers.Dense(units, "relu", kernel_initializer=start, name="h1", **options)
    model = keras.Sequential([keras.Input((1,)), hidden, layers.Dense(1)])
    kernel = model.get_layer("h1").kernel
    kernel.assign(sign * kernel)
    model.compile("adam", "mean_squared_error")
    return model
