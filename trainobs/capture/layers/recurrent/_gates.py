"""What the weights of every gate of a cell met, and what became of it.

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
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture._keras_internals import CONV_LSTM_CELL
from trainobs.capture.layers._probing import Function, describe_activation
from trainobs.capture.layers._slope import slope_of
from trainobs.capture.layers.recurrent._all_steps import CellTaps
from trainobs.capture.layers.recurrent._cells import cells_of, variables_of
from trainobs.linear_ops import ConvOp

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
    conv : ConvOp or None
        For a ConvLSTM the convolution; a bias has that of the kernel.
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
    conv: ConvOp | None = None
    cell: int = 0


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


def parts_of(layer: keras.layers.RNN, taps: CellTaps) -> list[GatePart]:
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
            cell=cells_of(layer).index(cell),
        )
        for k in range(len(gates))
        for role, gate, multiplied, row in _uses(taps, gates, k)
    ]


def _gate(layer: keras.layers.RNN, taps: CellTaps, k: int) -> _Gate:
    function = taps.functions[next(name for name, gate in taps.kind.calls if gate == k)]
    activation = describe_activation(function, layer.name)
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


def _slope(
    activation: Activation, function: Function, preactivation: tf.Tensor, output: tf.Tensor
) -> tf.Tensor:
    """φ' of every element; of softmax the diagonal of its Jacobian."""
    if activation.name == "softmax" and not activation.elementwise:
        return output * (1 - output)
    return slope_of(function, preactivation)[1]


def _uses(taps: CellTaps, gates: list[_Gate], k: int) -> Iterator[tuple[str, _Gate, Array, int]]:
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


def _recurrent_part(cell: keras.layers.GRUCell, candidate: _Gate, reset: _Gate, state: Array) -> _Gate:
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


def _computed_with(cell: keras.Layer, variable: keras.Variable) -> Array:
    """The value of a variable, as precise as the cell uses it."""
    value = tf.cast(variable.value, cell.compute_dtype)
    return tf.cast(value, tf.float32 if value.dtype.size < 4 else value.dtype).numpy()


def _resets_after(cell: keras.Layer) -> bool:
    """Whether the bias has two rows."""
    return isinstance(cell, keras.layers.GRUCell) and bool(cell.reset_after)


def _conv(cell: keras.Layer, role: str) -> ConvOp | None:
    """How a weight of a ConvLSTM meets the pixels."""
    if not isinstance(cell, CONV_LSTM_CELL):
        return None
    if role == "recurrent_kernel":
        one = (1,) * cell.rank
        return ConvOp(strides=one, padding="same", dilation=one, data_format=cell.data_format)
    return ConvOp(
        strides=tuple(cell.strides),
        padding=cell.padding,
        dilation=tuple(cell.dilation_rate),
        data_format=cell.data_format,
    )


def _ones(cell: keras.Layer, gate: _Gate) -> Array:
    """What a bias multiplies: 1 at every step (and pixel), in no memory."""
    channels = 2 if getattr(cell, "data_format", "channels_last") == "channels_first" else -1
    shape = list(gate.preactivation.shape)
    del shape[channels]
    return np.broadcast_to(np.float32(1), shape)
