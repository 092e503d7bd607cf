"""Layers that run over time, from the front: every weight and every gate, in explain and in fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.capture.terms import assert_every_weight_is_there, assert_terms_add_up

layers = keras.layers
N, T, FEATURES, OUTPUTS = 12, 4, 3, 2
LSTM_GATES = ("input gate", "forget gate", "candidate", "output gate")
GRU_GATES = ("update gate", "reset gate", "candidate")

# ---- models: each takes sequences (n, T, …) and gives (n, 2) ----------------------------------


def stacked(*middle: Any, shape: tuple[int, ...] = (T, FEATURES)) -> keras.Model:
    """A Dense in front, so that gradients go on behind the layers in question, and one at the end."""
    start = keras.Input(shape)
    x = layers.Dense(FEATURES, "tanh", name="before")(start)
    for layer in middle:
        x = layer(x)
    return keras.Model(start, layers.Dense(OUTPUTS, name="after")(layers.Flatten()(x)))


def padded_words() -> keras.Model:
    """The Embedding says which steps count."""
    start = keras.Input((T,), dtype="int64")
    x = layers.Embedding(7, FEATURES, mask_zero=True)(start)
    return keras.Model(start, layers.Dense(OUTPUTS)(layers.LSTM(4, name="over_time")(x)))


def masked() -> keras.Model:
    """Masking says which steps count; two layers read the mask."""
    start = keras.Input((T, FEATURES))
    x = layers.GRU(4, return_sequences=True, name="over_time")(layers.Masking(0.0)(start))
    return keras.Model(start, layers.Dense(OUTPUTS)(layers.LSTM(3, name="second")(x)))


def stateful() -> keras.Model:
    """Each batch begins where the last one ended."""
    start = keras.Input((T, FEATURES), batch_size=N)
    return keras.Model(start, layers.Dense(OUTPUTS)(layers.LSTM(4, stateful=True, name="over_time")(start)))


def encoder_decoder() -> keras.Model:
    """The states of one LSTM are where another one begins."""
    start = keras.Input((T, FEATURES))
    _, *states = layers.LSTM(4, return_state=True, name="encoder")(
        layers.Dense(FEATURES, name="before")(start)
    )
    decoded = layers.LSTM(4, return_sequences=True, name="decoder")(start, initial_state=states)
    return keras.Model(start, layers.Dense(OUTPUTS)(layers.Flatten()(decoded)))


def states_in_the_loss() -> keras.Model:
    """Output, last state and carry all reach the loss."""
    start = keras.Input((T, FEATURES))
    everything = layers.LSTM(4, return_sequences=True, return_state=True, name="over_time")(start)
    return keras.Model(
        start, layers.Dense(OUTPUTS)(layers.Concatenate()([layers.Flatten()(x) for x in everything]))
    )


class Leaky(keras.layers.Layer):
    """A cell of a user's own."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.rate = self.add_weight(shape=(self.units,), initializer="ones", name="rate")
        super().build(shape)

    def call(self, inputs: Any, states: Any) -> Any:
        output = keras.ops.tanh(states[0] * self.rate + keras.ops.matmul(inputs, self.kernel))
        return output, [output]


class Subclass(keras.layers.LSTM):
    """A layer whose class is a user's, and changes what is done."""

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        return 2.0 * super().call(sequences, initial_state, mask, training)


def own(name: str = "over_time") -> dict[str, str]:
    """The name of the layer in question."""
    return {"name": name}


