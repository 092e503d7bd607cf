"""Trainings that differ by the model: what its outputs are, how its layers are connected."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tests.capture.zoo._ground import (
    Training,
    compiled,
    digits,
    flat,
    images,
    net,
    one_hot,
    problem,
    rows,
    tokens,
)

layers = keras.layers


@problem
def dense_net() -> Training:
    """The plainest training there is."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(12, "relu"), layers.Dense(10, name="head")])
    return compiled(model, optimizer="adam", metrics=["accuracy"]), flat()


@problem
def conv_net_with_batch_norm_and_dropout() -> Training:
    """Moving statistics, random numbers, pixels."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 2, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    return compiled(model, optimizer="adam"), {"x": images(), "y": digits()[1]}


@problem
def two_inputs_two_outputs_and_a_skip() -> Training:
    """Structures of arrays, losses and metrics by name."""
    left, right = keras.Input((40,), name="left"), keras.Input((24,), name="right")
    both = layers.Concatenate()([layers.Dense(8, "relu")(left), layers.Dense(8, "relu")(right)])
    skipped = layers.Add()([both, layers.Dense(16, "relu")(both)])
    digit, size = layers.Dense(10, name="digit")(skipped), layers.Dense(1, name="size")(skipped)
    losses = {"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    model = compiled(
        keras.Model([left, right], [size, digit]),
        losses,
        loss_weights={"digit": 1.0, "size": 0.3},
        metrics={"digit": ["accuracy"]},
    )
    x, y = digits()
    return model, {"x": [x[:, :40], x[:, 40:]], "y": {"digit": y, "size": x.sum(1, keepdims=True) / 20}}


@problem
def softmax_in_dense() -> Training:
    """The loss reads the logits that Keras hangs on the output."""
    return compiled(net(layers.Dense(10, "softmax")), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_layer() -> Training:
    """Softmax as a layer of its own."""
    return compiled(net(layers.Dense(10), layers.Softmax()), "categorical_crossentropy"), flat(y=one_hot())


@problem
def softmax_in_activation_layer() -> Training:
    """Softmax in an Activation layer."""
    tail = layers.Dense(10), layers.Activation("softmax")
    return compiled(net(*tail), "categorical_crossentropy"), flat(y=one_hot())


@problem
def softmax_op_in_functional_graph() -> Training:
    """Softmax as an operation that is no layer."""
    inputs = keras.Input((64,))
    outputs = keras.ops.softmax(layers.Dense(10)(layers.Dense(12, "relu")(inputs)))
    return compiled(keras.Model(inputs, outputs), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_of_tensorflow() -> Training:
    """Nothing hangs on the output: the loss looks at the op that made it."""
    return compiled(net(layers.Dense(10, tf.nn.softmax)), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_of_tensorflow_with_binary_loss() -> Training:
    """The loss looks for a sigmoid op, so it must not find the softmax's logits."""
    return compiled(net(layers.Dense(10, tf.nn.softmax)), "binary_crossentropy"), flat(y=one_hot())


@problem
def sigmoid_of_tensorflow_with_categorical_loss() -> Training:
    """The loss looks for a softmax op, so it must not find the sigmoid's logits."""
    return compiled(net(layers.Dense(10, tf.sigmoid)), "categorical_crossentropy"), flat(y=one_hot())


@problem
def softmax_with_squared_error() -> Training:
    """A loss that reads the probabilities."""
    return compiled(net(layers.Dense(10, "softmax")), "mse"), flat(y=one_hot())


@problem
def softmax_saturated() -> Training:
    """Through the probabilities no gradient would pass; through the logits it does."""
    model = compiled(net(layers.Dense(10, "softmax"), hidden="relu"), "sparse_categorical_crossentropy")
    return model, flat(x=digits()[0] * 1000)


@problem
def sigmoid_in_dense() -> Training:
    """The loss reads the logits behind a sigmoid."""
    return compiled(net(layers.Dense(10, "sigmoid")), "binary_crossentropy"), flat(y=one_hot())


@problem
def sigmoid_in_activation_layer() -> Training:
    """Sigmoid in an Activation layer."""
    tail = layers.Dense(10), layers.Activation("sigmoid")
    return compiled(net(*tail), "binary_crossentropy"), flat(y=one_hot())


