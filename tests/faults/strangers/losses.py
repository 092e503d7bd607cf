"""Own losses and layers between net and loss: what can't be differentiated, and what can."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import compiled as for_classes
from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import KERAS, KERAS_IO, TENSORFLOW, Built, Family, compiled, normal

CASES = Family()


def _data(classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x, y = small_digits()
    return x[:192], y[:192] % classes


def _net(units: int, activation: str | None, head: str = "out") -> keras.Model:
    return keras.Sequential(
        [keras.Input((64,)), dense(32, "h1"), dense(32, "h2"), dense(units, head, activation)]
    )


@CASES(
    "crossentropy of an argmax",
    "https://xue-jishu.com/tensorflow-zi-ding-yi-xun-lian-bu-zhou-shi-yong-bu-tong-de-sun-shi-han-shu "
    "(a question "
    "of StackOverflow): argmax of the logits within the tape, no gradients provided",
    truth=(("disconnected", "logits"),),
    tape={"h1": "none", "h2": "none", "logits": "none"},
)
def argmax_loss() -> Built:
    """The class with the largest logit, compared with the true one."""
    net, (x, y) = _net(10, None, "logits"), _data()

    def loss() -> tf.Tensor:
        guess = tf.cast(tf.argmax(net(x, training=True), axis=1), tf.float32)
        return tf.reduce_mean(tf.abs(guess - y))

    return Built((net,), loss=loss)


@CASES(
    "F1 of thresholded predictions as a loss",
    f"{TENSORFLOW}47083: no gradients, tf.cast of a comparison; {TENSORFLOW}8625 with tf.floor",
    truth=(("disconnected", "out"),),
    tape={"h1": "none", "h2": "none", "out": "none"},
)
def counted_f1() -> Built:
    """Counts of hits can't be differentiated."""

    def loss(truth: tf.Tensor, guess: tf.Tensor) -> tf.Tensor:
        yes = tf.cast(guess > 0.5, tf.float32)
        hits = tf.reduce_sum(yes * truth)
        return 1 - 2 * hits / (tf.reduce_sum(yes) + tf.reduce_sum(truth) + 1e-6)

    x, y = _data(2)
    return compiled(_net(1, "sigmoid"), loss, x, y[:, None].astype("float32"))


@CASES("soft F1 as a loss", "https://markaicode.com/custom-gradients-non-differentiable-losses, the way out")
def soft_f1() -> Built:
    """Probabilities instead of counts."""

    def loss(truth: tf.Tensor, guess: tf.Tensor) -> tf.Tensor:
        hits = ops.sum(truth * guess)
        return 1 - 2 * hits / (ops.sum(guess) + ops.sum(truth) + 1e-6)

    x, y = _data(2)
    return compiled(_net(1, "sigmoid"), loss, x, y[:, None].astype("float32"))


@CASES(
    "a loss that reads a hidden layer only",
    "https://thinbug.com/q/51257037 (a question of StackOverflow): why must the loss be computed from "
    "the output; "
    "the output layer has None for gradient",
    truth=(("disconnected", "out"),),
    tape={"h1": "live", "h2": "live", "out": "none"},
)
def unread_output() -> Built:
    """An own loop whose loss is computed from the layer before."""
    net, (x, _) = _net(1, None), _data()
    hidden = keras.Model(net.inputs, [net.get_layer("h2").output, net.outputs[0]])

    def loss() -> tf.Tensor:
        features, _ = hidden(x, training=True)
        return tf.reduce_mean(tf.reduce_sum(features**2, axis=1) - 1.0)

    return Built((hidden,), loss=loss)


