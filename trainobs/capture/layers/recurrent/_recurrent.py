"""Recurrent layers: per gate a kernel, a recurrent kernel and a bias, at every time step."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture.layers._kind import Array, Call, Kind, Part, Units
from trainobs.capture.layers.recurrent._cells import gates_of, is_recurrent, named, variables_of
from trainobs.capture.layers.recurrent._gates import GatePart
from trainobs.capture.layers.recurrent._replay import replay
from trainobs.linear_ops import DenseOp, LinearOp, bias_op

_ROLES = {"kernel": "kernel", "recurrent_kernel": "recurrent", "bias": "bias"}


class RecurrentKind(Kind):
    """SimpleRNN, GRU, LSTM and ConvLSTM layers, and stacks of their cells.

    A gate is a stage: a node of its own, between what the layer reads and what it puts out.
    """

    def knows(self, layer: keras.layers.RNN) -> bool:
        return is_recurrent(layer)

    def variables(self, layer: keras.layers.RNN) -> dict[str, keras.Variable | None]:
        weights = {id(weight) for weight in layer.weights}
        return {str(k): v for k, v in enumerate(variables_of(layer)) if id(v) in weights}

    def operands(
        self, layer: keras.layers.RNN, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> dict[str, object]:
        names = ("sequences", "initial_state", "mask", "training")
        given = dict(zip(names, args, strict=False)) | kwargs
        weights = {id(weight) for weight in layer.weights}
        found = {"input": given["sequences"]}
        if given.get("mask") is not None:
            found["mask"] = keras.tree.flatten(given["mask"])[0]
        if given.get("initial_state") is not None:
            states = keras.tree.flatten(given["initial_state"])
            found |= {f"state {k}": state for k, state in enumerate(states)}
        if given.get("training"):
            found["training"] = True
        # read now: the call is about to draw from its seeds, and to go on from its states
        states = {k: v for k, v in enumerate(variables_of(layer)) if id(v) not in weights}
        return found | {f"variable {k}": tf.convert_to_tensor(v) for k, v in states.items()}

    def stages_of(self, layer: keras.layers.RNN) -> tuple[str, ...]:
        return tuple(named(gate, cell) for cell, gate in gates_of(layer))

    def parts(self, call: Call) -> list[Part]:
        operands, weights = call.operands, call.weights
        many = len(variables_of(call.layer))
        values = [weights[str(k)] if str(k) in weights else operands[f"variable {k}"] for k in range(many)]
        states = [operands[name] for name in operands if name.startswith("state ")]
        found = replay(
            call.layer,
            values,  # type: ignore[arg-type]
            call.input,
            initial_state=states or None,
            mask=operands.get("mask"),
            training="training" in operands,
            output_gradients=list(call.output_gradients),
        )
        stages = self.stages_of(call.layer)
        ordered = sorted(found or [], key=lambda part: (part.weight, part.bias_row or 0, part.columns.start))
        units: dict[int, Units] = {}
        return [_part(gate, stages, units, weights) for gate in ordered]


def _part(
    gate: GatePart, stages: tuple[str, ...], units: dict[int, Units], weights: dict[str, Array | None]
) -> Part:
    shape, op = gate.preactivation.shape, _op(gate)
    if id(gate.slope) not in units:  # the parts of a gate share them, and so their sums
        units[id(gate.slope)] = _units(gate, weights)
    stage = named(gate.gate, gate.cell)
    row = () if gate.bias_row is None or gate.role != "bias" else (gate.bias_row,)
    recurrent = ", recurrent" if row == (1,) else ""
    return Part(
        weight=str(gate.weight),
        op=op,
        input=_flat(gate, gate.input),
        units=units[id(gate.slope)],
        role=_ROLES[gate.role],
        name=f"{stage}{recurrent}" if len(stages) > 1 or recurrent else "",
        index=(*row, ..., gate.columns),
        stage=stages.index(stage),
        steps=shape[1],
    )


def _op(gate: GatePart) -> LinearOp:
    first = gate.conv is not None and gate.conv.data_format == "channels_first"
    if gate.role == "bias":
        rank = gate.preactivation.ndim - (gate.conv is not None)
        return bias_op(rank, (1,) if first else (-1,))
    return DenseOp() if gate.conv is None else gate.conv


def _units(gate: GatePart, weights: dict[str, Array | None]) -> Units:
    z = _flat(gate, gate.preactivation)
    bias = None if gate.bias is None else weights[str(gate.bias)]
    rows = bias if bias is None or gate.bias_row is None else bias.sum(axis=0)  # of a GRU both are added
    return Units(
        activation=gate.activation,
        preactivation=z,
        activation_input=z,
        output=_flat(gate, gate.output),
        slope=_flat(gate, gate.slope),
        output_gradient=_flat(gate, gate.output_gradient),
        preactivation_gradient=_flat(gate, gate.preactivation_gradient),
        offset=None if rows is None else np.asarray(rows[gate.columns]),
    )


def _flat(gate: GatePart, array: Array) -> Array:
    """Pixels at every step: a convolution knows no time, so steps are samples to it."""
    return array if gate.conv is None else array.reshape(-1, *array.shape[2:])
