"""The faulty cases: every fault crossed with the networks that can have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.faults.models import (
    OwnStep,
    compiled,
    per_row_mlp,
    rows_of_digits,
    sentences,
    set_part,
    small_digits,
)
from tests.faults.suite import networks
from tests.faults.suite.cases import (
    SAMPLES,
    Case,
    Planted,
    activity,
    fitted,
    scale_kernel,
    set_kernel,
    shift_bias,
)
from tests.faults.suite.networks import CROSSENTROPY, NETWORKS, dense_stack

RECTIFIED = tuple(NETWORKS)
FEEDFORWARD = ("MLP", "tabular MLP", "binary MLP", "CNN", "autoencoder", "regression", "embedding")
VECTORS = ("MLP", "tabular MLP", "binary MLP", "autoencoder", "regression")


def faulty_cases() -> list[Case]:
    """All of them."""
    return [case for family in _FAMILIES for case in family()]


def _crossed(fault: str, names: Iterable[str], plant: Callable[[str], Planted]) -> Iterator[Case]:
    """A case for each network."""
    for name in names:
        yield Case(fault, name, partial(plant, name))


def _problem(name: str, activation: str = "relu", *, epochs: int = 0, **options: Any) -> tuple[Any, Any, Any]:
    """A model of a network, trained or fresh, and its data."""
    network = NETWORKS[name]
    x, y = network.data()
    model = network(activation, **options)
    return (fitted(model, x, y, epochs) if epochs else model), x, y


# ---- units that are off --------------------------------------------------------------------------


def _dead_by_bias() -> Iterator[Case]:
    """Biases far below zero: in fresh models, in trained ones, in the first and the last hidden layer."""

    def planted(name: str, layer: str, epochs: int, part: float) -> Planted:
        model, x, y = _problem(name, epochs=epochs)
        shift_bias(model, layer, -100.0, part)
        return Planted(model, x, y, (("dead_activation", layer),))

    for name in RECTIFIED:
        first, last = NETWORKS[name].hidden[0], NETWORKS[name].hidden[-1]
        for layer, epochs in {first: 0, last: 2}.items():
            fault = f"dead ReLU by bias in {layer}{', trained' if epochs else ''}"
            yield Case(fault, name, partial(planted, name, layer, epochs, 1.0))
        yield Case(f"80 % dead by bias in {last}", name, partial(planted, name, last, 0, 0.8))


def _dead_by_learning_rate() -> Iterator[Case]:
    """An epoch at a learning rate of 1 with Adam; where units died is what Keras computes."""

    def planted(name: str) -> Planted:
        model, x, y = _problem(name, epochs=1)
        model.compile(keras.optimizers.Adam(1.0), model.loss)
        fitted(model, x, y, 1)
        off = {layer: activity(model, layer, x[:SAMPLES]) <= 0 for layer in NETWORKS[name].hidden}
        dead = {layer: float(np.mean(np.all(units, axis=0))) for layer, units in off.items()}
        worst = max(dead, key=lambda layer: dead[layer])  # the first of those that are all dead
        also = frozenset(("dead_activation", layer) for layer, part in dead.items() if part > 0.5)
        return Planted(model, x, y, (("dead_activation", worst),), also)

    yield from _crossed("dead by its learning rate", ("MLP", "CNN", "regression"), planted)


def _saturated_by_scale() -> Iterator[Case]:
    """Kernels so large that tanh and sigmoid are flat nearly everywhere."""

    def planted(name: str, activation: str, layer: str) -> Planted:
        model, x, y = _problem(name, activation, epochs=1)
        scale_kernel(model, layer, 500.0)
        return Planted(model, x, y, (("saturated_activation", layer),))

    for name in ("MLP", "tabular MLP", "CNN", "autoencoder", "regression", "embedding", "attention"):
        for activation in ("tanh", "sigmoid"):
            layer = NETWORKS[name].hidden[1]
            yield Case(
                f"{activation} saturated by its kernel",
                name,
                partial(planted, name, activation, layer),
            )
    yield Case("hard sigmoid saturated by its kernel", "MLP", partial(planted, "MLP", "hard_sigmoid", "h2"))
    yield Case(
        "softsign saturated by its kernel", "regression", partial(planted, "regression", "softsign", "h2")
    )


def _saturated_by_bias() -> Iterator[Case]:
    """Biases far from zero in bounded activations."""

    def planted(name: str) -> Planted:
        model, x, y = _problem(name, "sigmoid", epochs=1)
        layer = NETWORKS[name].hidden[-1]
        shift_bias(model, layer, -50.0)
        return Planted(model, x, y, (("saturated_activation", layer),))

    yield from _crossed("sigmoid saturated by its bias", FEEDFORWARD, planted)


def _unscaled_input() -> Iterator[Case]:
    """Data as it was measured, into tanh, sigmoid and hard sigmoid."""

    def planted(name: str, activation: str, scale: float = 255.0, raw: Any = None) -> Planted:
        model, x, y = _problem(name, activation)
        x = scale * x if raw is None else raw()[0]
        targets = y if name != "autoencoder" else NETWORKS[name].data()[1]
        return Planted(model, x, targets, (("unscaled_input", NETWORKS[name].hidden[0]),))

    for activation in ("tanh", "sigmoid"):
        fault = f"unnormalised input of {activation}"
        yield Case(fault, "MLP", partial(planted, "MLP", activation))
        yield Case(fault, "CNN", partial(planted, "CNN", activation))
        yield Case(fault, "autoencoder", partial(planted, "autoencoder", activation))
        yield Case(fault, "tabular MLP", partial(planted, "tabular MLP", activation, raw=networks.raw_wine))
        yield Case(fault, "binary MLP", partial(planted, "binary MLP", activation, raw=networks.raw_cancer))
    yield Case("unnormalised input of hard sigmoid", "MLP", partial(planted, "MLP", "hard_sigmoid"))


def _shifted_input() -> Iterator[Case]:
    """Data around −100 kills about half of the ReLUs that read it; divided by its size it still would."""

    def planted(name: str, size: float = 1.0) -> Planted:
        model, x, y = _problem(name)
        return Planted(model, (x - 100.0) / size, y, (("one_signed_input", NETWORKS[name].hidden[0]),))

    yield from _crossed("input shifted to −100", ("MLP", "tabular MLP", "CNN", "regression"), planted)
    yield Case("input shifted to −1, next to no deviation", "MLP", partial(planted, "MLP", 100.0))


# ---- depth and initialisation --------------------------------------------------------------------


def _vanishing() -> Iterator[Case]:
    """Many layers without a skip: flat slopes, or small kernels."""

    def deep(of: str, activation: str, start: Any, units: int = 32) -> Planted:
        if of == "digits":
            network = networks.Network(dense_stack(64, *[units] * 8), small_digits, ())
        else:
            build = dense_stack(10, *[units] * 8, head=(1, None))
            network = networks.Network(build, networks.diabetes, (), "mse")
        model = network(activation, kernel_initializer=start)
        return Planted(model, *network.data(), (("vanishing", "*"),))

    def small(stddev: float) -> Any:
        return keras.initializers.RandomNormal(stddev=stddev)

    for of in ("digits", "diabetes"):
        yield Case("8 sigmoid layers", of, partial(deep, of, "sigmoid", "glorot_uniform"))
        yield Case("8 narrow sigmoid layers", of, partial(deep, of, "sigmoid", "he_normal", units=12))
        for activation in ("relu", "tanh", "gelu"):
            fault = f"8 {activation} layers, tiny initialisation"
            yield Case(fault, of, partial(deep, of, activation, small(0.01)))

    def tiny(name: str) -> Planted:
        model, x, y = _problem(name, kernel_initializer=small(1e-4))
        return Planted(model, x, y, (("vanishing", "*"),))

    yield from _crossed("tiny initialisation everywhere", ("MLP", "CNN", "autoencoder", "tabular MLP"), tiny)


def _zero_weights() -> Iterator[Case]:
    """Kernels, tables and scales of zeros."""

    def zero(name: str, layer: str) -> Planted:
        model, x, y = _problem(name, epochs=1)
        set_kernel(model, layer, 0.0)
        return Planted(model, x, y, (("zero_weights", layer),))

    for name in FEEDFORWARD:
        for layer in (NETWORKS[name].hidden[-1], "head"):
            yield Case(f"zero kernel of {layer}", name, partial(zero, name, layer))

    def table() -> Planted:
        model, x, y = _problem("embedding", epochs=1)
        embeddings = model.get_layer("table").embeddings
        embeddings.assign(0 * embeddings)
        return Planted(model, x, y, (("zero_weights", "table"),))

    def gamma() -> Planted:
        model, x, y = _problem("BN-CNN", epochs=1)
        norm = model.get_layer("norm1")
        norm.gamma.assign(0 * norm.gamma)
        norm.beta.assign(0 * norm.beta - 1)
        return Planted(model, x, y, (("zero_weights", "norm1"),))

    yield Case("zero table", "embedding", table)
    yield Case("zero gamma", "BN-CNN", gamma)


def _symmetric() -> Iterator[Case]:
    """Units that are all the same, and that nothing tells apart."""

    def constant(name: str) -> Planted:
        first, second = NETWORKS[name].hidden[:2]
        model, x, y = _problem(name)
        for layer in (first, second):
            set_kernel(model, layer, 0.05)
        # what reads the second tells its units apart: that they start alike only informs
        return Planted(model, x, y, (("symmetric", first),), frozenset({("symmetric", second)}))

    yield from _crossed("constant initialisation", FEEDFORWARD, constant)

    def equal_classes(name: str) -> Planted:
        model, x, y = _problem(name)
        set_kernel(model, "head", 0.5)
        return Planted(model, x, y, (("symmetric", "head"),))

    yield from _crossed("classes of equal weights", ("MLP", "CNN", "tabular MLP"), equal_classes)


def _constant_outputs() -> Iterator[Case]:
    """Softmax over one element: attention to one token, a score that is its own only one."""

    def attention() -> Planted:
        x, y = small_digits()
        start = keras.Input((64,))
        token = layers.Reshape((1, 24))(layers.Dense(24, name="lift")(start))
        hidden = token + layers.MultiHeadAttention(2, 12, name="attention")(token, token)
        head = layers.Dense(10, "softmax", name="head")(layers.Flatten()(hidden))
        model = compiled(keras.Model(start, head))
        return Planted(model, x, y, (("constant_output", "attention"),))

    def pooled() -> Planted:
        x, y = rows_of_digits()
        start = keras.Input((8, 8))
        states = layers.GRU(16, return_sequences=True, name="rnn")(start)
        weights = layers.Dense(1, "softmax", name="weights")(states)
        head = layers.Dense(10, "softmax", name="head")(ops.sum(states * weights, axis=1))
        model = compiled(keras.Model(start, head))
        return Planted(model, x, y, (("constant_output", "weights"),))

    yield Case("attention to one token", "transformer", attention)
    yield Case("softmax over one unit", "GRU", pooled)


# ---- data ----------------------------------------------------------------------------------------


def _inputs() -> Iterator[Case]:
    """Data that is zero, tiny, black, or constant in most features."""

    def scaled(name: str, by: float) -> Planted:
        model, x, y = _problem(name, epochs=1)
        return Planted(model, by * x, y, (("zero_input", NETWORKS[name].hidden[0]),))

    for name in ("MLP", "tabular MLP", "CNN", "residual", "regression"):
        yield Case("zero input", name, partial(scaled, name, 0.0))
    for name in ("MLP", "tabular MLP", "CNN", "regression"):
        yield Case("tiny input", name, partial(scaled, name, 1e-5))

    def dropped(name: str) -> Planted:
        model, x, y = _problem(name)
        x = x.copy()
        x[:, : round(0.8 * x.shape[1])] = 0
        return Planted(model, x, y, (("zero_input", NETWORKS[name].hidden[0]),))

    yield from _crossed("80 % of the features are zero", VECTORS, dropped)


# ---- loss and output -----------------------------------------------------------------------------


def _converged() -> Iterator[Case]:
    """Nothing left to learn from these samples."""

    def by_heart(name: str, y: Any = None) -> Planted:
        model, x, targets = _problem(name)
        x, y = x[:64], targets[:64] if y is None else np.full(64, y)
        model.compile(keras.optimizers.Adam(0.01), model.loss)
        return Planted(fitted(model, x, y, epochs=200), x, y, (("zero_loss_gradient", "head"),))

    yield from _crossed("converged", ("MLP", "tabular MLP", "CNN", "binary MLP"), by_heart)
    yield from _crossed("every label is 3, learnt", ("MLP", "CNN"), lambda name: by_heart(name, 3))

    def right(name: str) -> Planted:
        model, x, y = _problem(name, epochs=1)
        return Planted(model, x, model.predict(x, verbose=0), (("zero_loss_gradient", "head"),))

    yield from _crossed("predictions are the targets", ("regression", "autoencoder"), right)


def _mismatches() -> Iterator[Case]:
    """Output, loss and targets that don't fit."""

    def case(fault: str, inputs: int, head: Any, loss: Any, data: Any, change: Any = lambda y: y) -> Case:
        def plant() -> Planted:
            x, y = data()
            network = networks.Network(dense_stack(inputs, 32, 24, head=head), data, (), loss)
            return Planted(network(), x, change(y), (("output_mismatch", "head"),))

        return Case(fault, "MLP" if data is small_digits else "tabular MLP", plant)

    one = networks.cancer
    yield case("softmax on one unit, MSE", 30, (1, "softmax"), "mse", one)
    yield case("softmax on one unit, binary crossentropy", 30, (1, "softmax"), "binary_crossentropy", one)
    yield case("softmax on one unit, MAE", 64, (1, "softmax"), "mae", small_digits, lambda y: y / 9.0)
    for activation in ("relu", "softplus"):
        yield case(f"{activation} output, negative targets", 10, (1, activation), "mse", networks.diabetes)
    for activation in ("sigmoid", "tanh", "hard_sigmoid"):
        fault = f"{activation} output, targets to 900"
        yield case(fault, 64, (1, activation), "mse", small_digits, lambda y: 100.0 * y)
        fault = f"{activation} output, targets to −3"
        yield case(fault, 10, (1, activation), "mse", networks.diabetes)
    yield case("linear output, clipped binary crossentropy", 30, (1, None), "binary_crossentropy", one)
    yield case("linear output, clipped crossentropy", 64, (10, None), CROSSENTROPY, small_digits)
    yield case("tanh output, clipped binary crossentropy", 30, (1, "tanh"), "binary_crossentropy", one)
    expects_logits = keras.losses.BinaryCrossentropy(from_logits=True)
    yield case("sigmoid output, from_logits", 30, (1, "sigmoid"), expects_logits, one)
    expects_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    yield case("softmax output, from_logits", 64, (10, "softmax"), expects_logits, small_digits)

    def twice(name: str, activation: str) -> Planted:
        network = NETWORKS[name]
        start, output = network.build("relu")
        model = keras.Model(start, layers.Activation(activation, name="again")(output))
        model.compile("adam", network.loss)
        return Planted(model, *network.data(), (("output_mismatch", "again"),))

    yield Case("softmax twice", "MLP", partial(twice, "MLP", "softmax"))
    yield Case("softmax twice", "CNN", partial(twice, "CNN", "softmax"))
    yield Case("sigmoid twice", "binary MLP", partial(twice, "binary MLP", "sigmoid"))


