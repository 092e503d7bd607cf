"""Which recurrent layers and cells are known, and the gates that they have."""

from __future__ import annotations

import dataclasses

import keras

from trainobs.capture._keras_internals import CONV_LSTM_CELL, RECURRENT_METHODS


@dataclasses.dataclass(frozen=True)
class CellKind:
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

    cell: type[keras.Layer]
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
    CellKind(keras.layers.SimpleRNNCell, ("",), (("activation", 0),)),
    CellKind(keras.layers.GRUCell, ("update gate", "reset gate", "candidate"), _GRU_CALLS),
    CellKind(keras.layers.LSTMCell, _LSTM_GATES, _LSTM_CALLS),
    CellKind(CONV_LSTM_CELL, _LSTM_GATES, _LSTM_CALLS),
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


def is_recurrent(layer: keras.Operation) -> bool:
    """Whether `replay` knows the layer and its cells.

    A subclass with a `call` of its own may do anything with its weights, so it is not known; neither
    are quantised layers, and stacks of stacks or of one cell several times.
    """
    if not any(_behaves_as(layer, kind) for kind in _LAYERS):
        return False
    cells, stack = cells_of(layer), layer.cell
    if stack is not cells[0] and not _behaves_as(stack, keras.layers.StackedRNNCells):
        return False
    known = all(cell_kind(cell) is not None and _has_plain_weights(cell) for cell in cells)
    return known and len({id(cell) for cell in cells}) == len(cells)


def _behaves_as(thing: object, kind: type[keras.Layer]) -> bool:
    if not isinstance(thing, kind) or getattr(thing, "quantization_mode", None) is not None:
        return False
    return all(getattr(type(thing), name, None) is getattr(kind, name, None) for name in RECURRENT_METHODS)


def cell_kind(cell: keras.Layer) -> CellKind | None:
    """The row of a cell; None if it is not known."""
    return next((kind for kind in _KINDS if _behaves_as(cell, kind.cell)), None)


def _has_plain_weights(cell: keras.Layer) -> bool:
    names = ("kernel", "recurrent_kernel") if cell.built else ()
    return all(isinstance(getattr(cell, name, None), keras.Variable) for name in names)


def cells_of(layer: keras.layers.RNN) -> list[keras.Layer]:
    """The cells that have weights."""
    return list(layer.cell.cells) if isinstance(layer.cell, keras.layers.StackedRNNCells) else [layer.cell]


def gates_of(layer: keras.layers.RNN) -> list[tuple[int, str]]:
    """The gates of a layer: number of the cell, and name."""
    kinds = enumerate(cell_kind(cell) for cell in cells_of(layer))
    return [(cell, gate) for cell, kind in kinds if kind is not None for gate in kind.gates]


def named(gate: str, cell: int) -> str:
    """What a gate of a cell is called."""
    return " ".join(filter(None, (f"cell {cell + 1}" if cell else "", gate or "units")))


def gate_calls(layer: keras.layers.RNN, cell: int) -> list[tuple[str, str | None]]:
    """The functions that a time step of a cell calls, in this order, each with its gate."""
    kind = cell_kind(cells_of(layer)[cell])
    calls = () if kind is None else kind.calls
    gates = () if kind is None else kind.gates
    return [(name, None if gate is None else named(gates[gate], cell)) for name, gate in calls]


def variables_of(layer: keras.layers.RNN) -> list[keras.Variable]:
    """Every variable that a call of the layer reads.

    `layer.variables` (weights, then states of seed generators, cell by cell) and the states of a
    stateful layer, which Keras 3.8 and 3.15 leave out there.
    """
    return [*layer.variables, *keras.tree.flatten(layer.states or [])]
