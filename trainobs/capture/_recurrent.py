"""What the gradients of a recurrent layer's weights are sums over: each gate, at every time step.

A recurrent layer uses its weights once a step, inside a loop where no tap can be put without changing
what the loop computes. So the layer is *replayed* after the train step: its own Keras `call` runs
again, eagerly, on the recorded values of its variables, inputs and output gradients, with its loop
over time written out in Python. A gate's preactivation is what the cell gives to its `activation` or
`recurrent_activation`; its gradient comes from a tape, as everywhere.

| symbol | meaning                                                                |
|--------|------------------------------------------------------------------------|
| X_t    | input of step t, dropout mask applied                                  |
| H_t    | state that enters step t (output of the step before), mask applied     |
| Z_t    | a gate's preactivation, X_t K + H_t U + b                              |
| A_t    | the gate's value φ(Z_t)                                                |

For every gate ``dJ/dK = Σ_t X_tᵀ·dJ/dZ_t``, ``dJ/dU = Σ_t H_tᵀ·dJ/dZ_t``, ``dJ/db = Σ_t dJ/dZ_t``. Two
gates differ. The candidate of a GRU that resets before the product (``reset_after=False``) multiplies
r_t·H_t with U. One that resets after it adds r_t·(H_t U + b_r): this *recurrent part* has a
preactivation of its own, H_t U + b_r, with the slope r_t·φ'(Z_t).

Private Keras names used here: the class of ConvLSTM layers' cells, which is not exported; RNN's
`inner_loop`, its loop over time, which is set aside for ours; the cells' cached dropout masks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from trainobs.activations import Activation
from trainobs.capture._keras_internals import all_layers
from trainobs.capture._sites import describe_activation
from trainobs.capture._taps import slope_of

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class GatePart:
    """One weight of a cell, for one gate: what its gradient is a sum over.

    Arrays hold batch, then time in the order of the layer's input (also where it goes backwards), then
    what a step has; half precision is given as float32. For a ConvLSTM a step has pixels and channels
    in the layer's own layout.

    Attributes
    ----------
    weight : int
        Position of the variable in `variables_of(layer)`. Its first entries are `layer.variables`,
        and weights are among these, so this is its position there too.
    gate : str
        "input gate", "forget gate", "candidate", "output gate", "update gate" or "reset gate"; "" for
        a SimpleRNN, which has one.
    role : str
        "kernel", "recurrent_kernel" or "bias".
    columns : slice
        Which units (last axis) of the variable belong to the gate.
    input : array of shape (n, T, i)
        What it multiplies at every step: dropout mask applied; times the reset gate for the candidate
        of a GRU with ``reset_after=False``. For a bias ones (n, T), with the pixels of a ConvLSTM.
    preactivation, output : array of shape (n, T, u)
        Z and A = φ(Z). For the recurrent part of a GRU's candidate (see the module) Z is H U + b_r and
        the output r·Z.
    slope : array of shape (n, T, u)
        φ'(Z), for softmax the diagonal of its Jacobian. For that recurrent part r·φ'(Z of the candidate).
    output_gradient : array of shape (n, T, u)
        dJ/dA. For that recurrent part that of the candidate, so slope·output_gradient = dJ/dZ here too.
    preactivation_gradient : array of shape (n, T, u)
        dJ/dZ.
    activation : Activation
        φ. For that recurrent part the candidate's.
    bias : int or None
        Position of the variable whose value is added to this Z.
    bias_row : int or None
        For a GRU with ``reset_after=True``, whose bias has shape (2, 3u): the row of this part, 0 beside
        the kernel, 1 beside the recurrent kernel. (The Z of its update and reset gates have both added.)
    conv : dict or None
        For a ConvLSTM `strides`, `padding`, `dilation` and `data_format` of the convolution; a bias has
        those of the kernel.
    """

    weight: int
    gate: str
    role: str
    columns: slice
    input: Array
    preactivation: Array
    output: Array
    slope: Array
    output_gradient: Array
    preactivation_gradient: Array
    activation: Activation
    bias: int | None = None
    bias_row: int | None = None
    conv: dict[str, Any] | None = None


# ---- which layers are known -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A cell class.

    Attributes
    ----------
    cell : type
        The class.
    gates : tuple of str
        Its gates in the order of the weights' columns.
    calls : tuple of (str, int or None)
        Which of its functions a step calls, in this order, and the gate each is called for.
    """

    cell: Any
    gates: tuple[str, ...]
    calls: tuple[tuple[str, int | None], ...]