@problem
def masked_recurrent_net() -> Training:
    """A mask that the LSTM finds on its input; its cell runs inside a loop."""
    stack = [keras.Input((12,), dtype="int64"), layers.Embedding(18, 6, mask_zero=True), layers.LSTM(5)]
    return compiled(keras.Sequential([*stack, layers.Dense(10)])), flat(x=tokens())


@problem
def masked_output() -> Training:
    """A mask that travels to the loss."""
    stack = [keras.Input((12,), dtype="int64"), layers.Embedding(18, 6, mask_zero=True)]
    model = keras.Sequential([*stack, layers.Dense(4, "relu"), layers.Dense(1)])
    return compiled(model, "mse"), flat(x=tokens(), y=(tokens()[..., None] / 16).astype("float32"))


@problem
def recurrent_nets_of_all_kinds() -> Training:
    """Cells inside loops, a layer called per time step."""
    stack = [
        keras.Input((2, 8)),
        layers.TimeDistributed(layers.Dense(5, "relu")),
        layers.Bidirectional(layers.GRU(3, return_sequences=True)),
        layers.RNN(layers.SimpleRNNCell(3)),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=rows()[:, 2:4])


@problem
def attention() -> Training:
    """Softmax, dropout and einsum within one layer, one tensor passed twice."""
    inputs = keras.Input((8, 8))
    attended = layers.MultiHeadAttention(2, 4, dropout=0.1)(inputs, inputs)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(attended + inputs))
    return compiled(keras.Model(inputs, layers.Dense(10)(pooled))), flat(x=rows())


def normalised_skips_net() -> keras.Model:
    """A residual net whose sums are read by a normalisation, which reads its input several times."""
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(4, 3, padding="same")(inputs)
    for _ in range(2):
        branch = layers.ReLU()(layers.BatchNormalization()(hidden))
        hidden = layers.Add()([hidden, layers.Conv2D(4, 3, padding="same")(branch)])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(hidden)))


@problem
def normalised_skips() -> Training:
    """A tensor that a skip and, several times, a normalisation read."""
    return compiled(normalised_skips_net()), flat(x=images())


@problem
def normalised_skips_eager() -> Training:
    """The same without a graph."""
    return compiled(normalised_skips_net(), run_eagerly=True), flat(x=images())


def nested_models() -> Training:
    """A model in a model in a model."""
    inner = keras.Sequential([keras.Input((12,)), layers.Dense(8, "relu"), layers.Dropout(0.2)])
    hidden = keras.Input((64,))
    middle = keras.Model(hidden, inner(layers.Dense(12, "elu")(hidden)))
    return compiled(keras.Sequential([keras.Input((64,)), middle, layers.Dense(10)])), flat()


@problem
def shared_layer() -> Training:
    """One layer, called twice."""
    inputs, shared = keras.Input((64,)), layers.Dense(12, "relu", name="shared")
    hidden = layers.Dense(12, "tanh")(inputs)
    outputs = layers.Dense(10)(shared(shared(hidden)) + hidden)
    return compiled(keras.Model(inputs, outputs)), flat()


@problem
def layers_as_activations() -> Training:
    """Activation functions that are layers, one of them with weights."""
    hidden = layers.Dense(12, layers.LeakyReLU(0.1)), layers.Dense(12, layers.PReLU())
    return compiled(keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])), flat()


@problem
def partly_frozen() -> Training:
    """A kernel that is not trained."""
    model = net()
    model.get_layer("hidden").trainable = False
    return compiled(model), flat()


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A user's own model: a list of layers, raw ops, a branch on `training`, a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [layers.Dense(12, "relu"), layers.Dense(12, "relu")]
        self.drop, self.norm, self.head = layers.Dropout(0.3), layers.BatchNormalization(), layers.Dense(10)

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.blocks[0](inputs)
        hidden = tf.concat([self.blocks[1](hidden), hidden], axis=1)
        self.add_loss(0.01 * tf.reduce_mean(hidden**2))
        if training:
            hidden = self.drop(hidden, training=True)
        return self.head(self.norm(hidden, training=training))


@problem
def subclassed() -> Training:
    """Not built before the first batch comes."""
    return compiled(Subclassed()), flat()


@problem
def integer_input() -> Training:
    """A kernel that multiplies integers."""
    return compiled(Subclassed()), flat(x=(digits()[0] * 3).astype("int32"))


