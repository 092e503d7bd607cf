"""Small trainings of every kind: a table from a readable id to a model and the arguments of its fit.

`fresh(name)` seeds everything first, so two calls give the same training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

L = keras.layers
SAMPLES, BATCH = 88, 16  # six batches an epoch, the last one ragged

Training = tuple[keras.Model, dict[str, Any]]


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Flat images in [0, 1] of shape (88, 64), and labels."""
    x, y = load_digits(return_X_y=True)
    return (x[:SAMPLES] / 16).astype("float32"), y[:SAMPLES].astype("int64")


def images() -> np.ndarray:
    """The images in their shape (88, 8, 8, 1)."""
    return digits()[0].reshape(-1, 8, 8, 1)


def one_hot() -> np.ndarray:
    """The labels as rows of shape (88, 10)."""
    return np.eye(10, dtype="float32")[digits()[1]]


def compiled(model: keras.Model, loss: Any = None, optimizer: Any = None, **changes: Any) -> keras.Model:
    """The model, compiled without XLA, with momentum, so that a step depends on all before it."""
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **{"jit_compile": False, **changes})
    return model


def flat(**fit: Any) -> dict[str, Any]:
    """Arguments of a fit on flat images."""
    x, y = digits()
    return {"x": x, "y": y, **fit}


def mlp(*tail: Any) -> keras.Model:
    """Two hidden layers; `tail` in place of a linear head."""
    tail = tail or (L.Dense(10, name="head"),)
    return keras.Sequential([keras.Input((64,)), L.Dense(12, "relu"), L.Dense(8, "tanh"), *tail], name="mlp")


# ---- the table -------------------------------------------------------------------------------

PROBLEMS: dict[str, Callable[[], Training]] = {}


def problem(make: Callable[[], Training]) -> Callable[[], Training]:
    """Enter a training into the table under its function's name."""
    PROBLEMS[make.__name__] = make
    return make


@problem
def dense_net() -> Training:
    return compiled(mlp(), optimizer="adam", metrics=["accuracy"]), flat()


@problem
def conv_net_with_batch_norm_and_dropout() -> Training:
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        L.Conv2D(4, 3, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Dropout(0.3),
        L.MaxPooling2D(),
        L.Conv2D(6, 2, strides=2, activation="gelu"),
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(10),
    ])
    return compiled(model, optimizer="adam"), {"x": images(), "y": digits()[1]}


