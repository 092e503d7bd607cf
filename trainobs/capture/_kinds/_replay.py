"""What the gradients of a recurrent layer's weights are sums over: each gate, at every time step.

A recurrent layer uses its weights once a step, inside a loop where no tap can be put without changing
what the loop computes. So the layer is *replayed* after the train step, on the recorded values of its
variables, inputs and output gradients, and every gradient comes from a tape, as everywhere:

1. `_walk`: the layer's own Keras `call` runs again, with a loop over time that keeps the states which
   enter each step and, from the way back, the gradients of the states which each step computes.
2. `_at_once`: given these, steps do not depend on each other. The layer's cell computes all of them in
   one call, as so many samples, and back. A gate's preactivation is what the cell gives to its
   `activation` or `recurrent_activation`.

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
`inner_loop`, its loop over time, in whose place ours is put; the cells' cached dropout masks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from trainobs.activations import Activation
from trainobs.capture._activation_functions import describe_activation
from trainobs.capture._keras_internals import all_layers
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
    cell : int
        Number of the cell in a stack, from 0.
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
    cell: int = 0


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


def gates_of(layer: Any) -> list[tuple[int, str]]:
    """The gates of a layer: number of the cell, and name."""
    kinds = enumerate(_kind(cell) for cell in _cells(layer))
    return [(cell, gate) for cell, kind in kinds if kind is not None for gate in kind.gates]


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
    call = _Call(
        [tf.convert_to_tensor(v) for v in variables],
        _as_input(layer, inputs),
        [tf.convert_to_tensor(s) for s in initial_state] if initial_state else None,
        None if mask is None else tf.convert_to_tensor(mask),
        [None if g is None else tf.convert_to_tensor(g) for g in output_gradients],
    )
    walked = _walked(layer, call, training)
    with _left_alone(layer), _recorded_values(layer, call.variables):
        try:
            taps = _at_once(layer, call.inputs, walked, training)
        except _NotAsExpected:
            return None
        return [part for tap in taps for part in _parts(layer, tap)]


class _Call(NamedTuple):
    """What `replay` was given, as tensors."""

    variables: list[Any]
    inputs: Any
    initial_state: list[Any] | None
    mask: Any
    output_gradients: list[Any]


def _as_input(layer: Any, inputs: Array) -> Any:
    """The input as `Layer.__call__` hands it to `call`."""
    tensor = tf.convert_to_tensor(inputs)
    return tf.cast(tensor, layer.compute_dtype) if tensor.dtype.is_floating else tensor


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


def _recorded_values(layer: Any, values: list[Any]) -> Any:
    """A scope in which the layer's variables have recorded values, and assigning changes none."""
    mapping = list(zip(variables_of(layer), values, strict=True))
    return keras.StatelessScope(mapping, initialize_variables=False)


# ---- 1. through time ------------------------------------------------------------------------------


class _Walked(NamedTuple):
    """What `_walk` finds. Steps are on the first axis, in the order in which the layer takes them.

    Attributes
    ----------
    entering : list of tensor (T, n, …)
        The flattened states that each step begins with.
    gradients : list of tensor (T, n, …)
        dJ/d(the states that the cell returned), as an output of the layer too.
    masks : list of (list of tensor, list of tensor)
        For every cell what it caches as dropout masks, of its input and state; empty if nothing.
    """

    entering: list[Any]
    gradients: list[Any]
    masks: list[Any]


def _walk(layer: Any, call: _Call, training: bool) -> _Walked:
    """Call the layer on recorded values, forwards and back."""
    loop, state, tape = _Loop(layer), None, tf.GradientTape(watch_accessed_variables=False)
    with _left_alone(layer), _recorded_values(layer, call.variables), tape:
        if call.initial_state is not None:
            structure = layer.get_initial_state(tf.shape(call.inputs)[0])
            state = keras.tree.pack_sequence_as(structure, call.initial_state)
        vars(layer)["inner_loop"] = functools.partial(loop.run, tape)
        outputs = layer.call(call.inputs, initial_state=state, mask=call.mask, training=training)
    pairs = zip(keras.tree.flatten(outputs), call.output_gradients, strict=True)
    reached = [(y, tf.cast(g, y.dtype)) for y, g in pairs if g is not None]
    targets, upstream = [y for y, _ in reached], [g for _, g in reached]
    gradients = [tf.zeros_like(probe) for probe in loop.probes]
    if reached:
        gradients = tape.gradient(targets, loop.probes, upstream, unconnected_gradients="zero")
    return _Walked(loop.entering, gradients, loop.masks)