# ---- connections -----------------------------------------------------------------------------


@problem
def inputs_and_outputs_by_name() -> Training:
    """Dictionaries go in and come out; one output has no loss, and nothing behind it is trained."""
    left, right = keras.Input((40,), name="left"), keras.Input((24,), name="right")
    both = layers.Concatenate()([layers.Dense(8, "relu")(left), layers.Dense(8, "elu")(right)])
    outputs = {
        "size": layers.Dense(1, name="size")(both),
        "digit": layers.Dense(10, name="digit")(both),
        "silent": layers.Dense(3, trainable=False, name="silent")(both),
    }
    losses = {"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    model = compiled(keras.Model({"right": right, "left": left}, outputs), losses)
    x, y = digits()
    size = x.sum(1, keepdims=True) / 20
    return model, {"x": {"left": x[:, :40], "right": x[:, 40:]}, "y": {"size": size, "digit": y}}


class Collections(keras.Model):
    """Layers in a list within a dictionary, two of them of the same name, and ops between them."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = {
            "left": [layers.Dense(8, "relu", name="first"), layers.Dense(8, name="second")],
            "right": [layers.Dense(8, "gelu", name="first_right"), layers.LayerNormalization()],
        }
        self.head = layers.Dense(10)

    def call(self, inputs: Any) -> Any:
        hidden = []
        for tower in self.towers.values():
            side = inputs
            for layer in tower:
                side = layer(side)
            hidden.append(side)
        return self.head(keras.ops.concatenate(hidden, axis=-1))


@problem
def layers_in_collections() -> Training:
    """A subclassed model that keeps its layers in a dictionary of lists."""
    return compiled(Collections()), flat()


class RawOps(keras.Model):
    """What people write between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.gate = layers.Dense(12), layers.Dense(12), layers.Dense(12, "sigmoid")
        self.table, self.head = layers.Embedding(12, 6), layers.Dense(10)

    def call(self, inputs: Any) -> Any:
        hidden = tf.nn.relu(self.one(inputs))
        mask = tf.cast(hidden > 0.1, hidden.dtype)
        hidden = keras.ops.tanh(self.two(hidden * mask)) + tf.stop_gradient(hidden)
        hidden = hidden + 0.1 * tf.gather(self.one(inputs), tf.range(tf.shape(inputs)[0])[::-1])
        hidden = hidden * self.gate(hidden) / (1.0 + tf.norm(hidden, axis=-1, keepdims=True))
        strongest = self.table(tf.argmax(hidden, axis=-1))
        first, second = tf.split(hidden, 2, axis=-1)
        return self.head(tf.concat([first - second, strongest[:, :6]], axis=-1))


@problem
def raw_ops_between_layers() -> Training:
    """Products with masks and gates, norms, splits, a gradient that is stopped, an index that is found."""
    return compiled(RawOps()), flat()


@problem
def noise_of_all_kinds() -> Training:
    """Every layer that draws random numbers, one with a generator of its own."""
    stack = [
        keras.Input((8, 8)),
        layers.GaussianNoise(0.1),
        layers.Dense(8, "relu"),
        layers.SpatialDropout1D(0.2),
        layers.Dense(8, "selu"),
        layers.AlphaDropout(0.1, seed=5),
        layers.GaussianDropout(0.1),
        layers.Flatten(),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=rows())


class Twins(keras.Model):
    """Two views of each sample through one encoder; the target of one is the other, and held fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential(
            [layers.Dense(12, "relu"), layers.BatchNormalization(), layers.Dense(6)]
        )
        self.guess, self.seeds = layers.Dense(6), keras.random.SeedGenerator(2)

    def call(self, inputs: Any, training: bool = False) -> Any:
        views = [inputs + keras.random.normal(tf.shape(inputs), stddev=0.1, seed=self.seeds) for _ in "ab"]
        codes = [self.encoder(view, training=training) for view in views]
        wanted = [tf.stop_gradient(code) for code in reversed(codes)]
        pairs = zip(codes, wanted, strict=True)
        self.add_loss(sum(tf.reduce_mean((self.guess(code) - other) ** 2) for code, other in pairs))
        return codes[0]


@problem
def two_views() -> Training:
    """A model within a model that is called twice, and a loss that the model adds itself."""
    model = Twins()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=False)
    return model, flat(y=None)
