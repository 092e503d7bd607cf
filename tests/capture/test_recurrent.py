"""The parts that a recurrent layer's gradients are taken into add up to these gradients."""

from __future__ import annotations

import functools
import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainobs.capture.layers.recurrent import _cells, _traces
from trainobs.capture.layers.recurrent._cells import is_recurrent, variables_of
from trainobs.capture.layers.recurrent._gates import GatePart
from trainobs.capture.layers.recurrent._replay import replay

layers = keras.layers
N, T, FEATURES = 3, 5, 4

# ---- cases: a layer by name, and how it is called ----------------------------------------------


def sequence(*shape: int) -> np.ndarray:
    """Inputs from a fixed seed."""
    return np.random.default_rng(0).normal(size=(N, T, *shape)).astype("float32")


def holed_mask() -> np.ndarray:
    """Steps left out in front, in between and behind."""
    mask = np.ones((N, T), bool)
    mask[0, :2] = mask[1, 2] = mask[2, 3:] = False
    return mask


def stack(*cells: Any, **settings: Any) -> Any:
    """A layer of stacked cells."""
    return layers.RNN(list(cells), **settings)


#: The cells. Each is a layer made with further settings.
CELLS: dict[str, Callable[..., Any]] = {
    "simple_rnn": lambda **s: layers.SimpleRNN(3, **s),
    "gru_reset_after": lambda **s: layers.GRU(3, **s),
    "gru_reset_before": lambda **s: layers.GRU(3, reset_after=False, **s),
    "lstm": lambda **s: layers.LSTM(3, **s),
    "rnn_of_simple_cell": lambda **s: layers.RNN(layers.SimpleRNNCell(3), **s),
    "rnn_of_gru_cell": lambda **s: layers.RNN(layers.GRUCell(3), **s),
    "rnn_of_lstm_cell": lambda **s: layers.RNN(layers.LSTMCell(3), **s),
    "stacked_lstm_gru_simple": lambda **s: stack(
        layers.LSTMCell(3),
        layers.GRUCell(4),
        layers.GRUCell(2, reset_after=False),
        layers.SimpleRNNCell(3),
        **s,
    ),
    "stack_layer": lambda **s: layers.RNN(
        layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)]), **s
    ),
    "conv_lstm_1d": lambda **s: layers.ConvLSTM1D(2, 3, padding="same", **s),
    "conv_lstm_2d": lambda **s: layers.ConvLSTM2D(2, (3, 2), strides=(2, 1), **s),
    "conv_lstm_3d": lambda **s: layers.ConvLSTM3D(2, 2, **s),
}
SHAPES = {"conv_lstm_1d": (7, 2), "conv_lstm_2d": (6, 5, 2), "conv_lstm_3d": (4, 3, 3, 2)}

#: How a layer is made and called: settings of the layer, and arguments of the call by name.
SITUATIONS: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "last_output": (dict(), frozenset()),
    "sequences": (dict(return_sequences=True), frozenset()),
    "mask": (dict(), frozenset({"mask"})),
    "mask_sequences": (dict(return_sequences=True), frozenset({"mask"})),
    "mask_zero_output": (dict(return_sequences=True, zero_output_for_mask=True), frozenset({"mask"})),
    "backwards": (dict(go_backwards=True, return_sequences=True), frozenset()),
    "backwards_mask": (dict(go_backwards=True), frozenset({"mask"})),
    "stateful": (dict(stateful=True), frozenset({"second_batch"})),
    "initial_state": (dict(return_sequences=True), frozenset({"initial_state"})),
    "states_returned": (dict(return_state=True), frozenset()),
    "sequences_and_states": (dict(return_state=True, return_sequences=True), frozenset({"mask"})),
}