def _masked() -> Iterator[Case]:
    """The loss is told to leave everything out."""

    def weightless(name: str) -> Planted:
        model, x, y = _problem(name, epochs=1)
        fit = {"sample_weight": np.zeros(len(x), "float32")}
        return Planted(model, x, y, (("masked", "head"),), fit=fit)

    yield from _crossed("zero sample weights", ("MLP", "CNN", "regression", "LSTM"), weightless)

    def padding() -> Planted:
        x, _ = sentences()
        start = keras.Input((12,), dtype="int32")
        hidden = layers.Embedding(50, 16, mask_zero=True, name="table")(start)
        output = layers.Dense(10, "softmax", name="head")(
            layers.LSTM(16, return_sequences=True, name="rnn")(hidden)
        )
        model = keras.Model(start, output)
        model.compile("adam", CROSSENTROPY)
        return Planted(model, 0 * x, x % 10, (("masked", "head"),))

    yield Case("sequence masked out", "LSTM", padding)

    def product(name: str) -> Planted:
        build, network = NETWORKS[name].build, NETWORKS[name]
        start, output = build("relu")
        before = keras.Model(start, output).get_layer(network.hidden[-1]).output
        gate = layers.Multiply(name="gate")([before, ops.zeros_like(before)])
        model = keras.Model(start, layers.Dense(10, "softmax", name="head")(gate))
        model.compile("adam", CROSSENTROPY)
        return Planted(model, *network.data(), (("masked", "gate"),))

    yield from _crossed("a product with zeros", ("MLP", "LSTM", "embedding", "attention"), product)


