"""A recurrent layer's call again, with a loop over time that keeps what it meets.

Its own Keras `call` runs, on recorded values. In place of the layer's loop stands one that keeps the
states which enter each step and, from the way back, the gradients of the states which each step computes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture._keras_internals import DROPOUT_MASKS, LOOP_OVER_TIME, TRACKS_ATTRIBUTES, all_layers
from trainobs.capture.layers.recurrent._cells import cells_of, variables_of

Array = np.ndarray
#: The flattened tensors of a structure, such as a layer's states.
Tensors = list[tf.Tensor]
#: What a cell caches as dropout masks, of its input and of its state.
Masks = tuple[Tensors, Tensors]


class RecordedCall(NamedTuple):
    """What `replay` was given, as tensors."""

    variables: Tensors
    inputs: tf.Tensor
    initial_state: Tensors | None
    mask: tf.Tensor | None
    output_gradients: list[tf.Tensor | None]


def as_input(layer: keras.layers.RNN, inputs: Array) -> tf.Tensor:
    """The input as `Layer.__call__` hands it to `call`."""
    tensor = tf.convert_to_tensor(inputs)
    return tf.cast(tensor, layer.compute_dtype) if tensor.dtype.is_floating else tensor


@contextlib.contextmanager
def left_alone(layer: keras.layers.RNN) -> Iterator[None]:
    """Put back every attribute of the layer, its cells and their activation layers."""
    saved = [(vars(part), dict(vars(part))) for part in (layer, *all_layers(layer))]
    for attributes, _ in saved:
        attributes[TRACKS_ATTRIBUTES] = False  # or TensorFlow keeps a list of what is assigned
    try:
        yield
    finally:
        for attributes, before in saved:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)


def recorded_values(layer: keras.layers.RNN, values: Tensors) -> keras.StatelessScope:
    """A scope in which the layer's variables have recorded values, and assigning changes none."""
    mapping = list(zip(variables_of(layer), values, strict=True))
    return keras.StatelessScope(mapping, initialize_variables=False)


class Walked(NamedTuple):
    """What `walk` finds. Steps are on the first axis, in the order in which the layer takes them.

    Attributes
    ----------
    entering : list of tensor (T, n, …)
        The flattened states that each step begins with.
    gradients : list of tensor (T, n, …)
        dJ/d(the states that the cell returned), as an output of the layer too.
    masks : list of (list of tensor, list of tensor)
        For every cell what it caches as dropout masks, of its input and state; empty if nothing.
    """

    entering: Tensors
    gradients: Tensors
    masks: list[Masks]


def walk(layer: keras.layers.RNN, call: RecordedCall, training: bool) -> Walked:
    """Call the layer on recorded values, forwards and back."""
    loop, state, tape = _Loop(layer), None, tf.GradientTape(watch_accessed_variables=False)
    with left_alone(layer), recorded_values(layer, call.variables), tape:
        if call.initial_state is not None:
            structure = layer.get_initial_state(tf.shape(call.inputs)[0])
            state = keras.tree.pack_sequence_as(structure, call.initial_state)
        vars(layer)[LOOP_OVER_TIME] = functools.partial(loop.run, tape)
        outputs = layer.call(call.inputs, initial_state=state, mask=call.mask, training=training)
    pairs = zip(keras.tree.flatten(outputs), call.output_gradients, strict=True)
    reached = [(y, tf.cast(g, y.dtype)) for y, g in pairs if g is not None]
    targets, upstream = [y for y, _ in reached], [g for _, g in reached]
    gradients = [tf.zeros_like(probe) for probe in loop.probes]
    if reached:
        gradients = tape.gradient(targets, loop.probes, upstream, unconnected_gradients="zero")
    return Walked(loop.entering, gradients, loop.masks)


class _Loop:
    """A loop over time in place of a layer's own, that does the same and keeps what it meets.

    To every state that the cell returns a *probe* is added, which is 0: its gradient is the state's.

    Attributes
    ----------
    probes, entering, masks : list
        See `Walked`.
    """

    def __init__(self, layer: keras.layers.RNN) -> None:
        self._layer = layer
        self._zero_output = layer.zero_output_for_mask
        self.probes: Tensors = []
        self.entering: Tensors = []
        self.masks: list[Masks] = []

    def run(
        self,
        tape: tf.GradientTape,
        sequences: tf.Tensor,
        initial_state: object,
        mask: tf.Tensor | None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor, object]:
        """What the layer's own loop does: last output, all outputs and last states."""
        first, length = keras.tree.flatten(initial_state), tf.shape(sequences)[1]
        self.probes = [tf.zeros(tf.concat([[length], tf.shape(s)], 0), s.dtype) for s in first]
        tape.watch(self.probes)
        read = [self._by_step(sequences), None if mask is None else self._by_step(tf.cast(mask, tf.bool))]
        probes = [tf.TensorArray(p.dtype, length).unstack(p) for p in self.probes]
        written = [tf.TensorArray(s.dtype, length, element_shape=s.shape) for s in first]
        output = tf.zeros_like(first[self._head()])
        outputs = tf.TensorArray(output.dtype, length, element_shape=output.shape)

        def body(
            t: tf.Tensor, states: Tensors, last: tf.Tensor, kept: list[tf.TensorArray], seen: tf.TensorArray
        ) -> tuple[object, ...]:
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
        self.masks = [cached_masks(cell) for cell in cells_of(self._layer)]
        return output, time_first(outputs.stack()), keras.tree.pack_sequence_as(initial_state, list(states))

    def _by_step(self, sequences: tf.Tensor) -> tf.TensorArray:
        steps = time_first(sequences)
        steps = tf.reverse(steps, [0]) if self._layer.go_backwards else steps
        return tf.TensorArray(steps.dtype, tf.shape(steps)[0]).unstack(steps)

    def _head(self) -> int:
        """Which of the flattened states is the output too: the first one of the last cell."""
        counts = [len(keras.tree.flatten(cell.get_initial_state(1))) for cell in cells_of(self._layer)]
        return sum(counts[:-1])

    def _masked(
        self, live: tf.Tensor | None, new: Tensors, old: Tensors, last: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor]:
        """States and output of a step, for the samples whose step counts."""
        output = new[self._head()]
        if live is None:
            return new, output
        kept = tf.zeros_like(last) if self._zero_output else last
        return [_where(live, n, o) for n, o in zip(new, old, strict=True)], _where(live, output, kept)


def _where(live: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """`new` for the samples whose step counts, else `old`."""
    return tf.where(tf.reshape(live, (-1,) + (1,) * (len(new.shape) - 1)), new, old)


def time_first(array: tf.Tensor) -> tf.Tensor:
    """Exchange the first two axes."""
    return tf.transpose(array, [1, 0, *range(2, len(array.shape))])


def cached_masks(cell: keras.Layer) -> Masks:
    """What a cell keeps as dropout masks: one, one for every gate, or none."""
    found = [getattr(cell, name, None) for name in DROPOUT_MASKS]
    inputs, states = ([] if m is None else list(m) if isinstance(m, list | tuple) else [m] for m in found)
    return inputs, states