#: By name: the model, and the gates of the layers in question.
MODELS: dict[str, tuple[Callable[[], keras.Model], dict[str, tuple[str, ...]]]] = {
    "simple_rnn": (lambda: stacked(layers.SimpleRNN(4, **own())), {"over_time": ("",)}),
    "gru": (lambda: stacked(layers.GRU(4, **own())), {"over_time": GRU_GATES}),
    "gru_reset_before": (
        lambda: stacked(layers.GRU(4, reset_after=False, **own())),
        {"over_time": GRU_GATES},
    ),
    "lstm": (lambda: stacked(layers.LSTM(4, **own())), {"over_time": LSTM_GATES}),
    "lstm_backwards_sequences": (
        lambda: stacked(layers.LSTM(4, return_sequences=True, go_backwards=True, **own())),
        {"over_time": LSTM_GATES},
    ),
    "stacked": (
        lambda: stacked(layers.LSTM(4, return_sequences=True, **own()), layers.GRU(3, **own("second"))),
        {"over_time": LSTM_GATES, "second": GRU_GATES},
    ),
    "bidirectional_concatenated": (
        lambda: stacked(layers.Bidirectional(layers.LSTM(3, return_sequences=True, **own("over_time")))),
        {"forward_over_time": LSTM_GATES, "backward_over_time": LSTM_GATES},
    ),
    "bidirectional_added": (
        lambda: stacked(layers.Bidirectional(layers.GRU(3, **own("over_time")), merge_mode="sum")),
        {"forward_over_time": GRU_GATES, "backward_over_time": GRU_GATES},
    ),
    "padded_words": (padded_words, {"over_time": LSTM_GATES}),
    "masked": (masked, {"over_time": GRU_GATES, "second": LSTM_GATES}),
    "stateful": (stateful, {"over_time": LSTM_GATES}),
    "encoder_decoder": (encoder_decoder, {"encoder": LSTM_GATES, "decoder": LSTM_GATES}),
    "states_in_the_loss": (states_in_the_loss, {"over_time": LSTM_GATES}),
    "dropout": (
        lambda: stacked(layers.LSTM(4, dropout=0.3, recurrent_dropout=0.3, **own())),
        {"over_time": LSTM_GATES},
    ),
    "dropout_of_a_gru": (
        lambda: stacked(layers.GRU(4, dropout=0.3, recurrent_dropout=0.3, **own())),
        {"over_time": GRU_GATES},
    ),
    "conv_lstm": (
        lambda: stacked(layers.ConvLSTM2D(2, 2, padding="same", **own()), shape=(T, 3, 4, 2)),
        {"over_time": LSTM_GATES},
    ),
    "cells": (
        lambda: stacked(layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], **own())),
        {"over_time": (*LSTM_GATES, *(f"cell 2 {gate}" for gate in GRU_GATES))},
    ),
    "unrolled": (lambda: stacked(layers.GRU(4, unroll=True, **own())), {"over_time": GRU_GATES}),
    "dense_at_every_step": (lambda: stacked(layers.TimeDistributed(layers.Dense(4, "relu", **own()))), {}),
    "convolution_at_every_step": (
        lambda: stacked(
            layers.TimeDistributed(layers.Conv2D(2, 2, activation="relu", **own())), shape=(T, 3, 4, 2)
        ),
        {},
    ),
    "own_cell": (lambda: stacked(layers.RNN(Leaky(4), **own())), {}),
    "own_class": (lambda: stacked(Subclass(4, **own())), {}),
}
#: Which weights can't be taken apart: explained with their layer.
WHOLE = {"own_cell": 2, "own_class": 3}
#: Fits that are left to the slow tests: others like them are in the fast ones.
SLOW = frozenset(
    {"simple_rnn", "gru_reset_before", "lstm_backwards_sequences", "bidirectional_added", "cells"}
)
SLOW |= {"stacked", "padded_words", "dropout_of_a_gru", "unrolled", "states_in_the_loss"}