# ---- graph ---------------------------------------------------------------------------------------


def _cut_off() -> Iterator[Case]:
    """Operations without a gradient before the head."""
    cuts = {
        "stop_gradient": ops.stop_gradient,
        "round": ops.round,
        "integer cast": lambda h: ops.cast(ops.cast(8 * h, "int32"), "float32"),
        "argmax": lambda h: ops.one_hot(ops.argmax(h, -1), 8),
    }

    def planted(name: str, cut: Any) -> Planted:
        network = NETWORKS[name]
        start, output = network.build("relu")
        before = keras.Model(start, output).get_layer(network.hidden[-1]).output
        behind = layers.Lambda(cut, name="cut")(before)
        model = keras.Model(start, layers.Dense(10, "softmax", name="head")(behind))
        model.compile("adam", CROSSENTROPY)
        return Planted(model, *network.data(), (("disconnected", "cut"),))

    for fault, cut in cuts.items():
        for name in ("MLP", "LSTM", "attention", "embedding"):
            yield Case(fault, name, partial(planted, name, cut))


def _frozen() -> Iterator[Case]:
    """Layers that are not trained: said, and no fault."""

    def planted(name: str) -> Planted:
        model, x, y = _problem(name, epochs=1)
        layer = model.get_layer(NETWORKS[name].hidden[0])
        layer.trainable = False
        model.compile("adam", model.loss)
        return Planted(model, x, y, (("frozen", layer.name),))

    yield from _crossed("frozen", ("MLP", "CNN", "BN-CNN", "residual", "regression", "attention"), planted)


