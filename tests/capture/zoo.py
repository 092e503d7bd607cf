"""Small trainings of every kind, by name, and all that a training may change.

`fresh(name)` seeds everything first, so two calls give the same training.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from sklearn.datasets import load_digits

layers = keras.layers
SAMPLES, BATCH = 88, 16  # six batches an epoch, the last one ragged
STEPS = 6

Training = tuple[keras.Model, dict[str, Any]]


# ---- data ------------------------------------------------------------------------------------


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Flat images in [0, 1] of shape (88, 64), and labels."""
    x, y = load_digits(return_X_y=True)
    return (x[:SAMPLES] / 16).astype("float32"), y[:SAMPLES].astype("int64")


def images() -> np.ndarray:
    """The images in their shape (88, 8, 8, 1)."""
    return digits()[0].reshape(-1, 8, 8, 1)


def rows() -> np.ndarray:
    """The images as sequences of 8 rows, (88, 8, 8)."""
    return digits()[0].reshape(-1, 8, 8)


def tokens() -> np.ndarray:
    """Pixels as integers from 0 to 16, (88, 12); 0 is what an Embedding masks."""
    return (digits()[0][:, 20:32] * 16).astype("int64")


def one_hot() -> np.ndarray:
    """The labels as rows, (88, 10)."""
    return np.eye(10, dtype="float32")[digits()[1]]


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch of batches, the last one ragged."""
    x, y = digits()
    for start in range(0, SAMPLES, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


# ---- models ----------------------------------------------------------------------------------


def compiled(model: keras.Model, loss: Any = None, optimizer: Any = None, **settings: Any) -> keras.Model:
    """The model, compiled without XLA, with momentum: then a step depends on all before it."""
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **{"jit_compile": False, **settings})
    return model


def flat(**fit: Any) -> dict[str, Any]:
    """Arguments of a fit on flat images."""
    x, y = digits()
    return {"x": x, "y": y, **fit}


def net(*tail: Any, hidden: Any = "tanh") -> keras.Model:
    """One hidden layer; `tail` in place of a linear head."""
    tail = tail or (layers.Dense(10, name="head"),)
    return keras.Sequential([keras.Input((64,)), layers.Dense(8, hidden, name="hidden"), *tail], name="net")


PROBLEMS: dict[str, Callable[[], Training]] = {}


def problem(make: Callable[[], Training]) -> Callable[[], Training]:
    """Enter a training into the table under its function's name."""
    PROBLEMS[make.__name__] = make
    return make


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


@problem
def regularizers() -> Training:
    """Penalties on kernel, bias and activity, and a constraint."""
    hidden = layers.Dense(
        12, "relu", kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2"
    )
    head = layers.Dense(10, kernel_constraint="max_norm")
    return compiled(keras.Sequential([keras.Input((64,)), hidden, head])), flat()


@problem
def sample_weights_and_validation() -> Training:
    """Weighted metrics, and an evaluation between the epochs."""
    x, y = digits()
    model = compiled(
        net(layers.Dropout(0.2), layers.Dense(10)), metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    return model, flat(sample_weight=(1 + y / 10).astype("float32"), validation_data=(x[:20], y[:20]))


@problem
def class_weights() -> Training:
    """Weights made inside the pipeline."""
    return compiled(net()), flat(class_weight={label: 1 + label / 10 for label in range(10)})


@problem
def eager() -> Training:
    """No graph at all."""
    tail = layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(10, "softmax")
    return compiled(net(*tail), "sparse_categorical_crossentropy", run_eagerly=True), flat()


@problem
def several_steps_per_execution() -> Training:
    """Steps inside a loop; the last execution of an epoch is ragged."""
    return compiled(net(layers.Dropout(0.2), layers.Dense(10)), steps_per_execution=4), flat()


@problem
def half_precision() -> Training:
    """A scaled loss."""
    keras.config.set_dtype_policy("mixed_float16")
    model = net(layers.Dropout(0.2), layers.Dense(10, dtype="float32"))
    keras.config.set_dtype_policy("float32")
    return compiled(model), flat()


@problem
def clipped_by_norm() -> Training:
    """Gradients changed between the tape and the update."""
    return compiled(net(), optimizer=keras.optimizers.Adam(0.01, clipnorm=0.1)), flat()


@problem
def moving_average_of_weights() -> Training:
    """An optimizer that overwrites weights."""
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
    return compiled(net(), optimizer=optimizer), flat()


@problem
def gradient_accumulation() -> Training:
    """An optimizer that updates every second step."""
    return compiled(net(), optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)), flat()


