"""`walk` compiled, where it is worth it: the trace of a layer serves batches of any size and length."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import all_layers
from trainobs.capture.layers.recurrent._through_time import RecordedCall, Walked, walk

#: `walk` as a function of tensors alone.
Walk = Callable[..., tuple[object, ...]]

#: By layer and kind of call the trace of `walk`, or how many steps were walked without one. Nothing
#: in a trace refers to its layer (the variables are arguments), so they go when it goes.
_TRACES: weakref.WeakKeyDictionary[keras.Layer, dict[tuple[object, ...], Walk | int | None]] = (
    weakref.WeakKeyDictionary()
)
_MOST_TRACES = 8  # of one layer
#: Tracing takes as long as about this many eager steps; afterwards a step is ten times as fast.
_STEPS_WORTH_A_TRACE = 100


def walk_through(layer: keras.layers.RNN, call: RecordedCall, training: bool) -> Walked:
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
    layer: weakref.ref[keras.layers.RNN], structure: RecordedCall, given: list[bool], training: bool
) -> Walk:
    """`walk` as a function of tensors alone."""

    def of_tensors(*tensors: tf.Tensor) -> tuple[object, ...]:
        rest = iter(tensors)
        call = tf.nest.pack_sequence_as(structure, [next(rest) if there else None for there in given])
        return tuple(walk(layer(), call, training))

    return of_tensors


def _specs(layer: keras.layers.RNN, call: RecordedCall) -> RecordedCall:
    """Types of the tensors: any batch size (a stateful layer has but one), any number of steps."""
    batch = call.inputs.shape[0] if layer.stateful else None

    def spec(tensor: tf.Tensor | None, *first: int | None) -> tf.TensorSpec | None:
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


def _settings(layer: keras.layers.RNN) -> Iterator[object]:
    """Everything about a layer that a trace depends on; hashable, and without a strong reference."""
    for part in (layer, *all_layers(layer)):
        yield id(part), part.compute_dtype
        for name, value in sorted(vars(part).items()):
            if callable(value) and name.endswith("activation"):
                kind = weakref.WeakMethod if isinstance(value, types.MethodType) else weakref.ref
                yield name, kind(value)
            elif isinstance(value, bool | int | float | str | None | tuple):
                yield name, str(value)


def _trace(function: Walk, specs: Sequence[tf.TensorSpec]) -> Walk | None:
    """A function as a graph; None if it can't be one, such as for a function that needs values."""
    try:
        return tf.function(function, autograph=False).get_concrete_function(*specs)
    except Exception:  # then it runs eagerly, and an error that is no matter of graphs comes again
        return None