# ---- numbers -------------------------------------------------------------------------------------


def _numbers() -> Iterator[Case]:
    """Half precision, explosions, NaN."""

    def underflow(model_class: Any) -> Planted:
        x, y = rows_of_digits()
        x, y = np.concatenate([x] * 3)[:4096], np.repeat(np.concatenate([y] * 3)[:4096, None], 8, 1)
        model = per_row_mlp("mixed_float16", model_class=model_class, auto_scale_loss=False)
        return Planted(model, x, y, (("underflow", "d1"),), samples=len(x))

    yield Case("float16 underflow", "MLP", partial(underflow, keras.Sequential))
    yield Case("float16 underflow", "own train step", partial(underflow, OwnStep))

    def exploding(activation: str, stddev: float) -> Planted:
        start = keras.initializers.RandomNormal(stddev=stddev)
        network = networks.Network(dense_stack(64, *[48] * 8), small_digits, ())
        return Planted(network(activation, kernel_initializer=start), *small_digits(), (("exploding", "*"),))

    yield Case("8 linear layers explode", "MLP", partial(exploding, "linear", 1.0))
    yield Case("8 ReLU layers explode", "MLP", partial(exploding, "relu", 1.5))
    yield Case("8 leaky ReLU layers explode", "MLP", partial(exploding, "leaky_relu", 1.5))

    def huge_targets() -> Planted:
        model, x, y = _problem("regression")
        return Planted(model, x, 1e9 * y, (("loud_loss", "head"),))

    yield Case("targets of 1e9", "regression", huge_targets)

    def nan_in_data(name: str) -> Planted:
        model, x, y = _problem(name)
        x = x.copy()
        x[3].flat[5] = np.nan
        return Planted(model, x, y, (("non_finite", NETWORKS[name].hidden[0]),))

    yield from _crossed("NaN in the data", ("MLP", "CNN", "regression", "residual"), nan_in_data)

    def infinite_weight(name: str) -> Planted:
        model, x, y = _problem(name)
        layer = NETWORKS[name].hidden[-1]
        kernel = model.get_layer(layer).kernel
        values = kernel.numpy()
        values.flat[0] = np.inf
        kernel.assign(values)
        return Planted(model, x, y, (("non_finite", layer),))

    yield from _crossed("an infinite weight", ("MLP", "CNN", "LSTM", "embedding"), infinite_weight)


