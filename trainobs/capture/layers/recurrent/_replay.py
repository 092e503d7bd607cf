"""What the gradients of a recurrent layer's weights are sums over: each gate, at every time step.

A recurrent layer uses its weights once a step, inside a loop where no tap can be put without changing
what the loop computes. So the layer is *replayed* after the train step, on the recorded values of its
variables, inputs and output gradients, and every gradient comes from a tape, as everywhere:

1. `_through_time`: the layer's own Keras `call` runs again, with a loop over time that keeps the states which
   enter each step and, from the way back, the gradients of the states which each step computes.
   (`_traces` compiles it.)
2. `_all_steps`: given these, steps do not depend on each other. The layer's cell computes all of them in
   one call, as so many samples, and back. A gate's preactivation is what the cell gives to its
   `activation` or `recurrent_activation`.
3. `_gates`: what each weight of a gate met.
"""

from __future__ import annotations

import keras
import numpy as np

from trainobs.capture.layers.recurrent._all_steps import NotAsExpected, at_once
from trainobs.capture.layers.recurrent._cells import is_recurrent
from trainobs.capture.layers.recurrent._gates import GatePart, parts_of
from trainobs.capture.layers.recurrent._through_time import (
    RecordedCall,
    as_input,
    left_alone,
    recorded_values,
)
from trainobs.capture.layers.recurrent._traces import walk_through
from trainobs.tensors import as_tensor

Array = np.ndarray


def replay(
    layer: keras.layers.RNN,
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
    call = RecordedCall(
        [as_tensor(v) for v in variables],
        as_input(layer, inputs),
        [as_tensor(s) for s in initial_state] if initial_state else None,
        None if mask is None else as_tensor(mask),
        [None if g is None else as_tensor(g) for g in output_gradients],
    )
    walked = walk_through(layer, call, training)
    with left_alone(layer), recorded_values(layer, call.variables):
        try:
            taps = at_once(layer, call.inputs, walked, training)
        except NotAsExpected:
            return None
        return [part for tap in taps for part in parts_of(layer, tap)]