@problem
def decayed_learning_rate() -> Training:
    """A learning rate that reads the step, and weight decay."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return compiled(net(), optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.1)), flat()


@problem
def dataset_with_ragged_end() -> Training:
    """A shuffled dataset."""
    data = tf.data.Dataset.from_tensor_slices(digits()).shuffle(SAMPLES, seed=3).batch(BATCH)
    return compiled(net(layers.Dropout(0.2), layers.Dense(10))), {"x": data}


@problem
def sparse_dataset() -> Training:
    """A kernel that multiplies a sparse tensor."""
    data = tf.data.Dataset.from_tensor_slices(digits()).batch(BATCH)
    data = data.map(lambda x, y: (tf.sparse.from_dense(x), y))
    inputs = keras.Input((64,), sparse=True)
    return compiled(keras.Model(inputs, layers.Dense(10)(inputs))), {"x": data}


@problem
def generator() -> Training:
    """Batches from Python, without end."""

    def endless() -> Iterator[Any]:
        while True:
            yield from batches()

    return compiled(net()), {"x": endless(), "steps_per_epoch": STEPS}


@problem
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


class OwnStep(Subclassed):
    """A user's own train step: own tape, own noise, gradients changed by hand."""

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
    """Keras' guide: customising what happens in fit."""
    return compiled(OwnStep()), flat()


class StepInFunction(Subclassed):
    """A train step that is a tf.function, as older guides have it."""

    @tf.function
    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@problem
def step_in_a_function() -> Training:
    """A graph of its own within the train function's."""
    model = compiled(StepInFunction())
    model(digits()[0][:2])
    return model, flat()


class CallInFunction(Subclassed):
    """A `call` that is a tf.function and branches on a tensor, which AutoGraph has to convert."""

    @tf.function
    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.blocks[0](inputs)
        if tf.reduce_mean(hidden) > 0.1:
            hidden = 0.5 * hidden
        return self.head(self.norm(self.blocks[1](hidden), training=training))


@problem
def call_in_a_function() -> Training:
    """The branch is taken in some steps."""
    model = compiled(CallInFunction())
    model(digits()[0][:2])
    return model, flat()


class UpdateInCondition(OwnStep):
    """A train step that is a tf.function and updates only if the loss is finite."""

    @tf.function
    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        if tf.math.is_finite(loss):
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@problem
def update_in_a_condition() -> Training:
    """The optimizer is called in the graph of a branch."""
    model = compiled(UpdateInCondition())
    model(digits()[0][:2])
    return model, flat()