@CASES(
    "logarithm under tf.where",
    f"{TENSORFLOW}27684: nan in the branch that is not chosen comes back through the gradient",
    truth=(("non_finite", "out"), ("non_finite", "*")),
    tape={"h1/kernel": "nan", "out/kernel": "nan"},
)
def log_under_where() -> Built:
    """Counts of 0 have no logarithm of the rate; some rates are exactly 0."""

    def loss(truth: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        surprise = tf.where(truth > 0, truth * tf.math.log(rate), tf.zeros_like(rate))
        return tf.reduce_mean(rate - surprise)

    x, _ = _data()
    net = _net(1, "relu")
    counts = np.where(net.predict(x, verbose=0) > 0, 2.0, 0.0)
    return compiled(net, loss, x, counts.astype("float32"))


class Filter(layers.Layer):
    """A filter by NumPy."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Smoothed along the units."""
        smooth = tf.numpy_function(lambda a: (a + np.roll(a, 1, axis=-1)) / 2, [x], tf.float32)
        return tf.ensure_shape(smooth, x.shape)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As its input."""
        return shape


@CASES(
    "a layer that calls NumPy",
    f"{TENSORFLOW}40717 and {TENSORFLOW}1095: a Python function inside of a layer has no gradient",
    truth=(("disconnected", "filter"), ("disconnected", "h1")),
    tape={"h1": "none", "h2": "live", "out": "live"},
)
def numpy_layer() -> Built:
    """Forward it works."""
    start = keras.Input((64,))
    hidden = dense(32, "h2")(Filter(name="filter")(dense(32, "h1")(start)))
    return Built((for_classes(keras.Model(start, dense(10, "out", "softmax")(hidden))),), *_data())


class Ceiling(layers.Layer):
    """Whole numbers."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Rounded up."""
        return ops.ceil(x)


@CASES(
    "ceil behind PReLU",
    KERAS + "15716: gradients do not exist for p_re_lu/alpha; tf.math.ceil passes nothing on",
    truth=(("disconnected", "ceil"), ("disconnected", "p_re_lu")),
    tape={"h1": "none", "p_re_lu": "none", "out": "live"},
)
def ceiling() -> Built:
    """What is before it has no gradient."""
    start = keras.Input((64,))
    hidden = Ceiling(name="ceil")(layers.PReLU(name="p_re_lu")(dense(32, "h1", None)(start)))
    return Built((for_classes(keras.Model(start, dense(10, "out", "softmax")(hidden))),), *_data())


def _simsiam(stop_both: bool) -> Built:
    encoder = keras.Sequential([keras.Input((64,)), dense(32, "h1"), dense(16, "code", None)], name="encoder")
    predictor = keras.Sequential(
        [keras.Input((16,)), dense(8, "p1"), dense(16, "guess", None)], name="predictor"
    )
    x = _data()[0]
    views = [x + 0.1 * normal(*x.shape, seed=seed) for seed in (1, 2)]

    def loss() -> tf.Tensor:
        codes = [encoder(view, training=True) for view in views]
        guesses = [predictor(code, training=True) for code in codes]
        if stop_both:
            guesses = [tf.stop_gradient(guess) for guess in guesses]
        pairs = zip(guesses, reversed(codes), strict=True)
        unit = tf.math.l2_normalize
        cosines = [tf.reduce_sum(unit(g, 1) * unit(tf.stop_gradient(c), 1), axis=1) for g, c in pairs]
        return -tf.reduce_mean(tf.stack(cosines))

    return Built((encoder, predictor), loss=loss)


@CASES("SimSiam", KERAS_IO + "vision/simsiam.py")
def simsiam() -> Built:
    """One side is stopped, by design."""
    return _simsiam(stop_both=False)


@CASES(
    "SimSiam, both sides stopped",
    "https://discuss.tensorflow.org/t/where-does-the-tape-break-after-all/20305 (gradients are None); "
    + KERAS_IO
    + "vision/simsiam.py with its stop_gradient on the guess too",
    truth=(("disconnected", "guess"), ("disconnected", "predictor"), ("disconnected", "code")),
    tape={"h1": "none", "code": "none", "guess": "none"},
)
def stopped_simsiam() -> Built:
    """The whole loss is detached."""
    return _simsiam(stop_both=True)


@CASES("knowledge distillation", KERAS_IO + "vision/knowledge_distillation.py")
def distillation() -> Built:
    """A student learns the softened probabilities of a teacher that stays as it is."""
    teacher, student, (x, y) = _net(10, None, "t_out"), _net(10, None, "s_out"), _data()

    def loss() -> tf.Tensor:
        logits, soft = student(x, training=True), tf.nn.softmax(teacher(x) / 4.0)
        hard = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        softer = tf.nn.softmax_cross_entropy_with_logits(soft, logits / 4.0)
        return tf.reduce_mean(0.5 * hard + 0.5 * 16 * softer)

    return Built((student,), loss=loss)
