"""Standardised preactivations, wherever a layer has its activation function."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from trainobs.capture.inside import is_floating
from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.capture.intervene._standardising import standardised
from trainobs.capture.layers import cells_of, gate_calls, has_activation, is_activation, is_recurrent
from trainobs.capture.step import replaced

Function = Callable[..., object]


def standardising(
    node: keras.Operation, gates: tuple[str, ...] = ()
) -> contextlib.AbstractContextManager[object]:
    """Let the activation of a layer get standardised values, for the length of a `with` block.

    Parameters
    ----------
    node : keras.Operation
        A layer with an activation function, a recurrent layer, or an activation layer; of others, what they
        put out is standardised.
    gates : tuple of str
        Of a recurrent layer, which ones; none for all.
    """
    if is_recurrent(node):
        return _in_cells(node, gates)
    channels = _channels(node)
    if has_activation(node):
        return replaced(node, "activation", functools.partial(_given, channels))
    call = _given if is_activation(node) else _made
    return replaced(node, "call", functools.partial(call, channels))


def _given(channels: int, original: Function, z: tf.Tensor, *args: object, **kwargs: object) -> object:
    return original(standardised(z, channels), *args, **kwargs)


def _made(channels: int, original: Function, *args: object, **kwargs: object) -> object:
    made = original(*args, **kwargs)
    return keras.tree.map_structure(lambda t: standardised(t, channels) if is_floating(t) else t, made)


def _channels(node: keras.Operation) -> int:
    """The axis of the units."""
    return 1 if getattr(node, "data_format", None) == "channels_first" else -1


# ---- recurrent layers ----------------------------------------------------------------------------


def _in_cells(layer: keras.layers.RNN, gates: tuple[str, ...]) -> contextlib.AbstractContextManager[object]:
    """In the cells of a recurrent layer, at every time step."""
    stack, found = contextlib.ExitStack(), False
    for number, cell in enumerate(cells_of(layer)):
        calls = gate_calls(layer, number)
        wanted = [name is not None and (not gates or name in gates) for _, name in calls]
        if any(wanted):
            found = True
            turn = _Turn(wanted)
            for function in dict.fromkeys(function for function, _ in calls):
                stack.enter_context(replaced(cell, function, turn))
    if not found:
        raise NotInPlace(f"{layer.name} has no {' or '.join(gates)}")
    return stack


class _Turn:
    """Stands in for the functions of a cell, and knows by their order whose turn it is.

    Parameters
    ----------
    wanted : list of bool
        For each call in a time step, whether it is one to be given standardised values.
    """

    def __init__(self, wanted: list[bool]) -> None:
        self._wanted, self._number = wanted, 0

    def __call__(self, original: Function, z: tf.Tensor) -> object:
        wanted = self._wanted[self._number % len(self._wanted)]
        self._number += 1
        return original(standardised(z) if wanted else z)