class _Loop:
    """A loop over time in place of a layer's own, that does the same and keeps what it meets.

    To every state that the cell returns a *probe* is added, which is 0: its gradient is the state's.

    Attributes
    ----------
    probes, entering, masks : list
        See `_Walked`.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._zero_output = layer.zero_output_for_mask
        self.probes: list[Any] = []
        self.entering: list[Any] = []
        self.masks: list[Any] = []

    def run(
        self, tape: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """What `layer.inner_loop` does: last output, all outputs and last states."""
        first, length = keras.tree.flatten(initial_state), tf.shape(sequences)[1]
        self.probes = [tf.zeros(tf.concat([[length], tf.shape(s)], 0), s.dtype) for s in first]
        tape.watch(self.probes)
        read = [self._by_step(sequences), None if mask is None else self._by_step(tf.cast(mask, tf.bool))]
        probes = [tf.TensorArray(p.dtype, length).unstack(p) for p in self.probes]
        written = [tf.TensorArray(s.dtype, length, element_shape=s.shape) for s in first]
        output = tf.zeros_like(first[self._head()])
        outputs = tf.TensorArray(output.dtype, length, element_shape=output.shape)

        def body(t: Any, states: Any, last: Any, kept: Any, seen: Any) -> Any:
            nested = keras.tree.pack_sequence_as(initial_state, list(states))
            _, returned = self._layer.cell(read[0].read(t), nested, training=training)
            new = [s + p.read(t) for s, p in zip(keras.tree.flatten(returned), probes, strict=True)]
            live = None if read[1] is None else read[1].read(t)
            new, last = self._masked(live, new, list(states), last)
            return (
                t + 1,
                new,
                last,
                [k.write(t, s) for k, s in zip(kept, new, strict=True)],
                seen.write(t, last),
            )

        start = (tf.constant(0), first, output, written, outputs)
        _, states, output, written, outputs = tf.while_loop(lambda t, *_: t < length, body, start)
        after = [array.stack() for array in written]
        self.entering = [tf.concat([s[None], a[:-1]], 0) for s, a in zip(first, after, strict=True)]
        self.masks = [_cached_masks(cell) for cell in _cells(self._layer)]
        return output, _time_first(outputs.stack()), keras.tree.pack_sequence_as(initial_state, list(states))

    def _by_step(self, sequences: Any) -> Any:
        steps = _time_first(sequences)
        steps = tf.reverse(steps, [0]) if self._layer.go_backwards else steps
        return tf.TensorArray(steps.dtype, tf.shape(steps)[0]).unstack(steps)

    def _head(self) -> int:
        """Which of the flattened states is the output too: the first one of the last cell."""
        counts = [len(keras.tree.flatten(cell.get_initial_state(1))) for cell in _cells(self._layer)]
        return sum(counts[:-1])

    def _masked(self, live: Any, new: list[Any], old: list[Any], last: Any) -> tuple[list[Any], Any]:
        """States and output of a step, for the samples whose step counts."""
        output = new[self._head()]
        if live is None:
            return new, output
        kept = tf.zeros_like(last) if self._zero_output else last
        return [_where(live, n, o) for n, o in zip(new, old, strict=True)], _where(live, output, kept)


def _where(live: Any, new: Any, old: Any) -> Any:
    """`new` for the samples whose step counts, else `old`."""
    return tf.where(tf.reshape(live, (-1,) + (1,) * (len(new.shape) - 1)), new, old)


def _time_first(array: Any) -> Any:
    """Exchange the first two axes."""
    return tf.transpose(array, [1, 0, *range(2, len(array.shape))])


def _cached_masks(cell: Any) -> tuple[list[Any], list[Any]]:
    found = [getattr(cell, name, None) for name in ("_dropout_mask", "_recurrent_dropout_mask")]
    inputs, states = ([] if m is None else list(m) if isinstance(m, list | tuple) else [m] for m in found)
    return inputs, states


# ---- the walk, compiled ---------------------------------------------------------------------------

#: By layer and kind of call the trace of `_walk`, or how many steps were walked without one. Nothing
#: in a trace refers to its layer (the variables are arguments), so they go when it goes.
_TRACES: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
_MOST_TRACES = 8  # of one layer
#: Tracing takes as long as about this many eager steps; afterwards a step is ten times as fast.
_STEPS_WORTH_A_TRACE = 100


def _walked(layer: Any, call: _Call, training: bool) -> _Walked:
    """`_walk`, compiled where it is worth it and can be."""
    flat = tf.nest.flatten(call)
    tensors, given = [x for x in flat if x is not None], [x is not None for x in flat]
    walk = _walk_of_tensors(weakref.ref(layer), tf.nest.map_structure(lambda _: 0, call), given, training)
    specs = [x for x in tf.nest.flatten(_specs(layer, call)) if x is not None]
    key = (training, len(call.initial_state or []), tuple(given), tuple(specs), *_settings(layer))
    traces = _TRACES.setdefault(layer, {})
    if key not in traces and len(traces) >= _MOST_TRACES:
        traces.clear()
    run = traces.get(key, 0)
    if isinstance(run, int):
        steps = run + call.inputs.shape[1]
        run = traces[key] = _trace(walk, specs) if steps >= _STEPS_WORTH_A_TRACE else steps
    return _Walked(*(run if callable(run) else walk)(*tensors))


def _walk_of_tensors(
    layer: weakref.ref[Any], structure: Any, given: list[bool], training: bool
) -> Callable[..., Any]:
    """`_walk` as a function of tensors alone."""

    def walk(*tensors: Any) -> Any:
        rest = iter(tensors)
        call = tf.nest.pack_sequence_as(structure, [next(rest) if there else None for there in given])
        return tuple(_walk(layer(), call, training))

    return walk


def _specs(layer: Any, call: _Call) -> _Call:
    """Types of the tensors: any batch size (a stateful layer has but one), any number of steps."""
    batch = call.inputs.shape[0] if layer.stateful else None

    def spec(tensor: Any, *first: int | None) -> Any:
        if tensor is None:
            return None
        return tf.TensorSpec([*first, *tensor.shape[len(first) :]], tensor.dtype)

    timed = [layer.return_sequences, *[False] * len(call.output_gradients)]
    gradients = zip(call.output_gradients, timed, strict=False)
    return _Call(
        [spec(v) for v in call.variables],
        spec(call.inputs, batch, None),
        call.initial_state and [spec(s, batch) for s in call.initial_state],
        spec(call.mask, batch, None),
        [spec(g, batch, None) if steps else spec(g, batch) for g, steps in gradients],
    )


def _settings(layer: Any) -> Iterator[Any]:
    """Everything about a layer that a trace depends on; hashable, and without a strong reference."""
    for part in (layer, *all_layers(layer)):
        yield id(part), part.compute_dtype
        for name, value in sorted(vars(part).items()):
            if callable(value) and name.endswith("activation"):
                kind = weakref.WeakMethod if isinstance(value, types.MethodType) else weakref.ref
                yield name, kind(value)
            elif isinstance(value, bool | int | float | str | None | tuple):
                yield name, str(value)


def _trace(walk: Callable[..., Any], specs: list[Any]) -> Any:
    """`walk` as a graph; None if it can't be one, such as for a function that needs values."""
    try:
        return tf.function(walk, autograph=False).get_concrete_function(*specs)
    except Exception:  # then it runs eagerly, and an error that is no matter of graphs comes again
        return None