def made(name: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A compiled model with biases that are not 0, from the same seeds each time, and its data."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    model, rng = MODELS[name][0](), np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign_add(0.3 * rng.normal(size=variable.shape))
    shape = (3 * N, *model.inputs[0].shape[1:])
    x = rng.integers(0, 7, shape) if name == "padded_words" else rng.normal(size=shape).astype("float32")
    if name == "masked":
        x[rng.random((3 * N, T)) < 0.3] = 0.0
    return zoo.compiled(model, "mse"), x, rng.normal(size=(3 * N, OUTPUTS)).astype("float32")


def tape_gradients(model: keras.Model, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """By path, from a step that nobody observes; whatever it changes is put back."""
    before = [(variable, variable.numpy()) for variable in model.variables + states_of(model)]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    found = tape.gradient(loss, model.trainable_variables)
    for variable, value in before:
        variable.assign(value)
    pairs = zip(model.trainable_variables, found, strict=True)
    return {variable.path: np.asarray(tf.convert_to_tensor(gradient)) for variable, gradient in pairs}


def states_of(model: keras.Model) -> list[Any]:
    """States of stateful layers, which Keras does not list everywhere."""
    return [s for layer in model.layers for s in keras.tree.flatten(getattr(layer, "states", None) or [])]


def assert_close(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Up to rounding, relative to the largest element."""
    atol = 2e-5 * max(np.abs(expected).max(initial=0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)


def put_together(report: trainobs.Report, weight: str) -> np.ndarray:
    """The gradient of a weight, from what the report holds of each of its parts."""
    return report.weights(weight).gradient


def assert_report(
    report: trainobs.Report, model: keras.Model, expected: dict[str, np.ndarray], name: str
) -> None:
    """A row for every weight, a part for every gate, whose gradients together are the tape's."""
    rows, whole = report.layers, WHOLE.get(name, 0)
    assert set(rows.index) == {variable.path for variable in model.trainable_variables}
    assert rows.residual.isna().sum() == whole
    assert rows.residual.max() < 1e-4
    for path in rows.index[rows.residual.notna()]:
        if rows.kind[path] != "Embedding":
            assert_close(put_together(report, path), expected[path], path)
    for layer, gates in MODELS[name][1].items():
        parts = report.parts(layer)
        weights = parts.index.get_level_values("weight").unique()
        for weight in weights:
            named = tuple(part.removesuffix(", recurrent") for part in parts.loc[weight].index)
            of_weight = [gate for gate in gates if gate in named]
            assert list(dict.fromkeys(named)) == of_weight, weight
            cells = any(gate.startswith("cell") for gate in gates)
            assert cells or of_weight == list(gates), weight
        assert set(parts.index.get_level_values("part").str.removesuffix(", recurrent")) == set(gates)
        assert parts.residual.max() < 1e-4
        assert parts["size"].sum() == sum(np.prod(expected[weight].shape) for weight in weights)


# ---- explain ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_explained(name: str) -> None:
    """Every weight has a row and every gate a part; put together they are a plain tape's gradients."""
    model, x, y = made(name)
    x, y = x[:N], y[:N]
    expected = tape_gradients(model, x, y)
    before = zoo.state(model) | {str(i): s.numpy() for i, s in enumerate(states_of(model))}
    record = trainobs.capture_batch(model, x, y)
    after = zoo.state(model) | {str(i): s.numpy() for i, s in enumerate(states_of(model))}
    zoo.assert_same(before, {key: value for key, value in after.items() if key in before})
    assert_every_weight_is_there(record, model)
    assert_terms_add_up(record, 1e-4)
    assert len(record.weights) == WHOLE.get(name, 0)
    for weight in record.weights:
        assert_close(weight.gradient, expected[weight.weight], weight.weight)
    assert_report(trainobs.explain_near_zero_gradients(model, x, y), model, expected, name)


def test_explained_in_batches() -> None:
    """The statistics of two batches add up to those of the whole."""
    model, x, y = made("lstm")
    whole = trainobs.explain_near_zero_gradients(model, x[:24], y[:24])
    halves = trainobs.explain_near_zero_gradients(model, x[:24], y[:24], batch_size=N)
    kernel = model.get_layer("over_time").cell.kernel.path
    assert_close(halves.weights(kernel).gradient, whole.weights(kernel).gradient, kernel)
    np.testing.assert_allclose(halves.layers.near_zero, whole.layers.near_zero, atol=1e-6)
    np.testing.assert_allclose(halves.layers.gradient_rms, whole.layers.gradient_rms, rtol=1e-4)


# ---- fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS]
)
def test_fitted(name: str) -> None:
    """Training is bit-equal with a Recorder; its last record explains every weight."""
    states = []
    for callbacks in ([], [trainobs.Recorder(at=[0, 2, 4])]):
        model, x, y = made(name)
        history = model.fit(
            x, y, batch_size=N, epochs=2, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        own = {str(i): s.numpy() for i, s in enumerate(states_of(model))}
        states.append(zoo.state(model) | own | {"loss": np.array(history["loss"])})
    zoo.assert_same(*states)
    recording = callbacks[0].recording
    assert recording.steps == (0, 2, 4)
    for record in recording:
        assert_every_weight_is_there(record, model)
        assert_terms_add_up(record, 1e-4)
    first = made(name)
    expected = tape_gradients(first[0], first[1][:N], first[2][:N])
    report = trainobs.explain_near_zero_gradients(callbacks[0], step=0)
    assert_report(report, model, expected, name)
    last = trainobs.explain_near_zero_gradients(callbacks[0])
    assert last.layers.residual.max() < 1e-4


@pytest.mark.parametrize("name", ["lstm", "dropout", "stateful", "own_cell"])
def test_watched(name: str) -> None:
    """The same inside of a hand-written loop, in one function."""
    states = []
    for recorder in (None, trainobs.Recorder(every=1)):
        model, x, y = made(name)
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)

        def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return gradients

        @tf.function
        def run(x: Any, y: Any) -> Any:
            if recorder is None:  # noqa: B023
                return step(model, optimizer, x, y)  # noqa: B023
            with recorder.watch(model):  # noqa: B023
                return step(model, optimizer, x, y)  # noqa: B023

        for start in (0, N, 2 * N):
            gradients = run(tf.constant(x[start : start + N]), tf.constant(y[start : start + N]))
        states.append(zoo.state(model))
    zoo.assert_same(*states)
    expected = {v.path: g.numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)}
    assert_report(trainobs.explain_near_zero_gradients(recorder), model, expected, name)


# ---- the flow ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["simple_rnn", "gru", "gru_reset_before", "lstm", "lstm_backwards_sequences"]
)
def test_flow_through_gates(name: str) -> None:
    """Gates are nodes; what arrives at them, times their slopes, is what their kernels' units receive."""
    model, x, y = made(name)
    x, y = x[:N], y[:N]
    record = trainobs.capture_batch(model, x, y)
    flow = trainobs.explain_near_zero_gradients(model, x, y).flow.set_index("node")
    gates = [gate for gate in MODELS[name][1]["over_time"] if gate]
    stages = [node for node in record.nodes if node.layer == "over_time" and node.stage]
    assert [node.stage for node in stages] == (gates or ["units"])
    for stage in stages:
        site = next(s for s in record.sites if s.role == "kernel" and record.nodes[s.node] is stage)
        arriving, entering = site.output_gradient, site.preactivation_gradient
        row = flow.loc[f"over_time ({stage.stage})"]
        size = np.linalg.norm(arriving) * np.sqrt(N / OUTPUTS)
        np.testing.assert_allclose(stage.output_gradient.square_sum, np.sum(arriving**2), rtol=1e-4)
        np.testing.assert_allclose(row.gradient_rms, size, rtol=1e-4)
        np.testing.assert_allclose(
            row.slope_gain, np.linalg.norm(entering) / np.linalg.norm(arriving), rtol=1e-4
        )
    assert flow.gain.dropna().ge(0).all()