class Adversaries(keras.Model):
    """Two networks and two optimizers; the data are images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(64)])
        self.judge = keras.Sequential([keras.Input((64,)), layers.Dense(8, "relu"), layers.Dense(1)])
        self.noise = keras.random.SeedGenerator(3)

    def compile(self) -> None:
        super().compile(jit_compile=False)
        self.parts = [(self.judge, keras.optimizers.Adam(0.01)), (self.maker, keras.optimizers.Adam(0.01))]
        self.judge_optimizer, self.maker_optimizer = (optimizer for _, optimizer in self.parts)
        self.score = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, inputs: Any) -> Any:
        return self.judge(inputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        losses, ones = {}, tf.ones((tf.shape(data)[0], 1))
        for part, optimizer in self.parts:
            with tf.GradientTape() as tape:
                made = self.maker(keras.random.normal((tf.shape(data)[0], 5), seed=self.noise))
                loss = self.score(ones, self.judge(made))
                if part is self.judge:
                    loss = self.score(ones, self.judge(data)) - loss
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply_gradients(zip(gradients, part.trainable_variables, strict=True))
            losses[part.name] = loss
        return losses


@problem
def adversaries() -> Training:
    """Two optimizers, two tapes, no targets, `x` given alone."""
    model = Adversaries()
    model.compile()
    return model, {"x": digits()[0]}


class Penalised(keras.Sequential):
    """A gradient inside the loss: the tape is differentiated."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                prediction = self(x, training=True)
            loss = self.compute_loss(x, y, prediction)
            loss += tf.reduce_mean(inner.gradient(prediction, x) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@problem
def gradient_penalty() -> Training:
    """Second derivatives go through the taps."""
    return compiled(Penalised([keras.Input((64,)), layers.Dense(8, "relu"), layers.Dense(10)])), flat()


@keras.saving.register_keras_serializable("tests")
class Penalty(layers.Layer):
    """Passes its input on and adds a loss."""

    def call(self, inputs: Any, target: Any) -> Any:
        self.add_loss(keras.ops.mean((inputs - target) ** 2))
        return inputs


@problem
def without_targets() -> Training:
    """Nothing but a loss that a layer adds."""
    inputs = keras.Input((64,))
    decoded = layers.Dense(64, "sigmoid")(layers.Dense(8, "relu")(inputs))
    model = keras.Model(inputs, Penalty()(decoded, inputs))
    model.compile("adam", jit_compile=False)
    return model, flat(y=None)


def fresh(name: str) -> Training:
    """The training of that name, from the same seeds each time."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    model, fit = PROBLEMS[name]()
    arrays = isinstance(keras.tree.flatten(fit["x"])[0], np.ndarray)
    return model, {"batch_size": BATCH if arrays else None, "epochs": 2, "verbose": 0, **fit}


# ---- all that a training may change ----------------------------------------------------------

State = dict[str, np.ndarray]


def optimizers(model: keras.Model) -> list[Any]:
    """The model's optimizers, and those inside of others."""
    found = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    return found + [inner for outer in found if (inner := getattr(outer, "inner_optimizer", None))]


def state(model: keras.Model) -> State:
    """Weights, moving statistics, metrics, optimizers, and every source of random numbers."""
    variables = {
        **{f"model {v.path}": v for v in model.variables},
        **{f"metric {i} {v.path}": v for i, v in enumerate(model.metrics_variables)},
        **{f"optimizer {i} {v.path}": v for i, o in enumerate(optimizers(model)) for v in o.variables},
    }
    generator = global_state.get_global_attribute("global_seed_generator")
    if generator is not None:
        variables["seed of keras.random"] = generator.state
    return {
        **{name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in variables.items()},
        "state of numpy.random": np.random.get_state()[1].copy(),
        "state of random": np.array([hash(random.getstate())]),
    }


def assert_same(left: State, right: State) -> None:
    """Bit by bit."""
    if only_one := sorted(left.keys() ^ right.keys()):
        raise AssertionError(f"only in one of them: {only_one}")
    if changed := [name for name in left if not np.array_equal(left[name], right[name], equal_nan=True)]:
        raise AssertionError(f"changed: {changed}")


def train(name: str, *callbacks: keras.callbacks.Callback, **settings: Any) -> State:
    """All that is left of the training of that name, and its history.

    `settings` go to `compile`.
    """
    model, fit = fresh(name)
    if settings:
        compiled(model, model.loss, model.optimizer, **settings)
    history = model.fit(**fit, callbacks=list(callbacks)).history
    return state(model) | {f"history {key}": np.array(values) for key, values in history.items()}
