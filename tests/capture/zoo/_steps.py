"""Trainings with a train step, a `call` or a loss of the user's own."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tests.capture.zoo._ground import Training, compiled, digits, flat, images, problem
from tests.capture.zoo._models import Subclassed

layers = keras.layers


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


def on_digits(model: keras.Model) -> Training:
    """A model that its first batch builds, compiled, with flat digits."""
    compiled(model)(digits()[0][:2])
    return model, flat()


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
    return on_digits(StepInFunction())


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
    return on_digits(CallInFunction())


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
    return on_digits(UpdateInCondition())


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


class OwnLoss(keras.Sequential):
    """Computes its loss itself, and counts it in a metric of its own."""

    def __init__(self, stack: Any) -> None:
        super().__init__(stack)
        self.tracker = keras.metrics.Mean(name="error")

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *rest: Any, **settings: Any
    ) -> Any:
        error = keras.ops.mean(keras.ops.abs(y_pred - keras.ops.one_hot(y, 10)) ** 1.5) + sum(self.losses)
        self.tracker.update_state(error)
        return error

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]


@problem
def own_loss() -> Training:
    """Keras' guide: `compute_loss` in place of a compiled loss."""
    hidden = layers.Dense(8, "relu", kernel_regularizer="l2")
    return compiled(OwnLoss([keras.Input((64,)), hidden, layers.Dense(10, "softmax")])), flat()


class Microbatches(keras.Sequential):
    """Takes the gradient of each half of the batch, and updates by their mean."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        losses, found = [], []
        for part in (slice(None, None, 2), slice(1, None, 2)):
            with tf.GradientTape() as tape:
                losses.append(self.compute_loss(x[part], y[part], self(x[part], training=True)))
            found.append(tape.gradient(losses[-1], self.trainable_variables))
        means = [(one + other) / 2 for one, other in zip(*found, strict=True)]
        self.optimizer.apply_gradients(zip(means, self.trainable_variables, strict=True))
        return {"loss": sum(losses) / 2}


@problem
def microbatches() -> Training:
    """Two passes over the same weights."""
    stack = keras.Input((64,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(10)
    return compiled(Microbatches(list(stack))), flat()


class Distiller(keras.Model):
    """A net that learns from another one, which is held fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = keras.Sequential([keras.Input((64,)), layers.Dense(12, "tanh"), layers.Dense(10)])
        self.student = keras.Sequential([keras.Input((64,)), layers.Dense(6, "relu"), layers.Dense(10)])
        self.teacher.trainable = False

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *rest: Any, **settings: Any
    ) -> Any:
        softer = keras.ops.softmax(keras.ops.tanh(self.teacher(x, training=False)) * 2.0)
        distance = keras.losses.kl_divergence(softer, keras.ops.softmax(y_pred / 3.0))
        own = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        return keras.ops.mean(0.3 * own + 0.7 * distance)


@problem
def distillation() -> Training:
    """A frozen model is called while the loss is computed."""
    return compiled(Distiller()), flat()


class PersistentTape(Subclassed):
    """Takes two gradients of one forward pass, one for the head and one for all else."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            prediction = self(x, training=True)
            loss = self.compute_loss(x, y, prediction)
            smoothed = loss + 0.01 * tf.reduce_mean(prediction**2)
        last = self.head.trainable_variables
        others = [v for v in self.trainable_variables if all(v is not w for w in last)]
        gradients = {"last": tape.gradient(loss, last), "others": tape.gradient(smoothed, others)}
        pairs = [*zip(gradients["last"], last, strict=True), *zip(gradients["others"], others, strict=True)]
        self.optimizer.apply_gradients(pairs)
        return {"loss": loss}


@problem
def persistent_tape() -> Training:
    """Two losses, each for some of the weights."""
    return compiled(PersistentTape()), flat()


class TwoTapes(keras.Model):
    """TensorFlow's tutorial: both tapes watch one forward pass of a maker and a judge."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = keras.Sequential(
            [
                keras.Input((5,)),
                layers.Dense(4 * 4 * 3, use_bias=False, name="maker_start"),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.2),
                layers.Reshape((4, 4, 3)),
                layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh", name="maker_end"),
            ]
        )
        self.judge = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, 2, "same", name="judge_start"),
                layers.LeakyReLU(0.2),
                layers.Dropout(0.3),
                layers.Flatten(),
                layers.Dense(1, name="judge_end"),
            ]
        )
        self.noise = keras.random.SeedGenerator(3)

    def compile(self, maker_optimizer: Any, judge_optimizer: Any) -> None:
        super().compile(jit_compile=False)
        self.maker_optimizer, self.judge_optimizer = maker_optimizer, judge_optimizer
        self.score = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, inputs: Any) -> Any:
        return self.judge(inputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        drawn = keras.random.normal((tf.shape(data)[0], 5), seed=self.noise)
        with tf.GradientTape() as makes, tf.GradientTape() as judges:
            made = self.maker(drawn, training=True)
            real, fake = self.judge(data, training=True), self.judge(made, training=True)
            maker_loss = self.score(tf.ones_like(fake), fake)
            judge_loss = self.score(tf.ones_like(real), real) + self.score(tf.zeros_like(fake), fake)
        for tape, loss, part, optimizer in (
            (makes, maker_loss, self.maker, self.maker_optimizer),
            (judges, judge_loss, self.judge, self.judge_optimizer),
        ):
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply_gradients(zip(gradients, part.trainable_variables, strict=True))
        return {"maker": maker_loss, "judge": judge_loss}


@problem
def two_tapes_at_once() -> Training:
    """Two losses of one forward pass, two sub-models, two optimizers."""
    model = TwoTapes()
    model.compile(keras.optimizers.Adam(2e-3, 0.5), keras.optimizers.Adam(2e-3, 0.5))
    return model, {"x": images()}