_LSTM_GATES = ("input gate", "forget gate", "candidate", "output gate")
_LSTM_CALLS = (
    ("recurrent_activation", 0),
    ("recurrent_activation", 1),
    ("activation", 2),
    ("recurrent_activation", 3),
    ("activation", None),  # on the carry: no gate
)
_GRU_CALLS = (("recurrent_activation", 0), ("recurrent_activation", 1), ("activation", 2))

#: A cell kind is one row.
_KINDS = (
    _Kind(keras.layers.SimpleRNNCell, ("",), (("activation", 0),)),
    _Kind(keras.layers.GRUCell, ("update gate", "reset gate", "candidate"), _GRU_CALLS),
    _Kind(keras.layers.LSTMCell, _LSTM_GATES, _LSTM_CALLS),
    _Kind(ConvLSTMCell, _LSTM_GATES, _LSTM_CALLS),
)
_LAYERS = (
    keras.layers.SimpleRNN,
    keras.layers.GRU,
    keras.layers.LSTM,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
    keras.layers.RNN,  # last: the others inherit from it
)
#: What a class must not have overridden for us to know what it does.
_METHODS = (
    *("__call__", "call", "inner_loop", "_maybe_config_dropout_masks", "_maybe_reset_dropout_masks"),
    *("get_dropout_mask", "get_recurrent_dropout_mask", "_create_dropout_mask"),
    *("_compute_carry_and_output", "_compute_carry_and_output_fused", "input_conv", "recurrent_conv"),
)


class _NotAsExpected(Exception):
    """A cell did not call its activation functions in the order that its class is known for."""


def is_recurrent(layer: Any) -> bool:
    """Whether `replay` knows the layer and its cells.

    A subclass with a `call` of its own may do anything with its weights, so it is not known; neither
    are quantised layers, and stacks of stacks or of one cell several times.
    """
    if not any(_behaves_as(layer, kind) for kind in _LAYERS):
        return False
    cells, stack = _cells(layer), layer.cell
    if stack is not cells[0] and not _behaves_as(stack, keras.layers.StackedRNNCells):
        return False
    known = all(_kind(cell) is not None and _has_plain_weights(cell) for cell in cells)
    return known and len({id(cell) for cell in cells}) == len(cells)


def _behaves_as(thing: Any, kind: Any) -> bool:
    if not isinstance(thing, kind) or getattr(thing, "quantization_mode", None) is not None:
        return False
    return all(getattr(type(thing), name, None) is getattr(kind, name, None) for name in _METHODS)


def _kind(cell: Any) -> _Kind | None:
    return next((kind for kind in _KINDS if _behaves_as(cell, kind.cell)), None)


def _has_plain_weights(cell: Any) -> bool:
    names = ("kernel", "recurrent_kernel") if cell.built else ()
    return all(isinstance(getattr(cell, name, None), keras.Variable) for name in names)


def _cells(layer: Any) -> list[Any]:
    """The cells that have weights."""
    return list(layer.cell.cells) if isinstance(layer.cell, keras.layers.StackedRNNCells) else [layer.cell]


def variables_of(layer: Any) -> list[Any]:
    """Every variable that a call of the layer reads.

    `layer.variables` (weights, then states of seed generators, cell by cell) and the states of a
    stateful layer, which Keras 3.8 and 3.15 leave out there.
    """
    return [*layer.variables, *keras.tree.flatten(layer.states or [])]


# ---- the replay -----------------------------------------------------------------------------------


def replay(
    layer: Any,
    variables: list[Array],
    inputs: Array,
    *,
    initial_state: list[Array] | None,
    mask: Array | None,
    training: bool,
    output_gradients: list[Array | None],
) -> list[GatePart] | None:
    """Run one call of a recurrent layer again and take the gradients of its weights apart.

    Nothing about the layer changes.

    Parameters
    ----------
    layer : keras.layers.RNN
        A built layer.
    variables : list of array
        Values that `variables_of(layer)` had when it was called: those of the seed generators decide
        which dropout masks are drawn, those of the states where a stateful layer begins.
    inputs : array of shape (n, T, …)
        Its input.
    initial_state : list of array, or None
        The initial state it was given, flattened.
    mask : array of shape (n, T), or None
        Which steps count.
    training : bool
        Its argument `training`.
    output_gradients : list of array or None
        dJ/d(output) of its flattened outputs; None where no gradient came.

    Returns
    -------
    list of GatePart, or None
        None if the layer is not known.
    """
    if not is_recurrent(layer) or not layer.built:
        return None
    with _left_alone(layer), _recorded_values(layer, variables):
        taps = [_CellTaps(cell) for cell in _cells(layer)]
        try:
            gradients = _run(layer, taps, inputs, initial_state, mask, training, output_gradients)
        except _NotAsExpected:
            return None
        return [part for tap, own in zip(taps, gradients, strict=True) for part in _parts(layer, tap, own)]


