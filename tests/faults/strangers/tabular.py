"""Dense nets of published fault benchmarks and of questions: scales, starts and steps."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import (
    DEEPLOCALIZE,
    KERAS,
    KERAS_IO,
    Built,
    Family,
    compiled,
    fitted,
    normal,
)

CASES = Family()


def _table(scale: object = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Six features, and a class that a line with a bend tells apart."""
    x = normal(256, 6)
    return x * scale, ((x[:, 0] + x[:, 1] * x[:, 2]) > 0).astype("float32")[:, None]


def _stack(inputs: int, *hidden: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), *hidden])


@CASES(
    "features in the hundreds",
    DEEPLOCALIZE
    + "39525358: repaired by a StandardScaler; "
    + KERAS
    + "7659: no progress on Pima's raw columns",
    truth=(("unscaled_input", "h1"),),
)
def raw_features() -> Built:
    """Columns of scales from 20 to 500, a small ReLU net, a sigmoid."""
    net = _stack(6, dense(12, "h1"), dense(8, "h2"), dense(1, "out", "sigmoid"))
    return compiled(net, "binary_crossentropy", *_table(np.array([20, 50, 100, 200, 300, 500], "float32")))


@CASES(
    "features in the thousands, a loss that stays at 7",
    KERAS + "4171: very high loss (about 7) in binary classification, for ever; the sigmoid is at 0 or 1",
    truth=(("unscaled_input", "h1"), ("saturated_activation", "out"), ("output_mismatch", "out")),
)
def huge_features() -> Built:
    """PReLU layers without normalisation."""
    hidden = [dense(64, "h1", None), layers.PReLU(name="p1"), dense(32, "h2", None), layers.PReLU(name="p2")]
    net = _stack(6, *hidden, dense(1, "out", "sigmoid"))
    return compiled(net, "binary_crossentropy", *_table(5000.0))


@CASES(
    "structured data, normalised", KERAS_IO + "structured_data/structured_data_classification_from_scratch.py"
)
def normalised_features() -> Built:
    """The same columns behind a Normalization layer."""
    x, y = _table(np.array([20, 50, 100, 200, 300, 500], "float32"))
    scaler = layers.Normalization(name="scaler")
    scaler.adapt(x)
    net = _stack(6, scaler, dense(32, "h1"), layers.Dropout(0.5), dense(1, "out", "sigmoid"))
    return compiled(net, "binary_crossentropy", x, y)


@CASES("wide and deep", KERAS_IO + "structured_data/wide_deep_cross_networks.py")
def wide_and_deep() -> Built:
    """A linear path beside a deep one, with normalisations."""
    start = keras.Input((6,))
    deep = layers.ReLU()(layers.BatchNormalization()(dense(32, "d1", None)(start)))
    deep = layers.ReLU()(layers.BatchNormalization()(dense(32, "d2", None)(deep)))
    joined = layers.Concatenate()([layers.BatchNormalization()(start), deep])
    model = keras.Model(start, dense(1, "out", "sigmoid")(joined))
    return compiled(model, "binary_crossentropy", *_table())


def _prices(scale: float) -> Built:
    x, _ = _table()
    price = scale * (2 + x[:, :1] + 0.3 * x[:, 1:2] ** 2)
    return compiled(_stack(6, dense(32, "h1"), dense(16, "h2"), dense(1, "price", None)), "mse", x, price)


@CASES(
    "prices of houses in dollars, squared error",
    "https://github.com/rstudio-conf-2020/dl-keras-tf/issues/9: predicted prices reach 755000, the "
    "squared error "
    "explodes, loss nan",
    truth=(("loud_loss", "price"), ("exploding", "price"), ("exploding", "*")),
)
def dollars() -> Built:
    """The gradient at the output is of the size of the prices."""
    return _prices(2e5)


@CASES(
    "prices of houses, standardised", "https://github.com/rstudio-conf-2020/dl-keras-tf/issues/9, repaired"
)
def standardised_prices() -> Built:
    """The same prices, of size one."""
    return _prices(0.7)


def _xor(head: layers.Layer, loss: str, hidden: layers.Layer) -> Built:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 2, "float32")
    return compiled(_stack(2, hidden, head), loss, x, np.array([[0], [1], [1], [0]] * 2, "float32"))


@CASES(
    "XOR, a softmax of one unit",
    DEEPLOCALIZE
    + "34311586; the same in "
    + KERAS
    + "126: the loss does not improve, predict_proba gives ones",
    truth=(("output_mismatch", "out"),),
    tape={"h1": "zero", "out": "zero"},
)
def xor_of_ones() -> Built:
    """Squared error."""
    return _xor(dense(1, "out", "softmax"), "mse", dense(4, "h1", "sigmoid"))


@CASES(
    "XOR, repaired",
    "https://pullrequest.ru/10478105/model-uchitsya-keras (a question of StackOverflow): one hidden "
    "layer, sigmoid",
)
def xor() -> Built:
    """Eight samples are all there is."""
    return _xor(dense(1, "out", "sigmoid"), "binary_crossentropy", dense(16, "h1", "tanh"))


@CASES(
    "regression with a ReLU output, all predictions 0",
    DEEPLOCALIZE + "48251943: Dense(4, relu), Dense(1, relu), squared error, SGD on raw columns",
    truth=(("dead_activation", "out"), ("unscaled_input", "h1")),
    tape={"h1": "zero", "out": "zero"},
)
def relu_regression() -> Built:
    """Two epochs of plain SGD throw the output's unit off for good."""
    x, _ = _table(np.array([8, 12, 15, 20, 25, 30], "float32"))
    x = np.abs(x)
    net = _stack(6, dense(4, "h1"), dense(1, "out"))
    return fitted(compiled(net, "mse", x, x[:, :1] / 10, optimizer=keras.optimizers.SGD(0.01)), epochs=2)


@CASES(
    "linear layers of unit normal weights, SGD at 3",
    DEEPLOCALIZE + "48385830: RandomNormal(stddev=1), learning rate 3.0, squared error",
    truth=(("non_finite", "l1"), ("non_finite", "l2")),
    tape={"l1": "nan", "l2": "nan"},
)
def diverged() -> Built:
    """All weights are NaN after an epoch."""
    x, y = small_digits()
    start = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    hidden = [
        layers.Dense(units, kernel_initializer=start, name=name) for units, name in ((30, "l1"), (10, "l2"))
    ]
    targets = np.eye(10, dtype="float32")[y[:512]]
    return fitted(compiled(_stack(64, *hidden), "mse", x[:512], targets, optimizer=keras.optimizers.SGD(3.0)))


@CASES(
    "dying ReLUs, a learning rate that is too large",
    KERAS
    + "7057: too high a learning rate pushes neurons to where they are never active, their gradient is zero",
    truth=(("dead_activation", "h1"), ("dead_activation", "h2")),
    tape={"h1": "zero"},
)
def dying_relus() -> Built:
    """An epoch of SGD at 30; what Keras and a tape show afterwards is in the test."""
    x, y = small_digits()
    net = _stack(64, dense(32, "h1"), dense(32, "h2"), dense(10, "out", "softmax"))
    loss = "sparse_categorical_crossentropy"
    return fitted(compiled(net, loss, x[:256], y[:256], optimizer=keras.optimizers.SGD(30.0)))
