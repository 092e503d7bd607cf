"""Small Keras models by name, each with data and a loss: what reports are compared on."""

import functools
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

Problem = Callable[[], tuple[keras.Model, np.ndarray, np.ndarray]]

#: Of the problems "activation …".
ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "hard_sigmoid",
    "sigmoid",
    "tanh",
    "gelu",
    "elu",
    "softmax",
)


def random(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Standard normal data, the same every time."""
    return (scale * np.random.default_rng(7).normal(size=shape)).astype(np.float32)


def classifier(x: np.ndarray, *hidden: layers.Layer, loss: str = "sparse_categorical_crossentropy") -> tuple:
    """A model of these layers and a softmax over three classes, with data."""
    flatten = [layers.Flatten()] if x.ndim > 2 else []
    head = layers.Dense(3, "softmax", name="head")
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, *flatten, head])
    model.compile("sgd", loss)
    labels = np.random.default_rng(8).integers(0, 3, len(x))
    return model, x, labels if "sparse" in loss else np.eye(3, dtype=np.float32)[labels]


def regressor(x: np.ndarray, y: np.ndarray, *stack: layers.Layer) -> tuple:
    """A model of just these layers, with data."""
    model = keras.Sequential([keras.Input(x.shape[1:]), *stack])
    model.compile("sgd", "mse")
    return model, x, y.astype(np.float32)


def digits(samples: int, image: bool = False) -> np.ndarray:
    """Scanned digits with values in [0, 1]; the borders are black."""
    pixels = (load_digits().data[:samples] / 16).astype(np.float32)
    return pixels.reshape(-1, 8, 8, 1) if image else pixels


def dense(units: int, activation: str, **options) -> layers.Dense:
    """A Dense layer whose bias is not 0."""
    options.setdefault("bias_initializer", keras.initializers.RandomNormal(stddev=0.3))
    return layers.Dense(units, activation, **options)


def changed(problem: tuple, layer: str, *, kernel=lambda w: w, bias=lambda b: b) -> tuple:
    """A problem with the weights of one layer changed."""
    found = problem[0].get_layer(layer)
    found.kernel.assign(kernel(found.kernel.numpy()))
    if found.bias is not None:
        found.bias.assign(bias(found.bias.numpy()))
    return problem


def activation_problem(activation: str) -> Problem:
    """Three layers of one activation, without bias in the middle; large inputs drive some units off."""
    return lambda: classifier(
        random(10, 6, scale=3.0),
        dense(5, activation),
        dense(4, activation, use_bias=False),
        dense(4, activation, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0)),
    )


def conv_problem(rank: int, x_shape: tuple, **options) -> Problem:
    """A convolution under test between two plain ones."""
    kind = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
    options = {"kernel_size": 3, "activation": "relu", "bias_initializer": "random_normal"} | options
    return lambda: classifier(random(*x_shape), kind(4, **options))


def first_columns(values: np.ndarray, change: Callable, columns: int = 2) -> np.ndarray:
    """A copy whose first columns are changed."""
    return np.concatenate([change(values[..., :columns]), values[..., columns:]], axis=-1)


def dead_by_bias() -> tuple:
    problem = classifier(random(10, 6), dense(5, "relu", name="planted"), dense(4, "relu"))
    return changed(problem, "planted", bias=lambda b: first_columns(b, lambda part: part - 100))


def dead_by_weights() -> tuple:
    problem = classifier(np.abs(random(10, 6)), dense(5, "relu", name="planted", use_bias=False))
    return changed(problem, "planted", kernel=lambda w: first_columns(w, lambda part: -np.abs(part)))


def dead_by_combination() -> tuple:
    problem = classifier(3 + random(10, 6), dense(5, "relu", name="planted"))
    return changed(
        problem, "planted", kernel=lambda w: first_columns(w, lambda part: part - 2 * part.mean(0) - 1)
    )


def zero_inputs() -> tuple:
    x = first_columns(random(10, 6), np.zeros_like)
    x[:3] = 0
    return classifier(x, dense(5, "relu"), dense(4, "tanh"))


def tiny_inputs() -> tuple:
    x = first_columns(random(10, 6), lambda part: 1e-4 * part)
    return classifier(x, dense(5, "relu"))


def small_input_meets_small_backprop() -> tuple:
    x = first_columns(random(10, 6), lambda part: 0.02 * part)
    problem = classifier(x, dense(5, "relu", name="planted"))
    return changed(problem, "head", kernel=lambda w: 0.01 * w)


def small_slope_meets_small_backprop() -> tuple:
    problem = classifier(random(10, 6), dense(5, "sigmoid", name="planted"))
    changed(problem, "head", kernel=lambda w: 0.02 * w)
    return changed(problem, "planted", kernel=lambda w: 0.2 * w, bias=lambda b: np.full_like(b, 4))


def saturating_branches(x: np.ndarray, kernel_scale: float = 1.0, bias: tuple = (0, 0, 0, 0, 0)) -> Problem:
    """One layer of every activation that goes off for large preactivations, side by side."""

    def make() -> tuple:
        data = keras.Input(x.shape[1:])
        branches = [dense(5, name, name=name) for name in ("sigmoid", "tanh", "hard_sigmoid", "relu6")]
        head = layers.Dense(3, "softmax")
        model = keras.Model(data, head(layers.Concatenate()([branch(data) for branch in branches])))
        model.compile("sgd", "sparse_categorical_crossentropy")
        problem = model, x, np.arange(len(x)) % 3
        for branch in branches:
            changed(
                problem, branch.name, kernel=lambda w: first_columns(w, lambda part: kernel_scale * part, 3)
            )
            changed(problem, branch.name, bias=lambda b: b + bias)
        return problem

    return make


def tiny_upstream() -> tuple:
    problem = classifier(random(10, 6), dense(5, "relu"), dense(4, "tanh"))
    return changed(problem, "head", kernel=lambda w: 1e-5 * w)


def exact_cancellation() -> tuple:
    x = np.array([[1, 2], [1, 2], [-3, 1], [-3, 1]])
    return regressor(
        x.astype(np.float32), np.array([[1], [-1], [2], [-2]]), layers.Dense(1, kernel_initializer="zeros")
    )


def fitted() -> tuple:
    head = layers.Dense(2, kernel_initializer="zeros", bias_initializer="ones")
    return regressor(random(6, 4), np.ones((6, 2)) + 1e-6, dense(5, "tanh"), head)


def constant_kernel() -> tuple:
    return classifier(random(10, 6), dense(5, "relu", kernel_initializer="zeros"), dense(4, "sigmoid"))


def two_outputs() -> tuple:
    data = keras.Input((6,))
    hidden = dense(5, "relu", name="shared")(data)
    quiet = layers.Dense(2, name="quiet")(dense(4, "tanh")(hidden))
    loud = layers.Dense(3, "softmax", name="loud")(hidden)
    model = keras.Model(data, [quiet, loud])
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"], loss_weights=[0.1, 3.0])
    return model, random(10, 6), [random(10, 2), np.arange(10) % 3]


def binary_head() -> tuple:
    stack = dense(5, "tanh"), layers.Dense(1, "sigmoid")
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.compile("sgd", "binary_crossentropy")
    return model, random(10, 6), (np.arange(10) % 2)[:, None]


def convolutional_output() -> tuple:
    x, y = random(2, 5, 4, 2), random(2, 5, 4, 3)
    conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same")
    return regressor(x, y, conv(4, activation="relu"), conv(3, activation="sigmoid"))


def channels_first_output() -> tuple:
    """No axis but the channels is as long as a bias: Keras would add it along the last one."""
    x, y = random(2, 2, 4, 5), random(2, 3, 4, 5)
    conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same", data_format="channels_first")
    return regressor(x, y, conv(4, activation="relu"), conv(3))


def layer_problem(x_shape: tuple, layer: Callable[..., layers.Layer], *arguments, **options) -> Problem:
    """A layer with a bias that is not 0, before a Dense one; `activation` is ReLU unless given."""
    options = {"activation": "relu", "bias_initializer": "random_normal"} | options
    return lambda: classifier(random(*x_shape), layer(*arguments, **options))


def einsum_problem(equation: str, x_shape: tuple, output_shape: tuple, bias_axes: str | None) -> Problem:
    """An EinsumDense layer; `output_shape` in full, so that the layer behind it knows its inputs."""
    return layer_problem(
        x_shape, layers.EinsumDense, equation, output_shape, bias_axes=bias_axes, activation="relu"
    )


def scaled(
    x_shape: tuple, layer: Callable[[], layers.Layer], *behind: Callable, dense_first: int = 0
) -> Problem:
    """A normalisation or PReLU between Dense layers, its weights not those it begins with."""

    def make() -> tuple:
        first = (layers.Dense(dense_first),) if dense_first else ()
        found = layer()
        problem = classifier(random(*x_shape), *first, found, *(part() for part in behind))
        generator = np.random.default_rng(9)
        for variable in found.weights:
            if "seed" not in variable.name:
                variable.assign(np.abs(generator.normal(1.0, 0.5, variable.shape)))
        return problem

    return make


def attention_problem(layer: Callable[..., layers.Layer], **options) -> Problem:
    """Self-attention between two layers, as a functional model."""

    def make() -> tuple:
        data = keras.Input((3, 4))
        hidden = dense(4, "tanh")(data)
        seen = layer(name="attention", **options)(hidden, hidden)
        head = layers.Dense(3, "softmax")(layers.Flatten()(seen))
        model = keras.Model(data, head)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model, random(3, 3, 4), np.arange(3)

    return make


def lookup_problem(ids: list, rows: int, *behind: Callable[[], layers.Layer]) -> Problem:
    """An Embedding of width 3."""

    def make() -> tuple:
        table = layers.Embedding(rows, 3, name="table")
        data = keras.Input(np.shape(ids)[1:], dtype="int32")
        stack = table, *(part() for part in behind), layers.Flatten(), layers.Dense(3, "softmax")
        model = keras.Sequential([data, *stack])
        model.compile("sgd", "sparse_categorical_crossentropy")
        table.embeddings.assign(random(rows, 3))
        return model, np.array(ids), np.arange(len(ids)) % 3

    return make


def shared_lookup() -> tuple:
    """One table that looks up two columns of the data, each in a call of its own."""
    data = keras.Input((4,), dtype="int32")
    table = layers.Embedding(7, 3, name="table")
    joined = layers.Concatenate()([table(data[:, :2]), table(data[:, 2:])])
    head = layers.Dense(3, "softmax")(layers.Flatten()(joined))
    model = keras.Model(data, head)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, np.array([[0, 1, 1, 2], [5, 1, 0, 0], [2, 2, 2, 5]]), np.arange(3)


NEW_KINDS: dict[str, Problem] = {
    "depthwise 1d": layer_problem((3, 6, 2), layers.DepthwiseConv1D, 3),
    "depthwise 1d multiplied, same strided": layer_problem(
        (3, 6, 2), layers.DepthwiseConv1D, 3, depth_multiplier=2, padding="same", strides=2, activation="tanh"
    ),
    "depthwise 1d dilated": layer_problem(
        (2, 7, 2), layers.DepthwiseConv1D, 2, depth_multiplier=2, dilation_rate=3, use_bias=False
    ),
    "depthwise 2d": layer_problem((2, 4, 5, 2), layers.DepthwiseConv2D, (3, 2), activation="elu"),
    "depthwise 2d multiplied, same strided": layer_problem(
        (2, 5, 4, 2), layers.DepthwiseConv2D, 3, depth_multiplier=2, padding="same", strides=2
    ),
    "depthwise 2d dilated": layer_problem(
        (2, 5, 5, 2), layers.DepthwiseConv2D, 2, dilation_rate=2, padding="same", activation="sigmoid"
    ),
    "depthwise 2d channels first": layer_problem(
        (2, 3, 4, 5), layers.DepthwiseConv2D, 2, depth_multiplier=2, data_format="channels_first"
    ),
    "separable 1d": layer_problem((3, 6, 2), layers.SeparableConv1D, 4, 3),
    "separable 1d same strided": layer_problem(
        (3, 7, 2), layers.SeparableConv1D, 3, 3, padding="same", strides=2, depth_multiplier=2,
        activation="tanh",
    ),
    "separable 2d": layer_problem((2, 4, 5, 2), layers.SeparableConv2D, 3, 2, depth_multiplier=2),
    "separable 2d behind another": lambda: classifier(
        random(2, 5, 5, 2),
        layers.SeparableConv2D(3, 2, activation="relu"),
        layers.SeparableConv2D(2, 3, padding="same", use_bias=False, activation="sigmoid"),
    ),
    "transposed 1d": layer_problem((3, 4, 2), layers.Conv1DTranspose, 3, 3),
    "transposed 1d same strided": layer_problem(
        (3, 3, 2), layers.Conv1DTranspose, 3, 3, padding="same", strides=2, activation="tanh"
    ),
    "transposed 1d output padding": layer_problem(
        (2, 3, 2), layers.Conv1DTranspose, 2, 2, strides=3, output_padding=2
    ),
    "transposed 2d": layer_problem((2, 2, 3, 2), layers.Conv2DTranspose, 3, (2, 3), strides=(1, 2)),
    "transposed 2d same": layer_problem(
        (2, 2, 3, 2), layers.Conv2DTranspose, 3, 3, padding="same", strides=2, activation="elu"
    ),
    "transposed 2d channels first": layer_problem(
        (2, 2, 2, 2), layers.Conv2DTranspose, 3, 2, strides=2, data_format="channels_first"
    ),
    "transposed 2d dilated": layer_problem(
        (2, 2, 3, 2), layers.Conv2DTranspose, 3, 2, dilation_rate=(1, 2), activation="sigmoid"
    ),
    "transposed 3d": layer_problem((2, 2, 1, 2, 2), layers.Conv3DTranspose, 3, 2, strides=(1, 2, 1)),
    "transposed 3d same output padding": layer_problem(
        (2, 2, 1, 2, 2), layers.Conv3DTranspose, 2, 2, padding="same", strides=2, output_padding=1
    ),
    "transposed behind convolution": lambda: classifier(
        random(2, 4, 4, 1),
        layers.Conv2D(3, 2, strides=2, activation="relu"),
        layers.Conv2DTranspose(2, 2, strides=2, activation="relu"),
    ),
    "einsum dense": einsum_problem("ab,bc->ac", (6, 4), (5,), "c"),
    "einsum of two unit axes": einsum_problem("abc,cde->abde", (2, 3, 4), (3, 2, 3), "de"),
    "einsum of two summed axes": einsum_problem("abde,dec->abc", (2, 2, 3, 2), (2, 4), "c"),
    "einsum with a kernel per step": einsum_problem("abc,bcd->abd", (4, 3, 2), (3, 4), "d"),
    "einsum with units in front": einsum_problem("abc,dbc->adb", (4, 2, 3), (5, 2), None),
    "einsum with a bias per step": einsum_problem("abc,cd->abd", (4, 3, 2), (3, 4), "bd"),
    "einsum with a bias along a part of its units": einsum_problem(
        "abc,cde->abde", (2, 3, 4), (3, 2, 5), "e"
    ),
    "einsum with a bias of length 1 along an axis": einsum_problem(
        "abc,cde->adbe", (2, 3, 4), (2, 3, 4), "de"
    ),
    "einsum with a bias of length 1 along two axes": einsum_problem(
        "abc,cde->adbe", (2, 3, 4), (2, 3, 5), "d"
    ),
    "einsum behind an ellipsis": lambda: classifier(
        random(4, 5), layers.EinsumDense("...b,bc->...c", (4,), bias_axes="c", activation="tanh")
    ),
    "einsum that scales": einsum_problem("abc,c->abc", (4, 3, 2), (3, 2), None),
    "attention": attention_problem(layers.MultiHeadAttention, num_heads=2, key_dim=3),
    "attention without bias": attention_problem(
        layers.MultiHeadAttention, num_heads=1, key_dim=2, value_dim=3, use_bias=False
    ),
    "attention in groups": attention_problem(
        layers.GroupQueryAttention, head_dim=3, num_query_heads=4, num_key_value_heads=2
    ),
    "lookup": lookup_problem([[0, 3], [5, 1], [3, 3]], 8),
    "lookup of one row": lookup_problem([[2, 2], [2, 2], [2, 2]], 4),
    "lookup of single ids": lookup_problem([3, 0, 3, 1, 1], 6, lambda: dense(4, "relu")),
    "lookup, normalisation, relu": lookup_problem(
        [[0, 3], [5, 1], [3, 3]], 6, layers.LayerNormalization, layers.ReLU
    ),
    "lookup, relu": lookup_problem([[0, 3], [5, 1], [3, 3]], 6, layers.ReLU),
    "lookup by two calls": shared_lookup,
    "batch normalisation": scaled((8, 4), layers.BatchNormalization, dense_first=3),
    "batch normalisation without scale": scaled(
        (8, 4), lambda: layers.BatchNormalization(scale=False), layers.ReLU
    ),
    "batch normalisation without shift": scaled(
        (8, 4), lambda: layers.BatchNormalization(center=False), lambda: layers.Activation("tanh")
    ),
    "batch normalisation of images": scaled((2, 3, 4, 2), layers.BatchNormalization, layers.ReLU),
    "batch normalisation channels first": scaled((3, 2, 4, 3), lambda: layers.BatchNormalization(axis=1)),
    "batch normalisation frozen": scaled(
        (8, 4), lambda: layers.BatchNormalization(trainable=False), layers.ReLU, dense_first=3
    ),
    "layer normalisation": scaled((4, 3, 5), layers.LayerNormalization, dense_first=4),
    "layer normalisation of two axes": scaled(
        (4, 3, 5), lambda: layers.LayerNormalization(axis=[1, 2]), layers.ReLU
    ),
    "group normalisation": scaled((3, 4, 6), lambda: layers.GroupNormalization(3), layers.ReLU),
    "group normalisation channels first": scaled(
        (3, 4, 5), lambda: layers.GroupNormalization(2, axis=1), dense_first=5
    ),
    "prelu": scaled((4, 3, 2), layers.PReLU),
    "prelu shared along an axis": scaled((4, 3, 2), lambda: layers.PReLU(shared_axes=[1]), dense_first=4),
    "prelu shared along two axes": scaled(
        (2, 3, 4, 2), lambda: layers.PReLU(shared_axes=[1, 2]), lambda: dense(3, "relu")
    ),
}  # fmt: skip
if hasattr(layers, "RMSNormalization"):
    NEW_KINDS["root mean square normalisation"] = scaled(
        (4, 3, 5), layers.RMSNormalization, layers.ReLU, dense_first=4
    )

PROBLEMS: dict[str, Problem] = {
    **NEW_KINDS,
    **{f"dense {name}": activation_problem(name) for name in ACTIVATIONS},
    "dense on time steps": lambda: classifier(random(3, 4, 3), dense(4, "relu"), dense(3, "tanh")),
    "dense to time steps": lambda: regressor(
        random(3, 4, 3), random(3, 4, 2), dense(4, "relu"), dense(2, "linear")
    ),
    "conv1d valid": conv_problem(1, (3, 7, 2)),
    "conv1d same strided": conv_problem(1, (3, 7, 2), padding="same", strides=2, activation="tanh"),
    "conv1d causal dilated": conv_problem(1, (3, 7, 2), padding="causal", dilation_rate=2, use_bias=False),
    "conv1d grouped": conv_problem(1, (3, 6, 4), groups=2, padding="same", activation="sigmoid"),
    "conv1d channels first": conv_problem(1, (3, 2, 6), data_format="channels_first", strides=2),
    "conv1d taps outside the image": conv_problem(1, (5, 2, 3), kernel_size=5, padding="same"),
    "conv2d valid strided": conv_problem(2, (2, 6, 5, 2), strides=(2, 1), activation="gelu"),
    "conv2d same": conv_problem(2, (2, 5, 4, 2), padding="same", use_bias=False),
    "conv2d same strided": conv_problem(2, (3, 5, 6, 2), padding="same", strides=2, activation="elu"),
    "conv2d dilated": conv_problem(2, (2, 6, 6, 2), dilation_rate=(2, 1), activation="leaky_relu"),
    "conv2d grouped": conv_problem(
        2, (2, 4, 5, 4), kernel_size=2, groups=2, strides=(1, 2), activation="relu6"
    ),
    "conv2d channels first": conv_problem(2, (2, 2, 5, 3), data_format="channels_first", padding="same"),
    "conv2d channels first grouped": conv_problem(
        2, (2, 4, 4, 3), kernel_size=2, data_format="channels_first", groups=2, activation="tanh"
    ),
    "conv3d valid": conv_problem(3, (2, 3, 4, 3, 2), kernel_size=2, activation="softmax"),
    "conv3d same strided": conv_problem(3, (2, 3, 4, 3, 2), kernel_size=2, padding="same", strides=(1, 2, 1)),
    "conv3d dilated grouped": conv_problem(
        3, (2, 4, 3, 3, 4), kernel_size=2, dilation_rate=(2, 1, 1), groups=2, activation="hard_sigmoid"
    ),
    "conv3d channels first": conv_problem(3, (2, 2, 3, 3, 3), kernel_size=2, data_format="channels_first"),
    "conv then conv": lambda: classifier(
        random(2, 6, 6, 2),
        layers.Conv2D(3, 3, activation="relu"),
        layers.Conv2D(2, 2, strides=2, activation="relu"),
    ),
    "conv, pooling, dense": lambda: classifier(
        random(2, 6, 6, 2),
        layers.Conv2D(3, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        dense(4, "relu"),
    ),
    "conv on negative inputs": lambda: classifier(
        -np.abs(random(2, 5, 5, 2)) - 2,
        layers.Conv2D(3, 2, padding="same", activation="relu", kernel_initializer="ones"),
    ),
    "dead by bias": dead_by_bias,
    "dead by weights": dead_by_weights,
    "dead by combination": dead_by_combination,
    "zero inputs": zero_inputs,
    "tiny inputs": tiny_inputs,
    "small input meets small backprop": small_input_meets_small_backprop,
    "small slope meets small backprop": small_slope_meets_small_backprop,
    "negative inputs": lambda: classifier(-np.abs(random(10, 6)), dense(5, "relu"), dense(4, "relu")),
    "saturated by input": saturating_branches(random(10, 6, scale=20.0)),
    "saturated by kernel": saturating_branches(random(10, 6), kernel_scale=40.0),
    "saturated by bias": saturating_branches(random(10, 6), bias=(9, -9, 9, 0, 0)),
    "saturated by all": saturating_branches(
        random(10, 6, scale=3.0), kernel_scale=5.0, bias=(9, -9, 9, 0, 0)
    ),
    "tiny upstream gradients": tiny_upstream,
    "exact cancellation": exact_cancellation,
    "fitted": fitted,
    "constant kernel": constant_kernel,
    "kernel penalty": lambda: classifier(random(10, 6), dense(5, "relu", kernel_regularizer="l2")),
    "dense, normalisation, relu": lambda: classifier(
        random(10, 6),
        dense(5, "linear"),
        layers.BatchNormalization(beta_initializer="random_normal"),
        layers.ReLU(),
    ),
    "dense, normalisation, tanh": lambda: classifier(
        random(10, 6),
        dense(5, "linear", use_bias=False),
        layers.BatchNormalization(gamma_initializer=keras.initializers.Constant(4.0)),
        layers.Activation("tanh"),
    ),
    "conv, normalisation, relu": lambda: classifier(
        random(2, 5, 5, 2),
        layers.Conv2D(3, 3, padding="same"),
        layers.BatchNormalization(beta_initializer=keras.initializers.Constant(-1.0)),
        layers.Activation("relu"),
    ),
    "activation layers": lambda: classifier(
        random(10, 6),
        dense(5, "linear"),
        layers.LeakyReLU(0.2),
        dense(4, "linear"),
        layers.ELU(),
        dense(3, "linear"),
        layers.Softmax(),
    ),
    "two outputs": two_outputs,
    "binary head": binary_head,
    "convolutional output": convolutional_output,
    "convolutional output, channels first": channels_first_output,
    "loss on probabilities": lambda: classifier(random(10, 6), dense(5, "relu"), loss="mse"),
    "digits dense": lambda: classifier(digits(16), dense(8, "relu"), dense(6, "sigmoid")),
    "digits conv": lambda: classifier(
        digits(3, image=True), layers.Conv2D(4, 3, strides=2, activation="relu")
    ),
    "digits unscaled": lambda: classifier(16 * digits(12), dense(6, "tanh"), dense(5, "relu")),
    "digits with a dead layer": lambda: changed(
        classifier(digits(12), dense(6, "relu", name="planted"), dense(5, "tanh")),
        "planted",
        bias=lambda b: b - 50,
    ),
}


#: Data of 17 samples, to be cut into batches.
BATCHED: dict[str, Problem] = {
    "dense": lambda: classifier(digits(17), dense(8, "relu"), dense(6, "sigmoid"), dense(4, "relu")),
    "conv": lambda: classifier(
        digits(17, image=True)[:, :, 1:7],
        layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", bias_initializer="random_normal"),
        layers.Conv2D(2, 2, activation="tanh"),
    ),
    "normalised": scaled((17, 3, 4), layers.LayerNormalization, layers.ReLU, dense_first=4),
    "prelu, einsum": lambda: classifier(
        random(17, 2, 3), layers.EinsumDense("abc,cde->abde", (2, 2, 3), bias_axes="de"), layers.PReLU()
    ),
    "depthwise, transposed": lambda: classifier(
        random(17, 4, 2),
        layers.DepthwiseConv1D(2, depth_multiplier=2, activation="relu"),
        layers.Conv1DTranspose(2, 2, activation="relu"),
    ),
    "lookup": lookup_problem(
        np.random.default_rng(4).integers(0, 9, (17, 2)).tolist(), 12, lambda: dense(3, "relu")
    ),
    "quiet outputs": lambda: regressor(
        random(17, 4), 1e-4 * random(17, 2), dense(5, "relu"), dense(2, "linear")
    ),
}

#: What some problems were planted for: a column that must not be 0 in some layer.
PLANTED = {
    "dead by bias": "off_by_bias",
    "dead by weights": "off_by_weights",
    "dead by combination": "off_by_combination",
    "zero inputs": "share_input",
    "tiny inputs": "share_input",
    "small input meets small backprop": "share_input_backprop",
    "small slope meets small backprop": "share_activation_backprop",
    "conv, pooling, dense": "share_input_activation",
    "saturated by input": "off_by_input",
    "saturated by kernel": "off_by_weights",
    "saturated by bias": "off_by_bias",
    "saturated by all": "off_by_combination",
    "tiny upstream gradients": "share_backprop",
    "exact cancellation": "share_cancellation",
    "digits unscaled": "share_input_activation_backprop",
    "digits with a dead layer": "dead_units",
}