@contextlib.contextmanager
def _left_alone(layer: Any) -> Iterator[None]:
    """Put back every attribute of the layer, its cells and their activation layers."""
    saved = [(vars(part), dict(vars(part))) for part in (layer, *all_layers(layer))]
    for attributes, _ in saved:
        attributes["_self_setattr_tracking"] = False  # or TensorFlow keeps a list of what is assigned
    try:
        yield
    finally:
        for attributes, before in saved:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)


def _recorded_values(layer: Any, values: list[Array]) -> Any:
    """A scope in which the layer's variables have recorded values, and assigning changes none."""
    mapping = list(zip(variables_of(layer), values, strict=True))
    return keras.StatelessScope(mapping, initialize_variables=False)


def _run(
    layer: Any,
    taps: list[_CellTaps],
    inputs: Array,
    initial_state: list[Array] | None,
    mask: Array | None,
    training: bool,
    output_gradients: list[Array | None],
) -> list[list[Any]]:
    """Call the layer; return the gradients of what each cell's taps saw, as `_CellTaps.tensors`."""
    state = initial_state and keras.tree.pack_sequence_as(
        layer.get_initial_state(len(inputs)), [tf.convert_to_tensor(s) for s in initial_state]
    )
    live = None if mask is None else tf.convert_to_tensor(mask)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        vars(layer)["inner_loop"] = lambda *a, **k: _loop(layer, taps, tape, *a, **k)
        outputs = layer.call(_as_input(layer, inputs), initial_state=state, mask=live, training=training)
    pairs = zip(keras.tree.flatten(outputs), output_gradients, strict=True)
    reached = [(y, tf.cast(tf.convert_to_tensor(g), y.dtype)) for y, g in pairs if g is not None]
    targets, upstream = [y for y, _ in reached], [g for _, g in reached]
    sources = [tap.tensors() for tap in taps]
    if not reached:
        return keras.tree.map_structure(tf.zeros_like, sources)
    return tape.gradient(targets, sources, upstream, unconnected_gradients="zero")


def _as_input(layer: Any, inputs: Array) -> Any:
    """The input as `Layer.__call__` hands it to `call`."""
    tensor = tf.convert_to_tensor(inputs)
    return tf.cast(tensor, layer.compute_dtype) if tensor.dtype.is_floating else tensor


def _loop(
    layer: Any,
    taps: list[_CellTaps],
    tape: Any,
    sequences: Any,
    initial_state: list[Any],
    mask: Any,
    training: bool = False,
) -> tuple[Any, Any, Any]:
    """Keras' loop over time, step by step in Python; in place of `layer.inner_loop`.

    (Keras' own unrolled loop fails for a stack of one LSTM cell.)
    """
    for tap in taps:  # not before: Keras calls stacked cells once more to draw their dropout masks
        tap.listen(tape)
    steps = tf.unstack(sequences, axis=1)
    masks = [None] * len(steps) if mask is None else tf.unstack(tf.cast(mask, tf.bool), axis=1)
    order = range(len(steps))[:: -1 if layer.go_backwards else 1]
    states: Any = initial_state
    outputs: list[Any] = []
    for t in order:
        output, new_states = layer.cell(steps[t], states, training=training)
        new_states = keras.tree.pack_sequence_as(states, keras.tree.flatten(new_states))
        if masks[t] is not None:
            kept = tf.zeros_like(output) if layer.zero_output_for_mask or not outputs else outputs[-1]
            output = _where(masks[t], output, kept)
            new_states = keras.tree.map_structure(lambda *s, m=masks[t]: _where(m, *s), new_states, states)
        states = new_states
        outputs.append(output)
    for tap in taps:
        tap.finish(backwards=layer.go_backwards)
    return outputs[-1], tf.stack(outputs, axis=1), states


def _where(live: Any, new: Any, old: Any) -> Any:
    """`new` for the samples whose step counts, else `old`."""
    return tf.where(tf.reshape(live, (-1,) + (1,) * (len(new.shape) - 1)), new, old)


# ---- what one cell computes -----------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class _Step:
    """What one cell saw in one step."""

    input: Any
    state: Any
    preactivations: list[Any] = dataclasses.field(default_factory=list)  # by gate
    outputs: list[Any] = dataclasses.field(default_factory=list)