# ---- 2. all steps at once -------------------------------------------------------------------------


class _CellTaps:
    """What one cell computes, all steps at once. To be used inside `_left_alone`, which takes it out again.

    Attributes
    ----------
    cell, kind
        The cell and its row of the table.
    functions : dict of str to callable
        Its activation functions.
    shape : tuple of int
        (n, T), the shape of the samples' axis.
    input, state : tensor (n·T, …)
        X and H before dropout.
    input_masks, state_masks : list of tensor
        Dropout masks: one, one for every gate, or none.
    preactivations, outputs : list of tensor
        Z and A by gate.
    gradients : list of tensor
        dJ/dZ of every gate, then dJ/dA of every gate.
    """

    def __init__(self, cell: Any, masks: tuple[list[Any], list[Any]], shape: tuple[int, int]) -> None:
        kind = _kind(cell)
        assert kind is not None  # is_recurrent was asked
        self.cell, self.kind, self.shape = cell, kind, shape
        self.functions = {name: getattr(cell, name) for name, _ in kind.calls}
        self.input_masks, self.state_masks = (
            [tf.repeat(m, shape[1], axis=0) for m in kept] for kept in masks
        )
        self.input = self.state = None
        self.preactivations: list[Any] = []
        self.outputs: list[Any] = []
        self.gradients: list[Any] = []
        self._training = False
        self._awaited: list[tuple[str, int | None]] = []

    def listen(self, tape: Any) -> None:
        """Hear the cell's next call, for which it has its dropout masks already."""
        call = self.cell.call

        def step(inputs: Any, states: Any, training: bool = False) -> Any:
            self._training, self._awaited = bool(training), list(self.kind.calls)
            self.input, self.state = inputs, keras.tree.flatten(states)[0]
            result = call(inputs, states, training=training)
            if self._awaited:
                raise _NotAsExpected
            return result

        single = getattr(self.cell, "dropout_mask_count", None) is None
        attributes = vars(self.cell)
        for name, masks in (
            ("_dropout_mask", self.input_masks),
            ("_recurrent_dropout_mask", self.state_masks),
        ):
            attributes[name] = None if not masks else masks[0] if single else masks
        attributes["call"] = step
        attributes.update({name: self._tapped(name, tape) for name in self.functions})

    def _tapped(self, name: str, tape: Any) -> Callable[[Any], Any]:
        def apply(preactivation: Any) -> Any:
            expected, gate = self._awaited.pop(0) if self._awaited else ("", None)
            if name != expected:
                raise _NotAsExpected
            if gate is None:
                return self.functions[name](preactivation)
            tape.watch(preactivation)
            output = self.functions[name](preactivation)
            self.preactivations.append(preactivation)
            self.outputs.append(output)
            return output

        return apply

    def multiplied_by_kernel(self, gate: int) -> Array:
        """X, as the gate's kernel multiplies it."""
        return self._dropped(self.input, self.input_masks, gate, self.cell.dropout)

    def multiplied_by_recurrent_kernel(self, gate: int) -> Array:
        """H, as the gate's recurrent kernel multiplies it (but for a reset gate)."""
        fused = getattr(self.cell, "implementation", 1) == 2  # knows no recurrent dropout
        rate = 0.0 if fused else self.cell.recurrent_dropout
        return self._dropped(self.state, self.state_masks, gate, rate)

    def _dropped(self, values: Any, masks: list[Any], gate: int, rate: float) -> Array:
        # a rate of 1 is none to all cells but SimpleRNN's
        highest = 1.0 if isinstance(self.cell, keras.layers.SimpleRNNCell) else np.nextafter(1.0, 0.0)
        if not masks or not self._training or not 0.0 < rate <= highest:
            return self.by_step(values)
        return self.by_step(values * masks[gate if len(masks) > 1 else 0])

    def by_step(self, tensor: Any) -> Array:
        """All steps of a tensor (n·T, …) as an array (n, T, …), half precision as float32."""
        array = tensor.numpy().reshape(*self.shape, *tensor.shape[1:])
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _at_once(layer: Any, inputs: Any, walked: _Walked, training: bool) -> list[_CellTaps]:
    """Call the layer's cell on all steps as samples, and back."""
    shape = tuple(inputs.shape[:2])
    taps = [_CellTaps(c, masks, shape) for c, masks in zip(_cells(layer), walked.masks, strict=True)]

    def samples(steps: Any) -> Any:
        steps = tf.reverse(steps, [0]) if layer.go_backwards else steps
        return _merged(_time_first(steps))

    structure = layer.get_initial_state(1)
    states = keras.tree.pack_sequence_as(structure, [samples(s) for s in walked.entering])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for tap in taps:
            tap.listen(tape)
        _, returned = layer.cell(_merged(inputs), states, training=training)
    upstream = [samples(g) for g in walked.gradients]
    sought = [tap.preactivations + tap.outputs for tap in taps]
    targets = keras.tree.flatten(returned)
    gradients = tape.gradient(targets, sought, upstream, unconnected_gradients="zero")
    for tap, own in zip(taps, gradients, strict=True):
        tap.gradients = own
    return taps