def _hidden_by_a_penalty() -> Iterator[Case]:
    """An L2 penalty larger than the data's gradient, on top of a fault."""

    def dead(name: str) -> Planted:
        model, x, y = _problem(name, kernel_regularizer=keras.regularizers.L2(0.1))
        layer = NETWORKS[name].hidden[-1]
        shift_bias(model, layer, -100.0)
        return Planted(model, x, y, (("dead_activation", layer),))

    yield from _crossed("dead ReLU under a large L2", ("MLP", "CNN", "regression"), dead)

    def deep() -> Planted:
        network = networks.Network(dense_stack(64, *[32] * 8), small_digits, ())
        model = network("sigmoid", kernel_regularizer=keras.regularizers.L2(0.1))
        return Planted(model, *small_digits(), (("vanishing", "*"),))

    yield Case("8 sigmoid layers under a large L2", "MLP", deep)


def _recurrent() -> Iterator[Case]:
    """Gates that their biases hold."""

    def gate(columns: slice, value: float) -> Planted:
        model, x, y = _problem("LSTM", epochs=1)
        set_part(model.get_layer("rnn").cell.bias, columns, value)
        return Planted(model, x, y, (("saturated_activation", "rnn"),))

    for number, name in enumerate(("input", "forget", "candidate", "output")):
        columns = slice(24 * number, 24 * number + 24)
        yield Case(f"stuck {name} gate", "LSTM", partial(gate, columns, -100.0))

    def unscaled() -> Planted:
        model, x, y = _problem("LSTM")
        return Planted(model, 255 * x, y, (("unscaled_input", "rnn"),))

    yield Case("unnormalised input", "LSTM", unscaled)


