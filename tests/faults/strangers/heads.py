"""Outputs and losses: pairs that fit, and pairs that don't."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import DEEPLOCALIZE, KERAS, KERAS_IO, Built, Family, compiled, normal

CASES = Family()


def _digits(one_hot: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = small_digits()
    return x[:192], np.eye(10, dtype="float32")[y[:192]] if one_hot else y[:192]


def _net(activation: str | None, units: int = 10) -> keras.Model:
    return keras.Sequential([keras.Input((64,)), dense(32, "h1"), dense(units, "out", activation)])


@CASES(
    "ten classes, a sigmoid and categorical crossentropy",
    KERAS
    + "2711 (comment of 2019-11-13): in a multi class problem use softmax rather than sigmoid, or it stays "
    "where it is",
    truth=(("output_mismatch", "out"),),
)
def sigmoid_of_classes() -> Built:
    """The rows don't sum to 1."""
    return compiled(_net("sigmoid"), "categorical_crossentropy", *_digits(one_hot=True))


@CASES(
    "logits taken for probabilities",
    "https://github.com/tensorflow/docs/pull/2102 and "
    "https://github.com/keras-team/keras-hub/pull/1008: this will "
    "not converge, pass from_logits=True",
    truth=(("output_mismatch", "out"),),
)
def forgotten_softmax() -> Built:
    """A linear output, sparse categorical crossentropy."""
    return compiled(_net(None), "sparse_categorical_crossentropy", *_digits(one_hot=False))


@CASES(
    "probabilities taken for logits",
    KERAS + "6143: the output of a softmax is passed on as logits, another softmax is applied",
    truth=(("output_mismatch", "out"),),
)
def twice_softmax() -> Built:
    """from_logits=True behind a softmax."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    return compiled(_net("softmax"), loss, *_digits(one_hot=True))


@CASES("logits taken for logits", KERAS + "15271: from_logits=True means that there is no activation")
def logits() -> Built:
    """As it is meant."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(_net(None), loss, *_digits(one_hot=False))


@CASES(
    "a class of two by a ReLU",
    "https://panteravb.com/q/why-does-the-sigmoid-activation-function-work-but-relu-does-not (a question of "
    "StackOverflow): a ReLU as output under binary crossentropy, 50 %",
    truth=(("output_mismatch", "out"), ("dead_activation", "out")),
)
def relu_of_two() -> Built:
    """Outputs of 0, or more than 1."""
    x, y = _digits(one_hot=False)
    return compiled(_net("relu", 1), "binary_crossentropy", x, (y % 2)[:, None])


@CASES(
    "a line by a sigmoid",
    DEEPLOCALIZE + "48221692: a line fitted by sigmoids, the output one too, squared error",
    truth=(("output_mismatch", "out"),),
)
def line_by_sigmoid() -> Built:
    """Targets in the tens, squared error."""
    x = normal(192, 1)
    net = keras.Sequential([keras.Input((1,)), dense(5, "h1", "sigmoid"), dense(1, "out", "sigmoid")])
    return compiled(net, "mse", x, 30 + 12 * x)


@CASES(
    "ten classes against one sigmoid",
    "NeuraLint (Nikanjam et al., TOSEM 2021): loss, last activation and labels have to fit each other",
    truth=(("output_mismatch", "out"),),
)
def classes_of_one() -> Built:
    """Integers 0…9 under binary crossentropy."""
    x, y = _digits(one_hot=False)
    return compiled(_net("sigmoid", 1), "binary_crossentropy", x, y[:, None].astype("float32"))


@CASES(
    "a class of two by a softmax of one",
    KERAS + "7023 and https://geek-tips.imtqy.com/articles/557592/index.html (a question of StackOverflow): "
    "with one "
    "node it is always 1.0",
    truth=(("output_mismatch", "out"),),
    tape={"out": "live"},
)
def softmax_of_one() -> Built:
    """Binary crossentropy: Keras 3 reads the logit, and learns; what is put out stays 1."""
    x, y = _digits(one_hot=False)
    return compiled(_net("softmax", 1), "binary_crossentropy", x, (y % 2)[:, None])


@CASES(
    "several labels a sample",
    "https://keras.io/examples/nlp/multi_label_classification/: sigmoids and binary crossentropy",
)
def several_labels() -> Built:
    """Ten units, of which several may be 1."""
    x, y = _digits(one_hot=False)
    labels = np.stack([y % 2, y > 4, y % 3 == 0], axis=1).astype("float32")
    return compiled(_net("sigmoid", 3), "binary_crossentropy", x, labels)


@CASES("two classes, two units", KERAS + "7023, repaired: softmax of two units, categorical crossentropy")
def two_units() -> Built:
    """One-hot labels."""
    x, y = _digits(one_hot=False)
    return compiled(_net("softmax", 2), "categorical_crossentropy", x, np.eye(2, dtype="float32")[y % 2])


@CASES("mixture density net", KERAS_IO + "keras_recipes/approximating_non_function_mappings.py")
def mixture_density() -> Built:
    """Means, deviations and shares of three bells; the likelihood of the target."""

    def surprise(truth: object, guess: object) -> object:
        mean, spread, share = keras.ops.split(guess, 3, axis=-1)
        spread = keras.ops.softplus(spread) + 1e-3
        bells = keras.ops.log_softmax(share) - 0.5 * ((truth - mean) / spread) ** 2 - keras.ops.log(spread)
        return -keras.ops.mean(keras.ops.logsumexp(bells, axis=-1))

    x = normal(192, 1)
    net = keras.Sequential([keras.Input((1,)), dense(32, "h1", "tanh"), layers.Dense(9, name="bells")])
    return compiled(net, surprise, x + 0.5 * np.sin(4 * x) + 0.1 * normal(192, 1, seed=1), x)