def _merged(tensor: Any) -> Any:
    """The first two axes as one."""
    return tf.reshape(tensor, [-1, *tensor.shape[2:]])


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


def _parts(layer: Any, taps: _CellTaps) -> list[GatePart]:
    """All parts of one cell: gate by gate its kernel, recurrent kernel and biases."""
    cell, positions = taps.cell, {id(v): position for position, v in enumerate(variables_of(layer))}
    bias = positions[id(cell.bias)] if cell.bias is not None else None
    gates = [_gate(layer, taps, k) for k in range(len(taps.kind.gates))]
    return [
        GatePart(
            **vars(gate),
            weight=positions[id(getattr(cell, role))],
            role=role,
            input=multiplied,
            bias=bias,
            bias_row=row if bias is not None and _resets_after(cell) else None,
            conv=_conv(cell, role),
            cell=_cells(layer).index(cell),
        )
        for k in range(len(gates))
        for role, gate, multiplied, row in _uses(taps, gates, k)
    ]


def _gate(layer: Any, taps: _CellTaps, k: int) -> _Gate:
    function = taps.functions[next(name for name, gate in taps.kind.calls if gate == k)]
    activation = describe_activation(types.SimpleNamespace(name=layer.name, activation=function))
    units = getattr(taps.cell, "units", None) or taps.cell.filters
    preactivation, output = taps.preactivations[k], taps.outputs[k]
    return _Gate(
        gate=taps.kind.gates[k],
        columns=slice(k * units, (k + 1) * units),
        preactivation=taps.by_step(preactivation),
        output=taps.by_step(output),
        slope=taps.by_step(_slope(activation, function, preactivation, output)),
        output_gradient=taps.by_step(taps.gradients[len(taps.outputs) + k]),
        preactivation_gradient=taps.by_step(taps.gradients[k]),
        activation=activation,
    )


