"""A recurrent layer's call again, with a loop over time that keeps what it meets.

Its own Keras `call` runs, on recorded values. In place of the layer's loop stands one that keeps the
states which enter each step and, from the way back, the gradients of the states which each step computes.
"""

from __future__ import annotations

import contextlib
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture._keras_internals import DROPOUT_MASKS, LOOP_OVER_TIME, TRACKS_ATTRIBUTES, all_layers
from trainobs.capture.layers.recurrent._cells import cells_of, variables_of

Array = np.ndarray


class RecordedCall(NamedTuple):
    """What `replay` was given, as tensors."""

    variables: list[Any]
    inputs: Any
    initial_state: list[Any] | None
    mask: Any
    output_gradients: list[Any]


def as_input(layer: Any, inputs: Array) -> Any:
    """The input as `Layer.__call__` hands it to `call`."""
    tensor = tf.convert_to_tensor(inputs)
    return tf.cast(tensor, layer.compute_dtype) if tensor.dtype.is_floating else tensor


@contextlib.contextmanager
def left_alone(layer: Any) -> Iterator[None]:
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


def recorded_values(layer: Any, values: list[Any]) -> Any:
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

    entering: list[Any]
    gradients: list[Any]
    masks: list[Any]


def walk(layer: Any, call: RecordedCall, training: bool) -> Walked:
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

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._zero_output = layer.zero_output_for_mask
        self.probes: list[Any] = []
        self.entering: list[Any] = []
        self.masks: list[Any] = []

    def run(
        self, tape: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """What the layer's own loop does: last output, all outputs and last states."""
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
        self.masks = [cached_masks(cell) for cell in cells_of(self._layer)]
        return output, time_first(outputs.stack()), keras.tree.pack_sequence_as(initial_state, list(states))

    def _by_step(self, sequences: Any) -> Any:
        steps = time_first(sequences)
        steps = tf.reverse(steps, [0]) if self._layer.go_backwards else steps
        return tf.TensorArray(steps.dtype, tf.shape(steps)[0]).unstack(steps)

    def _head(self) -> int:
        """Which of the flattened states is the output too: the first one of the last cell."""
        counts = [len(keras.tree.flatten(cell.get_initial_state(1))) for cell in cells_of(self._layer)]
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


def time_first(array: Any) -> Any:
    """Exchange the first two axes."""
    return tf.transpose(array, [1, 0, *range(2, len(array.shape))])


def cached_masks(cell: Any) -> tuple[list[Any], list[Any]]:
    found = [getattr(cell, name, None) for name in DROPOUT_MASKS]
    inputs, states = ([] if m is None else list(m) if isinstance(m, list | tuple) else [m] for m in found)
    return inputs, states


# ---- compiled -------------------------------------------------------------------------------------

#: By layer and kind of call the trace of `walk`, or how many steps were walked without one. Nothing
#: in a trace refers to its layer (the variables are arguments), so they go when it goes.
_TRACES: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
_MOST_TRACES = 8  # of one layer
#: Tracing takes as long as about this many eager steps; afterwards a step is ten times as fast.
_STEPS_WORTH_A_TRACE = 100


def walk_through(layer: Any, call: RecordedCall, training: bool) -> Walked:
    """`walk`, compiled where it is worth it and can be."""
    flat = tf.nest.flatten(call)
    tensors, given = [x for x in flat if x is not None], [x is not None for x in flat]
    run_walk = _walk_of_tensors(weakref.ref(layer), tf.nest.map_structure(lambda _: 0, call), given, training)
    specs = [x for x in tf.nest.flatten(_specs(layer, call)) if x is not None]
    key = (training, len(call.initial_state or []), tuple(given), tuple(specs), *_settings(layer))
    traces = _TRACES.setdefault(layer, {})
    if key not in traces and len(traces) >= _MOST_TRACES:
        traces.clear()
    run = traces.get(key, 0)
    if isinstance(run, int):
        steps = run + call.inputs.shape[1]
        run = traces[key] = _trace(run_walk, specs) if steps >= _STEPS_WORTH_A_TRACE else steps
    return Walked(*(run if callable(run) else run_walk)(*tensors))


def _walk_of_tensors(
    layer: weakref.ref[Any], structure: Any, given: list[bool], training: bool
) -> Callable[..., Any]:
    """`walk` as a function of tensors alone."""

    def of_tensors(*tensors: Any) -> Any:
        rest = iter(tensors)
        call = tf.nest.pack_sequence_as(structure, [next(rest) if there else None for there in given])
        return tuple(walk(layer(), call, training))

    return of_tensors


def _specs(layer: Any, call: RecordedCall) -> RecordedCall:
    """Types of the tensors: any batch size (a stateful layer has but one), any number of steps."""
    batch = call.inputs.shape[0] if layer.stateful else None

    def spec(tensor: Any, *first: int | None) -> Any:
        if tensor is None:
            return None
        return tf.TensorSpec([*first, *tensor.shape[len(first) :]], tensor.dtype)

    timed = [layer.return_sequences, *[False] * len(call.output_gradients)]
    gradients = zip(call.output_gradients, timed, strict=False)
    return RecordedCall(
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


def _trace(function: Callable[..., Any], specs: list[Any]) -> Any:
    """A function as a graph; None if it can't be one, such as for a function that needs values."""
    try:
        return tf.function(function, autograph=False).get_concrete_function(*specs)
    except Exception:  # then it runs eagerly, and an error that is no matter of graphs comes again
        return None
