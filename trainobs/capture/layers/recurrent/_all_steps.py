"""A recurrent cell on all time steps at once, with taps on what its activation functions are given.

Once the states that enter each step are known, steps do not depend on each other: the cell computes
them in one call, as so many samples, and back.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture._keras_internals import DROPOUT_MASKS
from trainobs.capture.layers._probing import Function
from trainobs.capture.layers.recurrent._cells import cell_kind, cells_of
from trainobs.capture.layers.recurrent._through_time import Masks, Tensors, Walked, time_first
from trainobs.tensors import as_array

Array = np.ndarray


class NotAsExpected(Exception):
    """A cell did not call its activation functions in the order that its class is known for."""


class CellTaps:
    """What one cell computes, all steps at once. To be used inside `left_alone`, which takes it out again.

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

    def __init__(self, cell: keras.Layer, masks: Masks, shape: tuple[int, int]) -> None:
        kind = cell_kind(cell)
        assert kind is not None  # is_recurrent was asked
        self.cell, self.kind, self.shape = cell, kind, shape
        self.functions = {name: getattr(cell, name) for name, _ in kind.calls}
        self.input_masks, self.state_masks = (
            [tf.repeat(m, shape[1], axis=0) for m in kept] for kept in masks
        )
        self.input: tf.Tensor = None
        self.state: tf.Tensor = None
        self.preactivations: Tensors = []
        self.outputs: Tensors = []
        self.gradients: Tensors = []
        self._arrays: dict[int, tuple[Array, tf.Tensor]] = {}
        self._training = False
        self._awaited: list[tuple[str, int | None]] = []

    def listen(self, tape: tf.GradientTape) -> None:
        """Hear the cell's next call, for which it has its dropout masks already."""
        call = self.cell.call

        def step(inputs: tf.Tensor, states: object, training: bool = False) -> object:
            self._training, self._awaited = bool(training), list(self.kind.calls)
            self.input, self.state = inputs, keras.tree.flatten(states)[0]
            result = call(inputs, states, training=training)
            if self._awaited:
                raise NotAsExpected
            return result

        single = getattr(self.cell, "dropout_mask_count", None) is None
        attributes = vars(self.cell)
        for name, masks in (
            (DROPOUT_MASKS[0], self.input_masks),
            (DROPOUT_MASKS[1], self.state_masks),
        ):
            attributes[name] = None if not masks else masks[0] if single else masks
        attributes["call"] = step
        attributes.update({name: self._tapped(name, tape) for name in self.functions})

    def _tapped(self, name: str, tape: tf.GradientTape) -> Function:
        def apply(preactivation: tf.Tensor) -> tf.Tensor:
            expected, gate = self._awaited.pop(0) if self._awaited else ("", None)
            if name != expected:
                raise NotAsExpected
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

    def _dropped(self, values: tf.Tensor, masks: Tensors, gate: int, rate: float) -> Array:
        # a rate of 1 is none to all cells but SimpleRNN's
        highest = 1.0 if isinstance(self.cell, keras.layers.SimpleRNNCell) else np.nextafter(1.0, 0.0)
        if not masks or not self._training or not 0.0 < rate <= highest:
            return self.by_step(values)
        return self.by_step(values * masks[gate if len(masks) > 1 else 0])

    def by_step(self, tensor: tf.Tensor) -> Array:
        """All steps of a tensor (n·T, …) as an array (n, T, …), half precision as float32; made once."""
        if id(tensor) not in self._arrays:
            array = as_array(tensor).reshape(*self.shape, *tensor.shape[1:])
            single = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
            self._arrays[id(tensor)] = single, tensor  # keeps the id taken
        return self._arrays[id(tensor)][0]


def at_once(layer: keras.layers.RNN, inputs: tf.Tensor, walked: Walked, training: bool) -> list[CellTaps]:
    """Call the layer's cell on all steps as samples, and back."""
    shape = tuple(inputs.shape[:2])
    taps = [CellTaps(c, masks, shape) for c, masks in zip(cells_of(layer), walked.masks, strict=True)]

    def samples(steps: tf.Tensor) -> tf.Tensor:
        steps = tf.reverse(steps, [0]) if layer.go_backwards else steps
        return merged(time_first(steps))

    structure = layer.get_initial_state(1)
    states = keras.tree.pack_sequence_as(structure, [samples(s) for s in walked.entering])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for tap in taps:
            tap.listen(tape)
        _, returned = layer.cell(merged(inputs), states, training=training)
    upstream = [samples(g) for g in walked.gradients]
    sought = [tap.preactivations + tap.outputs for tap in taps]
    targets = keras.tree.flatten(returned)
    gradients = tape.gradient(targets, sought, upstream, unconnected_gradients="zero")
    for tap, own in zip(taps, gradients, strict=True):
        tap.gradients = own
    return taps


def merged(tensor: tf.Tensor) -> tf.Tensor:
    """The first two axes as one."""
    return tf.reshape(tensor, [-1, *tensor.shape[2:]])