def _slope(activation: Activation, function: Any, preactivation: Any, output: Any) -> Any:
    """φ' of every element; of softmax the diagonal of its Jacobian."""
    if activation.name == "softmax" and not activation.elementwise:
        return output * (1 - output)
    return slope_of(function, preactivation)[1]


def _uses(taps: _CellTaps, gates: list[_Gate], k: int) -> Iterator[tuple[str, _Gate, Array, int]]:
    """What the weights of one gate do: role, gate, what is multiplied, row of the bias."""
    gate, cell = gates[k], taps.cell
    recurrent, state = gate, taps.multiplied_by_recurrent_kernel(k)
    if gate.gate == "candidate" and isinstance(cell, keras.layers.GRUCell):
        if cell.reset_after:
            recurrent = _recurrent_part(cell, gate, gates[1], state)
        else:
            state = gates[1].output * state
    yield "kernel", gate, taps.multiplied_by_kernel(k), 0
    yield "recurrent_kernel", recurrent, state, 1
    if cell.bias is not None:
        yield "bias", gate, _ones(cell, gate), 0
        if _resets_after(cell):
            yield "bias", recurrent, _ones(cell, gate), 1


def _recurrent_part(cell: Any, candidate: _Gate, reset: _Gate, state: Array) -> _Gate:
    """``r·Z`` with ``Z = H U + b_r``: what a GRU that resets after the product adds to its candidate."""
    preactivation = state @ _computed_with(cell, cell.recurrent_kernel)[:, candidate.columns]
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
    value = tf.cast(variable.value, cell.compute_dtype)
    return tf.cast(value, tf.float32 if value.dtype.size < 4 else value.dtype).numpy()


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