class _CellTaps:
    """Listens to one cell while the loop runs. To be used inside `_left_alone`, which takes it out again.

    Attributes
    ----------
    cell, kind
        The cell and its row of the table.
    functions : dict of str to callable
        Its activation functions.
    steps : list of _Step
        In the order of the input.
    inputs, states : array
        Once the loop is over: X and H before dropout, (n, T, …).
    """

    def __init__(self, cell: Any) -> None:
        kind = _kind(cell)
        assert kind is not None  # is_recurrent was asked
        self.cell, self.kind = cell, kind
        self.functions = {name: getattr(cell, name) for name, _ in kind.calls}
        self.steps: list[_Step] = []
        self.inputs = self.states = np.empty(0)
        self._training = False
        self._awaited: list[tuple[str, int | None]] = []

    def listen(self, tape: Any) -> None:
        """Hear every step of the cell from now on."""
        call = self.cell.call

        def step(inputs: Any, states: Any, training: bool = False) -> Any:
            self._training, self._awaited = bool(training), list(self.kind.calls)
            self.steps.append(_Step(inputs, keras.tree.flatten(states)[0]))
            result = call(inputs, states, training=training)
            if self._awaited:
                raise _NotAsExpected
            return result

        vars(self.cell)["call"] = step
        for name in self.functions:
            vars(self.cell)[name] = self._tapped(name, tape)

    def _tapped(self, name: str, tape: Any) -> Callable[[Any], Any]:
        def apply(preactivation: Any) -> Any:
            expected, gate = self._awaited.pop(0) if self._awaited else ("", None)
            if name != expected:
                raise _NotAsExpected
            if gate is None:
                return self.functions[name](preactivation)
            tape.watch(preactivation)
            output = self.functions[name](preactivation)
            self.steps[-1].preactivations.append(preactivation)
            self.steps[-1].outputs.append(output)
            return output

        return apply

    def finish(self, *, backwards: bool) -> None:
        """The loop is over: put the steps in the input's order and keep the masks that were used."""
        if backwards:
            self.steps.reverse()
        self.inputs = _over_time(step.input for step in self.steps)
        self.states = _over_time(step.state for step in self.steps)
        fused = getattr(self.cell, "implementation", 1) == 2  # these know no recurrent dropout
        self._input_masks = self._used("_dropout_mask", self.cell.dropout)
        self._state_masks = self._used("_recurrent_dropout_mask", 0 if fused else self.cell.recurrent_dropout)

    def _used(self, attribute: str, rate: float) -> list[Array | None]:
        masks, gates = getattr(self.cell, attribute, None), len(self.kind.gates)
        # a rate of 1 is none to all cells but SimpleRNN's
        highest = 1.0 if isinstance(self.cell, keras.layers.SimpleRNNCell) else np.nextafter(1.0, 0.0)
        if masks is None or not self._training or not 0.0 < rate <= highest:
            return [None] * gates
        return [mask.numpy() for mask in (masks if isinstance(masks, list | tuple) else [masks] * gates)]

    def masked_input(self, gate: int) -> Array:
        """X of every step, as the gate's kernel multiplies it."""
        return _masked(self.inputs, self._input_masks[gate])

    def masked_state(self, gate: int) -> Array:
        """H of every step, as the gate's recurrent kernel multiplies it (but for a reset gate)."""
        return _masked(self.states, self._state_masks[gate])

    def tensors(self) -> list[list[Any]]:
        """What gradients are sought of: preactivations and outputs of gate after gate, by step."""
        gates = range(len(self.kind.gates))
        kinds = ("preactivations", "outputs")
        return [[getattr(step, kind)[k] for step in self.steps] for k in gates for kind in kinds]


# ---- from tensors to parts ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Gate:
    """The quantities of one gate that all its parts share (see `GatePart`)."""

    gate: str
    columns: slice
    preactivation: Array
    output: Array
    slope: Array
    output_gradient: Array
    preactivation_gradient: Array
    activation: Activation


def _parts(layer: Any, taps: _CellTaps, gradients: list[list[Any]]) -> list[GatePart]:
    """All parts of one cell: gate by gate its kernel, recurrent kernel and biases."""
    cell, positions = taps.cell, {id(v): position for position, v in enumerate(variables_of(layer))}
    bias = positions.get(id(cell.bias)) if cell.bias is not None else None
    gates = [_gate(layer, taps, k, *gradients[2 * k : 2 * k + 2]) for k in range(len(taps.kind.gates))]
    return [
        GatePart(
            **vars(gate),
            weight=positions[id(getattr(cell, role))],
            role=role,
            input=_float(multiplied),
            bias=bias,
            bias_row=row if bias is not None and _resets_after(cell) else None,
            conv=_conv(cell, role),
        )
        for k in range(len(gates))
        for role, gate, multiplied, row in _uses(taps, gates, k)
    ]