#: Cases that are not a combination of the two tables.
SINGLE: dict[str, tuple[Callable[[], Any], frozenset[str]]] = {
    "simple_rnn-dropout": (lambda: layers.SimpleRNN(3, dropout=0.4, recurrent_dropout=0.3), frozenset()),
    "gru-dropout": (lambda: layers.GRU(3, dropout=0.4), frozenset()),
    "gru-both_dropouts": (lambda: layers.GRU(3, dropout=0.4, recurrent_dropout=0.3), frozenset()),
    "gru_reset_before-both_dropouts": (
        lambda: layers.GRU(3, reset_after=False, dropout=0.4, recurrent_dropout=0.3),
        frozenset({"mask"}),
    ),
    "gru_reset_before-implementation_1": (
        lambda: layers.GRU(3, reset_after=False, implementation=1, use_bias=False),
        frozenset(),
    ),
    "lstm-dropout": (lambda: layers.LSTM(3, dropout=0.4), frozenset()),
    "lstm-both_dropouts": (lambda: layers.LSTM(3, dropout=0.4, recurrent_dropout=0.3), frozenset({"mask"})),
    "lstm-both_dropouts-stateful": (
        lambda: layers.LSTM(3, dropout=0.4, recurrent_dropout=0.3, stateful=True),
        frozenset({"second_batch"}),
    ),
    "lstm-dropout-inference": (lambda: layers.LSTM(3, dropout=0.4), frozenset({"inference"})),
    "conv_lstm-both_dropouts": (
        lambda: layers.ConvLSTM1D(2, 3, dropout=0.4, recurrent_dropout=0.3, padding="same"),
        frozenset(),
    ),
    "stack-dropouts": (
        lambda: stack(layers.LSTMCell(3, dropout=0.3), layers.GRUCell(3, dropout=0.2, recurrent_dropout=0.2)),
        frozenset(),
    ),
    "rnn-lstm_cell-implementation_1-dropout": (
        lambda: layers.RNN(layers.LSTMCell(3, implementation=1, dropout=0.4)),
        frozenset(),
    ),
    "stack_of_one": (
        lambda: stack(layers.LSTMCell(3), return_state=True),
        frozenset(),
    ),  # masked, Keras fails
    "simple_rnn-no_bias": (lambda: layers.SimpleRNN(3, use_bias=False), frozenset()),
    "gru-no_bias": (lambda: layers.GRU(3, use_bias=False), frozenset()),
    "gru_reset_before-no_bias": (lambda: layers.GRU(3, use_bias=False, reset_after=False), frozenset()),
    "lstm-no_bias": (lambda: layers.LSTM(3, use_bias=False), frozenset()),
    "conv_lstm-no_bias": (lambda: layers.ConvLSTM1D(2, 3, use_bias=False), frozenset()),
    "simple_rnn-relu": (lambda: layers.SimpleRNN(3, "relu"), frozenset()),
    "simple_rnn-linear": (lambda: layers.SimpleRNN(3, None), frozenset()),
    "gru-relu": (lambda: layers.GRU(3, "relu", recurrent_activation="hard_sigmoid"), frozenset()),
    "lstm-relu": (lambda: layers.LSTM(3, "relu"), frozenset()),
    "lstm-same_function": (lambda: layers.LSTM(3, "sigmoid", recurrent_activation="sigmoid"), frozenset()),
    "lstm-lambda": (lambda: layers.LSTM(3, lambda z: tf.sin(z)), frozenset()),
    "lstm-layer": (lambda: layers.LSTM(3, layers.LeakyReLU(0.2)), frozenset()),
    "gru-implementation_1": (lambda: layers.GRU(3, implementation=1), frozenset()),
    "lstm-implementation_1": (lambda: layers.LSTM(3, implementation=1), frozenset()),
    "conv_lstm-dilated": (lambda: layers.ConvLSTM1D(2, 3, dilation_rate=2), frozenset()),
    "lstm-float64": (lambda: layers.LSTM(3, dtype="float64"), frozenset()),
    "lstm-unrolled": (lambda: layers.LSTM(3, unroll=True), frozenset({"mask"})),
    "simple_rnn-mixed": (lambda: layers.SimpleRNN(3, dtype="mixed_float16"), frozenset()),
    "gru-mixed": (lambda: layers.GRU(3, dtype="mixed_float16"), frozenset()),
    "gru_reset_before-mixed": (
        lambda: layers.GRU(3, reset_after=False, dtype="mixed_float16"),
        frozenset({"mask"}),
    ),
    "lstm-mixed": (lambda: layers.LSTM(3, dtype="mixed_float16", return_sequences=True), frozenset({"mask"})),
    "lstm-mixed_bfloat16": (lambda: layers.LSTM(3, dtype="mixed_bfloat16"), frozenset()),
    "conv_lstm-mixed": (lambda: layers.ConvLSTM1D(2, 3, dtype="mixed_float16"), frozenset()),
}