@problem
def two_inputs_two_outputs_and_a_skip() -> Training:
    left, right = keras.Input((40,), name="left"), keras.Input((24,), name="right")
    both = L.Concatenate()([L.Dense(8, "relu")(left), L.Dense(8, "relu")(right)])
    skipped = L.Add()([both, L.Dense(16, "relu")(both)])
    outputs = {"digit": L.Dense(10, name="digit")(skipped), "size": L.Dense(1, name="size")(skipped)}
    model = keras.Model([left, right], outputs)
    losses = {"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    x, y = digits()
    targets = {"digit": y, "size": x.sum(1, keepdims=True) / 20}
    compiled(model, losses, loss_weights={"digit": 1.0, "size": 0.3}, metrics={"digit": ["accuracy"]})
    return model, {"x": [x[:, :40], x[:, 40:]], "y": targets}


@problem
def softmax_in_dense() -> Training:
    return compiled(mlp(L.Dense(10, "softmax")), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_layer() -> Training:
    return compiled(mlp(L.Dense(10), L.Softmax()), "categorical_crossentropy"), flat(y=one_hot())


@problem
def softmax_in_activation_layer() -> Training:
    tail = L.Dense(10), L.Activation("softmax")
    return compiled(mlp(*tail), "categorical_crossentropy"), flat(y=one_hot())


@problem
def softmax_op_in_functional_graph() -> Training:
    inputs = keras.Input((64,))
    outputs = keras.ops.softmax(L.Dense(10)(L.Dense(12, "relu")(inputs)))
    return compiled(keras.Model(inputs, outputs), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_of_tensorflow() -> Training:
    return compiled(mlp(L.Dense(10, tf.nn.softmax)), "sparse_categorical_crossentropy"), flat()


@problem
def softmax_of_tensorflow_with_binary_loss() -> Training:
    return compiled(mlp(L.Dense(10, tf.nn.softmax)), "binary_crossentropy"), flat(y=one_hot())


@problem
def softmax_with_squared_error() -> Training:
    return compiled(mlp(L.Dense(10, "softmax")), "mse"), flat(y=one_hot())


@problem
def softmax_saturated() -> Training:
    x = digits()[0] * 1000
    return compiled(mlp(L.Dense(10, "softmax")), "sparse_categorical_crossentropy"), flat(x=x)


@problem
def sigmoid_in_dense() -> Training:
    return compiled(mlp(L.Dense(10, "sigmoid")), "binary_crossentropy"), flat(y=one_hot())


@problem
def sigmoid_in_activation_layer() -> Training:
    tail = L.Dense(10), L.Activation("sigmoid")
    return compiled(mlp(*tail), "binary_crossentropy"), flat(y=one_hot())


@problem
def sigmoid_of_tensorflow_with_categorical_loss() -> Training:
    return compiled(mlp(L.Dense(10, tf.sigmoid)), "categorical_crossentropy"), flat(y=one_hot())


@problem
def masked_recurrent_net() -> Training:
    layers = [keras.Input((12,), dtype="int64"), L.Embedding(18, 6, mask_zero=True), L.LSTM(5), L.Dense(10)]
    return compiled(keras.Sequential(layers)), flat(x=_tokens())


@problem
def masked_output() -> Training:
    layers = [keras.Input((12,), dtype="int64"), L.Embedding(18, 6, mask_zero=True), L.Dense(4, "relu"), L.Dense(1)]
    return compiled(keras.Sequential(layers), "mse"), flat(x=_tokens(), y=_tokens()[..., None] / 16)


def _tokens() -> np.ndarray:
    return (digits()[0][:, 20:32] * 16).astype("int64")


@problem
def recurrent_nets_of_all_kinds() -> Training:
    layers = [
        keras.Input((8, 8)),
        L.Bidirectional(L.GRU(4, return_sequences=True)),
        L.TimeDistributed(L.Dense(5, "relu")),
        L.SimpleRNN(4, return_sequences=True),
        L.RNN(L.LSTMCell(3)),
        L.Dense(10),
    ]
    return compiled(keras.Sequential(layers)), {"x": digits()[0].reshape(-1, 8, 8), "y": digits()[1]}


@problem
def time_distributed_over_unknown_length() -> Training:
    layers = [keras.Input((None, 8)), L.TimeDistributed(L.Dense(5, "relu")), L.GlobalAveragePooling1D(), L.Dense(10)]
    return compiled(keras.Sequential(layers)), {"x": digits()[0].reshape(-1, 8, 8), "y": digits()[1]}


@problem
def attention() -> Training:
    inputs = keras.Input((8, 8))
    attended = L.MultiHeadAttention(2, 4, dropout=0.1)(inputs, inputs)
    outputs = L.Dense(10)(L.GlobalAveragePooling1D()(L.LayerNormalization()(attended + inputs)))
    return compiled(keras.Model(inputs, outputs)), {"x": digits()[0].reshape(-1, 8, 8), "y": digits()[1]}


@problem
def regularizers() -> Training:
    hidden = L.Dense(12, "relu", kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    constrained = L.Dense(10, kernel_constraint="max_norm")
    return compiled(keras.Sequential([keras.Input((64,)), hidden, constrained])), flat()


@problem
def sample_weights_and_validation() -> Training:
    x, y = digits()
    model = compiled(mlp(L.Dropout(0.2), L.Dense(10)), metrics=["accuracy"], weighted_metrics=["accuracy"])
    return model, flat(sample_weight=1 + y / 10, validation_data=(x[:20], y[:20]))


@problem
def class_weights() -> Training:
    return compiled(mlp()), flat(class_weight={label: 1 + label / 10 for label in range(10)})


@problem
def eager() -> Training:
    model = mlp(L.BatchNormalization(), L.Dropout(0.2), L.Dense(10, "softmax"))
    return compiled(model, "sparse_categorical_crossentropy", run_eagerly=True), flat()


@problem
def several_steps_per_execution() -> Training:
    return compiled(mlp(L.Dropout(0.2), L.Dense(10)), steps_per_execution=4), flat()


@problem
def clipped_by_norm() -> Training:
    return compiled(mlp(), optimizer=keras.optimizers.Adam(0.01, clipnorm=0.1)), flat()


@problem
def moving_average_of_weights() -> Training:
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
    return compiled(mlp(), optimizer=optimizer), flat()


@problem
def gradient_accumulation() -> Training:
    return compiled(mlp(), optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)), flat()


@problem
def decayed_learning_rate() -> Training:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return compiled(mlp(), optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.1)), flat()


@problem
def dataset_with_ragged_end() -> Training:
    data = tf.data.Dataset.from_tensor_slices(digits()).shuffle(SAMPLES, seed=3).batch(BATCH)
    return compiled(mlp(L.Dropout(0.2), L.Dense(10))), {"x": data}


@problem
def generator() -> Training:
    x, y = digits()

    def batches() -> Any:
        while True:
            for start in range(0, SAMPLES, BATCH):
                yield x[start : start + BATCH], y[start : start + BATCH]

    return compiled(mlp()), {"x": batches(), "steps_per_epoch": 6}


@problem
def nested_models() -> Training:
    inner = keras.Sequential([keras.Input((12,)), L.Dense(8, "relu"), L.Dropout(0.2)])
    hidden = keras.Input((64,))
    middle = keras.Model(hidden, inner(L.Dense(12, "elu")(hidden)))
    return compiled(keras.Sequential([keras.Input((64,)), middle, L.Dense(10)])), flat()


@problem
def shared_layer() -> Training:
    inputs, shared = keras.Input((64,)), L.Dense(12, "relu")
    hidden = L.Dense(12, "tanh")(inputs)
    outputs = L.Dense(10)(shared(shared(hidden)) + hidden)
    return compiled(keras.Model(inputs, outputs)), flat()


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A user's own model: a list of layers, raw ops, a branch on `training`, a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [L.Dense(12, "relu"), L.Dense(12, "relu")]
        self.drop, self.norm, self.head = L.Dropout(0.3), L.BatchNormalization(), L.Dense(10)

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.blocks[0](inputs)
        hidden = tf.concat([self.blocks[1](hidden), hidden], axis=1)
        if training:
            hidden = self.drop(hidden, training=True)
        self.add_loss(0.01 * tf.reduce_mean(hidden**2))
        return self.head(self.norm(hidden, training=training))


@problem
def subclassed() -> Training:
    return compiled(Subclassed()), flat()


class OwnStep(Subclassed):
    """A user's own train step: own tape, own noise, gradients changed by hand, a metric of its own."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            noisy = x + keras.random.normal(tf.shape(x), stddev=0.01)
            loss = self.compute_loss(x, y, self(noisy, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 0.5)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss, "norm": tf.linalg.global_norm(gradients)}


@problem
def own_train_step() -> Training:
    return compiled(OwnStep()), flat()


@problem
def layers_as_activations() -> Training:
    hidden = L.Dense(12, L.LeakyReLU(0.1)), L.Dense(12, L.PReLU())
    return compiled(keras.Sequential([keras.Input((64,)), *hidden, L.Dense(10)])), flat()


@problem
def partly_frozen() -> Training:
    model = mlp()
    model.layers[0].trainable = False
    return compiled(model), flat()


@problem
def integer_input() -> Training:
    model = Subclassed()
    return compiled(model), flat(x=(digits()[0] * 3).astype("int32"))


@keras.saving.register_keras_serializable("tests")
class Penalty(L.Layer):
    """Passes its input on and adds a loss: a training without targets."""

    def call(self, inputs: Any, target: Any) -> Any:
        self.add_loss(keras.ops.mean((inputs - target) ** 2))
        return inputs


@problem
def without_targets() -> Training:
    inputs = keras.Input((64,))
    decoded = L.Dense(64, "sigmoid")(L.Dense(8, "relu")(inputs))
    model = keras.Model(inputs, Penalty()(decoded, inputs))
    model.compile("adam", jit_compile=False)
    return model, flat(y=None)


def fresh(name: str) -> Training:
    """The training of that name, from the same seeds each time."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    model, fit = PROBLEMS[name]()
    sliced = isinstance(keras.tree.flatten(fit["x"])[0], np.ndarray)
    return model, {"batch_size": BATCH if sliced else None, "epochs": 2, "verbose": 0, **fit}