def _cancelling() -> Iterator[Case]:
    """Every sample twice, with targets as far above the prediction as below: the terms cancel."""

    def planted(name: str) -> Planted:
        model, x, _ = _problem(name, epochs=1)
        x = x[:128]
        guess = model.predict(x, verbose=0)
        return Planted(
            model, np.concatenate([x, x]), np.concatenate([guess - 1, guess + 1]), (("cancellation", "*"),)
        )

    yield from _crossed("targets that cancel", ("regression",), planted)


def _off_at_errors() -> Iterator[Case]:
    """Units that fire for negative inputs, and predictions that are wrong for positive ones."""

    def one() -> Planted:
        model, x, y = networks.half_wrong(units=1, sign=-1.0)
        return Planted(model, x, y, (("off_at_errors", "h1"),))

    def several() -> Planted:
        model, x, y = networks.half_wrong(units=8, sign=-1.0)
        return Planted(model, x, y, (("off_at_errors", "h1"),))

    yield Case("off at errors", "one unit", one)
    yield Case("off at errors", "eight units", several)


def _fires_on_nothing() -> Iterator[Case]:
    """Negative weights on inputs that are zero or positive, and biases that let units fire at zero."""
    yield Case(
        "fires on nothing",
        "eight units",
        lambda: Planted(*networks.sparse_input(sign=-1.0), (("fires_on_nothing", "h1"),)),
    )


_FAMILIES = (
    _dead_by_bias,
    _dead_by_learning_rate,
    _saturated_by_scale,
    _saturated_by_bias,
    _unscaled_input,
    _shifted_input,
    _vanishing,
    _zero_weights,
    _symmetric,
    _constant_outputs,
    _inputs,
    _converged,
    _mismatches,
    _masked,
    _cut_off,
    _frozen,
    _numbers,
    _hidden_by_a_penalty,
    _off_at_errors,
    _fires_on_nothing,
    _recurrent,
    _cancelling,
)