#: Situations and single cases that run as a graph too, plainly and replayed.
IN_GRAPHS = frozenset(
    {
        *("mask_zero_output", "backwards_mask", "stateful", "sequences_and_states", "initial_state"),
        *("simple_rnn-dropout", "gru-both_dropouts", "lstm-both_dropouts-stateful", "stack-dropouts"),
        *("conv_lstm-both_dropouts", "gru_reset_before-mixed", "lstm-lambda", "lstm-layer", "stack_of_one"),
    }
)
#: Cells whose combinations are left to the slow tests: others like them are in the fast ones. Of those
#: that are not, every third combination is fast: each cell and each situation occurs among them.
SLOW = frozenset({"rnn_of_simple_cell", "rnn_of_gru_cell", "rnn_of_lstm_cell", "conv_lstm_3d"})
SLOW_IN_GRAPHS = CELLS.keys() - {"lstm", "gru_reset_after", "conv_lstm_1d"}


def cases() -> list[Any]:
    """Every case as (make, shape of a step, how it is called, whether in a graph)."""
    found = []
    for graph in (False, True):
        mode = "graph" if graph else "eager"
        for name, (make, how) in SINGLE.items():
            if not graph or name in IN_GRAPHS:
                shape = (7, 2) if "conv" in name else (FEATURES,)
                found.append(pytest.param(make, shape, how, graph, id=f"{name}-{mode}"))
        for number, (cell, situation) in enumerate(itertools.product(CELLS, SITUATIONS)):
            if not graph or situation in IN_GRAPHS:
                settings, how = SITUATIONS[situation]
                make = functools.partial(CELLS[cell], **settings)
                shape = SHAPES.get(cell, (FEATURES,))
                left = cell in (SLOW_IN_GRAPHS if graph else SLOW) or (number + number // len(SITUATIONS)) % 3
                slow = [pytest.mark.slow] if left else []
                found.append(
                    pytest.param(make, shape, how, graph, id=f"{cell}-{situation}-{mode}", marks=slow)
                )
    return found


# ---- a plain step, and what its parts come to ---------------------------------------------------


class Step:
    """One plain call of a layer under a tape, not unrolled, and everything `replay` is given of it."""

    def __init__(self, layer: Any, inputs: np.ndarray, how: frozenset[str], *, graph: bool) -> None:
        self.layer, self.inputs = layer, inputs
        self.training = "inference" not in how
        self.mask = holed_mask() if "mask" in how else None
        self.variables = [v.numpy() for v in variables_of(layer)]
        self.state: list[np.ndarray] | None = None
        if "initial_state" in how:
            flat = keras.tree.flatten(layer.get_initial_state(N))
            rng = np.random.default_rng(1)
            self.state = [rng.normal(size=s.shape).astype("float32") for s in flat]
        run = tf.function(self._run) if graph else self._run
        outputs, output_gradients, gradients = run(tf.constant(inputs))
        self.outputs = [y.numpy() for y in outputs]
        self.output_gradients = [g.numpy() for g in output_gradients]
        self.gradients = [g.numpy() for g in gradients]

    def _run(self, inputs: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """A fixed linear functional of the outputs plus their squares."""
        arguments: dict[str, Any] = dict(training=self.training)
        if self.mask is not None:
            arguments["mask"] = tf.constant(self.mask)
        if self.state is not None:
            structure = self.layer.get_initial_state(N)
            arguments["initial_state"] = keras.tree.pack_sequence_as(
                structure, [tf.constant(s) for s in self.state]
            )
        weights = [v.value for v in self.layer.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            # a last output and a state may be one tensor: told apart, or each would get both gradients
            outputs = [tf.identity(y) for y in keras.tree.flatten(self.layer(inputs, **arguments))]
            loss = sum(tf.reduce_sum(self._functional(y) * y + tf.square(y)) for y in outputs)
        return outputs, [tape.gradient(loss, y) for y in outputs], tape.gradient(loss, weights)

    @staticmethod
    def _functional(y: Any) -> Any:
        values = np.random.default_rng(len(y.shape)).normal(size=y.shape)
        return tf.cast(tf.constant(values), y.dtype)

    def replayed(self) -> list[GatePart]:
        """What `replay` makes of it."""
        parts = replay(
            self.layer,
            self.variables,
            self.inputs,
            initial_state=self.state,
            mask=self.mask,
            training=self.training,
            output_gradients=self.output_gradients,
        )
        assert parts is not None
        return parts


def prepared(make: Callable[[], Any], shape: tuple[int, ...], how: frozenset[str]) -> tuple[Any, np.ndarray]:
    """A built layer with biases that are not 0, and its inputs."""
    keras.utils.set_random_seed(7)
    layer, inputs = make(), sequence(*shape)
    layer(inputs)
    rng = np.random.default_rng(2)
    for variable in layer.trainable_variables:
        variable.assign(variable.numpy() + 0.3 * rng.normal(size=variable.shape))
    for state in keras.tree.flatten(layer.states or []):  # Keras' reset_state fails for stacked cells
        state.assign(np.zeros(state.shape))
    if "second_batch" in how:
        layer(inputs[::-1])
    return layer, inputs


def summed(part: GatePart, shape: tuple[int, ...]) -> np.ndarray:
    """Σ over the terms of input · dJ/dZ, in the shape of the weight's columns."""
    d = part.preactivation_gradient
    if part.role == "bias":
        return (part.input[..., None] * d).sum(axis=tuple(range(d.ndim - 1)))
    if part.conv is None:
        return np.einsum("nti,ntu->iu", part.input, d)
    merged = [tf.constant(a.reshape(-1, *a.shape[2:]), tf.float32) for a in (part.input, d)]
    kernel = tf.zeros((*shape[:-1], d.shape[-1]))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        layout = ("NWC", "NHWC", "NDHWC")[len(shape) - 3]
        strides, padding, dilation = part.conv.strides, part.conv.padding, part.conv.dilation
        z = tf.nn.convolution(merged[0], kernel, strides, padding.upper(), layout, dilation)
    return tape.gradient(z, kernel, merged[1]).numpy()


def added_up(parts: list[GatePart], variables: list[Any]) -> dict[int, np.ndarray]:
    """The gradient of every weight, put together from its parts."""
    total: dict[int, np.ndarray] = {}
    for part in parts:
        gradient = total.setdefault(part.weight, np.zeros(variables[part.weight].shape))
        rows = gradient if part.role != "bias" or part.bias_row is None else gradient[part.bias_row]
        rows[..., part.columns] += summed(part, variables[part.weight].shape)
    return total


def tolerance(layer: Any) -> float:
    """Of a norm: rounding in what the layer computes in."""
    return {"float16": 2e-2, "bfloat16": 1e-1}.get(layer.compute_dtype, 1e-4)


def assert_same(actual: np.ndarray, expected: np.ndarray, rtol: float, what: str) -> None:
    """Equal up to a part of the norm."""
    expected = np.asarray(expected, np.float64)
    assert np.linalg.norm(expected) > 0, what
    assert np.linalg.norm(actual - expected) <= rtol * np.linalg.norm(expected), what


# ---- the identity -------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape", "how", "graph"), cases())
def test_parts_add_up_to_the_gradients(
    make: Callable[[], Any],
    shape: tuple[int, ...],
    how: frozenset[str],
    graph: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Summed over terms and put side by side, the parts are the gradients of a plain tape."""
    layer, inputs = prepared(make, shape, how)
    step = Step(layer, inputs, how, graph=graph)
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0 if graph else 10**9)
    parts = step.replayed()
    assert [callable(trace) for trace in _traces._TRACES[layer].values()] == [graph]
    assert_right(layer, step, parts)


def assert_right(layer: Any, step: Step, parts: list[GatePart]) -> None:
    """Every weight is put together, and every part fits together."""
    variables = variables_of(layer)
    total = added_up(parts, variables)
    expected = {i: v for i, v in enumerate(variables) if any(v is w for w in layer.trainable_variables)}
    assert total.keys() == expected.keys()
    places = {id(v): k for k, v in enumerate(layer.trainable_variables)}
    for i, variable in expected.items():
        assert layer.variables[i] is variable
        assert_same(total[i], step.gradients[places[id(variable)]], tolerance(layer), variable.path)
    for part in parts:
        assert_part_is_consistent(part, tolerance(layer))


def assert_part_is_consistent(part: GatePart, rtol: float) -> None:
    """Shapes agree, and slope · dJ/dA = dJ/dZ."""
    product = part.slope * part.output_gradient
    assert_same(product, part.preactivation_gradient, rtol, part.gate)
    same = (part.preactivation, part.output, part.slope, part.output_gradient)
    assert {a.shape for a in same} == {part.preactivation_gradient.shape}
    assert {a.dtype for a in same} <= {np.dtype("float32"), np.dtype("float64")}
    assert part.input.shape[:2] == part.preactivation.shape[:2] == (N, T)
    assert part.activation.elementwise


@pytest.mark.parametrize("cell", [c for c in CELLS if "stack" not in c and "conv" not in c])
def test_preactivation_is_inputs_times_weights(cell: str) -> None:
    """Z of a gate is X K + H U + b, or its one product for the recurrent part of a GRU."""
    layer, inputs = prepared(CELLS[cell], (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    parts = step.replayed()
    for gate in {p.gate for p in parts}:
        own = [p for p in parts if p.gate == gate]
        by_role = {p.role: p for p in own if p.role != "bias"}
        products = {role: p.input @ step.variables[p.weight][..., p.columns] for role, p in by_role.items()}
        biases = [_bias_value(p, step.variables) for p in own if p.role == "bias"]
        x, h = by_role["kernel"], by_role["recurrent_kernel"]
        if gate == "candidate" and h.bias_row == 1:
            np.testing.assert_allclose(h.preactivation, products["recurrent_kernel"] + biases[1], atol=1e-5)
            np.testing.assert_allclose(x.preactivation, products["kernel"] + biases[0] + h.output, atol=1e-5)
        else:
            np.testing.assert_allclose(x.preactivation, sum(products.values()) + sum(biases), atol=1e-5)


def _bias_value(part: GatePart, variables: list[np.ndarray]) -> np.ndarray:
    value = variables[part.weight]
    return (value if part.bias_row is None else value[part.bias_row])[part.columns]


def test_time_is_that_of_the_input_where_a_layer_goes_backwards() -> None:
    """Position t of a kernel's input is step t of what the layer was given."""
    layer, inputs = prepared(lambda: layers.LSTM(3, go_backwards=True), (FEATURES,), frozenset())
    parts = Step(layer, inputs, frozenset(), graph=False).replayed()
    kernels = [p for p in parts if p.role == "kernel"]
    assert len(kernels) == 4 and all(np.array_equal(p.input, inputs) for p in kernels)


def test_a_bias_multiplies_ones_that_take_no_memory() -> None:
    """Its input is 1 at every step and pixel."""
    layer, inputs = prepared(CELLS["conv_lstm_2d"], (6, 5, 2), frozenset())
    parts = Step(layer, inputs, frozenset(), graph=False).replayed()
    part = next(p for p in parts if p.role == "bias")
    assert part.input.shape == part.preactivation.shape[:-1] and (part.input == 1).all()
    assert part.input.strides == (0,) * part.input.ndim


def test_outputs_without_a_gradient_may_be_left_out() -> None:
    """None stands for zeros; if no gradient came at all, every part is 0."""
    layer, inputs = prepared(lambda: layers.LSTM(3, return_state=True), (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    step.output_gradients[1:] = [np.zeros_like(g) for g in step.output_gradients[1:]]
    zeros = step.replayed()
    step.output_gradients[1:] = [None, None]
    for part, same in zip(step.replayed(), zeros, strict=True):
        np.testing.assert_allclose(part.preactivation_gradient, same.preactivation_gradient, atol=1e-7)
    step.output_gradients[0] = None
    assert not any(part.preactivation_gradient.any() for part in step.replayed())


def test_softmax_gate_has_the_diagonal_of_its_jacobian_as_slope() -> None:
    """A function that is not element-wise is named, and dJ/dZ is measured all the same."""
    layer, inputs = prepared(lambda: layers.SimpleRNN(3, "softmax"), (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    parts = step.replayed()
    total = added_up(parts, variables_of(layer))
    for i, gradient in enumerate(step.gradients):
        assert_same(total[i], gradient, 1e-4, str(i))
    assert parts[0].activation.name == "softmax" and not parts[0].activation.elementwise
    np.testing.assert_allclose(parts[0].slope, parts[0].output * (1 - parts[0].output), rtol=1e-6)


# ---- traces ----------------------------------------------------------------------------------------


def test_a_trace_serves_batches_of_any_size_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trace for a layer, whatever the shape of a batch."""
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0)
    layer, inputs = prepared(lambda: layers.LSTM(3, dropout=0.4), (FEATURES,), frozenset())
    Step(layer, inputs, frozenset(), graph=False).replayed()
    shorter = Step(layer, inputs[:2, :3], frozenset(), graph=False)
    total = added_up(shorter.replayed(), variables_of(layer))
    for i, gradient in enumerate(shorter.gradients):
        assert_same(total[i], gradient, 1e-4, str(i))
    assert len(_traces._TRACES[layer]) == 1


def test_a_changed_layer_is_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace does not outlive what it was made of: settings and activation functions."""
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0)
    layer, inputs = prepared(lambda: layers.LSTM(3), (FEATURES,), frozenset())
    for name, value in (("", None), ("activation", tf.sin), ("dropout", 0.4)):
        if name:
            setattr(layer.cell, name, value)
        step = Step(layer, inputs, frozenset(), graph=False)
        assert_right(layer, step, step.replayed())
    layer.go_backwards = True
    step = Step(layer, inputs, frozenset(), graph=False)
    assert_right(layer, step, step.replayed())
    assert len(_traces._TRACES[layer]) == 4


def test_a_function_that_no_graph_can_hold_is_replayed_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An activation that asks for values, in a model that runs eagerly."""
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0)
    layer, inputs = prepared(lambda: layers.LSTM(3, _asks_for_values), (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    for _ in range(2):
        assert_right(layer, step, step.replayed())


def _asks_for_values(z: Any) -> Any:
    return tf.tanh(z) if float(tf.reduce_sum(z)) < 1e9 else z


def test_traces_go_when_their_layer_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is kept holds the layer."""
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0)
    layer, inputs = prepared(
        lambda: layers.GRU(3, layers.LeakyReLU(0.2), dropout=0.3), (FEATURES,), frozenset()
    )
    Step(layer, inputs, frozenset(), graph=False).replayed()
    before, gone = len(_traces._TRACES), weakref.ref(layer)
    del layer
    gc.unfreeze()
    gc.collect()
    assert gone() is None and len(_traces._TRACES) < before


# ---- nothing changes ----------------------------------------------------------------------------


def everything_about(layer: Any) -> list[Any]:
    """Values of all variables, and every attribute of layer and cells with what lists hold."""
    values = [v.numpy().tobytes() for v in variables_of(layer)]
    attributes = []
    for part in (layer, *layer._flatten_layers(include_self=False)):
        for name, value in sorted(vars(part).items()):
            if isinstance(value, list | tuple | set | dict):
                attributes.append((name, id(value), [id(v) for v in value]))
            else:
                attributes.append((name, id(value)))
    return [values, attributes]


KEPT = {
    "lstm-dropouts": lambda: layers.LSTM(3, dropout=0.4, recurrent_dropout=0.3, stateful=True),
    "gru-unroll": lambda: layers.GRU(3, unroll=True, dropout=0.4),
    "activation_layer": lambda: layers.GRU(3, layers.LeakyReLU(0.2)),
    "stack": lambda: stack(layers.LSTMCell(3, dropout=0.4), layers.GRUCell(3), stateful=True),
    "conv_lstm": lambda: layers.ConvLSTM1D(2, 3, recurrent_dropout=0.3),
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("name", KEPT)
def test_layer_is_left_as_it_was(
    name: str, fails: bool, traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables, attributes, activation functions and cached masks are the same objects and values."""
    monkeypatch.setattr(_traces, "_STEPS_WORTH_A_TRACE", 0 if traced else 10**9)
    layer, inputs = prepared(KEPT[name], (7, 2) if name == "conv_lstm" else (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    step.variables = [np.zeros_like(v) if "seed" not in w.path else v for v, w in _valued(step)]
    before, activation = everything_about(layer), getattr(_cell(layer), "activation", None)
    seeds = keras.random.uniform((1,), seed=3)
    if fails:
        step.inputs = step.inputs[..., :-1]
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            step.replayed()
    else:
        step.replayed()
    assert everything_about(layer) == before
    assert getattr(_cell(layer), "activation", None) is activation
    assert not keras.src.backend.common.stateless_scope.in_stateless_scope()
    assert np.array_equal(seeds, keras.random.uniform((1,), seed=3))


def _valued(step: Step) -> list[tuple[np.ndarray, Any]]:
    return list(zip(step.variables, variables_of(step.layer), strict=True))


def _cell(layer: Any) -> Any:
    return layer.cell.cells[0] if isinstance(layer.cell, layers.StackedRNNCells) else layer.cell


def test_a_mask_that_was_cached_stays() -> None:
    """A dropout mask left over from a call of the bare cell is not lost."""
    layer, inputs = prepared(lambda: layers.LSTM(3, dropout=0.4), (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    held = layer.cell.get_dropout_mask(tf.constant(inputs[:, 0]))
    expected = held.numpy()
    step.replayed()
    assert layer.cell._dropout_mask is held and np.array_equal(held, expected)


# ---- what is not known --------------------------------------------------------------------------


class OwnCell(layers.LSTMCell):
    """A cell that does something else."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """Squared."""
        return super().call(inputs**2, states, training=training)


class OwnLayer(layers.GRU):
    """A layer that does something else."""

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Doubled."""
        return super().call(2 * sequences, initial_state, mask, training)


class Renamed(layers.LSTM):
    """A layer that only has a new name."""


class MinimalCell(layers.Layer):
    """A user's cell."""

    state_size = 3

    def call(self, inputs: Any, states: Any) -> Any:
        """Adds."""
        return inputs[:, :3] + states[0], [states[0]]


def twice(cell: Any) -> Any:
    """A layer that stacks one cell on itself."""
    return stack(cell, cell)


UNKNOWN = {
    "own_cell": lambda: layers.RNN(OwnCell(3)),
    "own_cell_in_stack": lambda: stack(layers.LSTMCell(3), OwnCell(3)),
    "own_layer": lambda: OwnLayer(3),
    "user_cell": lambda: layers.RNN(MinimalCell()),
    "stack_of_stacks": lambda: stack(layers.StackedRNNCells([layers.GRUCell(3)]), layers.GRUCell(3)),
    "shared_cell": lambda: twice(layers.GRUCell(3)),
    "bidirectional": lambda: layers.Bidirectional(layers.LSTM(3)),
    "dense": lambda: layers.Dense(3),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_layers_are_refused(name: str) -> None:
    """`replay` returns None, it does not guess."""
    layer = UNKNOWN[name]()
    assert not is_recurrent(layer)
    nothing = dict(initial_state=None, mask=None, training=True, output_gradients=[])
    assert replay(layer, [], sequence(FEATURES), **nothing) is None


def test_a_subclass_without_own_call_is_known() -> None:
    """A subclass of a layer that adds no behaviour is what it inherits from."""
    assert is_recurrent(Renamed(3)) and all(is_recurrent(make()) for make in CELLS.values())


def test_a_cell_that_calls_its_functions_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order of calls than the class is known for, and `replay` returns None."""
    layer, inputs = prepared(CELLS["lstm"], (FEATURES,), frozenset())
    step = Step(layer, inputs, frozenset(), graph=False)
    kinds = tuple(k if k.cell is not layers.LSTMCell else _reversed(k) for k in _cells._KINDS)
    monkeypatch.setattr(_cells, "_KINDS", kinds)
    before = everything_about(layer)
    nothing = dict(initial_state=None, mask=None, training=True, output_gradients=step.output_gradients)
    assert replay(layer, step.variables, inputs, **nothing) is None
    assert everything_about(layer) == before


def _reversed(kind: Any) -> Any:
    return _cells.CellKind(kind.cell, kind.gates, kind.calls[::-1])


def test_variables_include_the_states_of_a_stateful_layer() -> None:
    """`layer.variables` comes first, then what Keras leaves out."""
    layer, _ = prepared(lambda: layers.LSTM(3, stateful=True, dropout=0.1), (FEATURES,), frozenset())
    found = variables_of(layer)
    assert all(a is b for a, b in zip(layer.variables, found, strict=False))
    assert [v.shape for v in found[len(layer.variables) :]] == [(N, 3), (N, 3)]
    assert sum("seed" in v.path for v in found) == 1