def test_flow_to_the_neighbour_on_the_data_side() -> None:
    """A SimpleRNN has one gate: its gains multiply to what arrives at the layer before it."""
    model, x, y = made("simple_rnn")
    x, y = x[:N], y[:N]
    flow = trainobs.explain_near_zero_gradients(model, x, y).flow.set_index("node")
    record = trainobs.capture_batch(model, x, y)
    before = next(node for node in record.nodes if node.layer == "before")
    with tf.GradientTape() as tape:
        hidden = model.get_layer("before")(x)
        tape.watch(hidden)
        loss = tf.reduce_mean((model.get_layer("after")(model.get_layer("over_time")(hidden)) - y) ** 2)
    arriving = tape.gradient(loss, hidden).numpy()
    np.testing.assert_allclose(before.output_gradient.square_sum, np.sum(arriving**2), rtol=1e-4)
    inner, outer = flow.loc["over_time (units)"], flow.loc["over_time"]
    np.testing.assert_allclose(
        outer.gradient_rms * outer.gain * inner.slope_gain * inner.kernel_gain,
        flow.loc["before"].gradient_rms,
        rtol=1e-3,
    )


# ---- what the report says ---------------------------------------------------------------------


def test_steps_that_are_masked_add_nothing() -> None:
    """Terms of padded steps are zero: the gradient is that of the shortened sequence."""
    model, x, y = made("padded_words")
    x, y = x[:N].copy(), y[:N]
    x[:, :2], x[:, 2:] = np.maximum(x[:, :2], 1), 0
    long = trainobs.capture_batch(model, x, y)
    for site in (site for site in long.sites if site.layer == "over_time"):
        assert not site.preactivation_gradient[:, 2:].any(), site.key
        assert site.preactivation_gradient[:, :2].any(), site.key


def test_gates_that_are_shut() -> None:
    """A forget gate that is always shut: its own weights are near zero by its slope, the others not."""
    model, x, y = made("lstm")
    cell = model.get_layer("over_time").cell
    bias = cell.bias.numpy()
    bias[4:8] = -40.0
    cell.bias.assign(bias)
    report = trainobs.explain_near_zero_gradients(model, x[:N], y[:N])
    kernel = report.parts("over_time").loc[cell.kernel.path]
    assert kernel.near_zero["forget gate"] == 1.0
    assert kernel.share_activation["forget gate"] > 0.5
    assert kernel.near_zero.drop("forget gate").max() < 0.5