def _gate(layer: Any, taps: _CellTaps, k: int, gradients: list[Any], output_gradients: list[Any]) -> _Gate:
    function = taps.functions[next(name for name, gate in taps.kind.calls if gate == k)]
    activation = describe_activation(types.SimpleNamespace(name=layer.name, activation=function))
    preactivation = _over_time(step.preactivations[k] for step in taps.steps)
    output = _over_time(step.outputs[k] for step in taps.steps)
    units = getattr(taps.cell, "units", None) or taps.cell.filters
    return _Gate(
        gate=taps.kind.gates[k],
        columns=slice(k * units, (k + 1) * units),
        preactivation=_float(preactivation),
        output=_float(output),
        slope=_float(_slope(activation, function, preactivation, output)),
        output_gradient=_float(_over_time(output_gradients)),
        preactivation_gradient=_float(_over_time(gradients)),
        activation=activation,
    )


def _slope(activation: Activation, function: Any, preactivation: Array, output: Array) -> Array:
    """φ' of every element, all steps at once: they are put side by side as samples."""
    if activation.name == "softmax" and not activation.elementwise:
        return output * (1 - output)
    samples = tf.convert_to_tensor(preactivation.reshape(-1, *preactivation.shape[2:]))
    return slope_of(function, samples)[1].numpy().reshape(preactivation.shape)


def _uses(taps: _CellTaps, gates: list[_Gate], k: int) -> Iterator[tuple[str, _Gate, Array, int]]:
    """What the weights of one gate do: role, gate, what is multiplied, row of the bias."""
    gate, cell = gates[k], taps.cell
    recurrent, state = gate, taps.masked_state(k)
    if gate.gate == "candidate" and isinstance(cell, keras.layers.GRUCell):
        if cell.reset_after:
            recurrent = _recurrent_part(cell, gate, gates[1], state)
        else:
            state = (gates[1].output * state).astype(state.dtype)
    yield "kernel", gate, taps.masked_input(k), 0
    yield "recurrent_kernel", recurrent, state, 1
    if cell.bias is not None:
        yield "bias", gate, _ones(cell, gate), 0
        if _resets_after(cell):
            yield "bias", recurrent, _ones(cell, gate), 1


def _recurrent_part(cell: Any, candidate: _Gate, reset: _Gate, state: Array) -> _Gate:
    """``r·Z`` with ``Z = H U + b_r``: what a GRU that resets after the product adds to its candidate."""
    preactivation = _float(state) @ _computed_with(cell, cell.recurrent_kernel)[:, candidate.columns]
    if cell.bias is not None:
        preactivation = preactivation + _computed_with(cell, cell.bias)[1, candidate.columns]
    return dataclasses.replace(
        candidate,
        preactivation=preactivation,
        output=reset.output * preactivation,
        slope=reset.output * candidate.slope,
        preactivation_gradient=reset.output * candidate.preactivation_gradient,
    )


def _computed_with(cell: Any, variable: Any) -> Array:
    """The value of a variable, as precise as the cell uses it."""
    return _float(tf.cast(variable.value, cell.compute_dtype).numpy())


def _resets_after(cell: Any) -> bool:
    """Whether the bias has two rows."""
    return isinstance(cell, keras.layers.GRUCell) and bool(cell.reset_after)


def _conv(cell: Any, role: str) -> dict[str, Any] | None:
    """How a weight of a ConvLSTM meets the pixels."""
    if not isinstance(cell, ConvLSTMCell):
        return None
    if role == "recurrent_kernel":
        one = (1,) * cell.rank
        return dict(strides=one, padding="same", dilation=one, data_format=cell.data_format)
    return dict(
        strides=tuple(cell.strides),
        padding=cell.padding,
        dilation=tuple(cell.dilation_rate),
        data_format=cell.data_format,
    )


def _ones(cell: Any, gate: _Gate) -> Array:
    """What a bias multiplies: 1 at every step (and pixel), in no memory."""
    channels = 2 if getattr(cell, "data_format", "channels_last") == "channels_first" else -1
    shape = list(gate.preactivation.shape)
    del shape[channels]
    return np.broadcast_to(np.float32(1), shape)


def _masked(array: Array, mask: Array | None) -> Array:
    """A dropout mask, the same for every step, applied to an array (n, T, …)."""
    return array if mask is None else array * mask[:, None]


def _over_time(steps: Iterable[Any]) -> Array:
    """Tensors of single steps as one array (n, T, …)."""
    return np.stack([step.numpy() for step in steps], axis=1)


def _float(array: Array) -> Array:
    """Half precision as float32; everything else as it is."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
