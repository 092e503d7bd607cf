"""What an optimizer would make of given gradients: tried on copies, the model stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from trainobs.capture.step import optimizers_of, updating_optimizer

Array = np.ndarray


def updated_weights(model: keras.Model, gradients: Mapping[str, Array]) -> dict[str, Array] | None:
    """The trainable weights after one step of the model's optimizer.

    Parameters
    ----------
    model : keras.Model
    gradients : mapping of str to array
        By path, of every trainable weight that gets one, before clipping.

    Returns
    -------
    dict of str to array, or None
        By path; None where it can't be told: without an optimizer, with several, with one that can't be made
        anew, or where weights share a path.
    """
    optimizers = {id(o): o for o in map(updating_optimizer, optimizers_of(model))}
    weights = {variable.path: variable for variable in model.trainable_variables}
    if len(optimizers) != 1 or len(weights) != len(model.trainable_variables):
        return None
    copies = {path: keras.Variable(np.asarray(v.value), dtype=v.dtype) for path, v in weights.items()}
    (optimizer,) = optimizers.values()
    copy = _copied(optimizer, [*copies.values()])
    moved = [path for path in copies if path in gradients]
    if copy is None or not moved:
        return None
    tensors = [keras.ops.convert_to_tensor(gradients[path], dtype=copies[path].dtype) for path in moved]
    copy.apply(tensors, [copies[path] for path in moved])
    return {path: np.asarray(copies[path].value) for path in moved}


def _copied(optimizer: keras.Optimizer, weights: list[keras.Variable]) -> keras.Optimizer | None:
    """An optimizer of the same settings, which has come as far, for copies of the weights."""
    try:
        copy = type(optimizer).from_config(optimizer.get_config())
        copy.build(weights)
    except Exception:  # a user's own optimizer may not be made for that
        return None
    pairs = list(zip(copy.variables, optimizer.variables, strict=False))
    if any(own.shape != its.shape for own, its in pairs):
        return None
    # one that was never used has no moments yet, and one of a fit that failed none with a value: they stay 0
    for own, its in pairs:
        value = np.asarray(its.value)
        if value.shape == its.shape:
            own.assign(value)
    return copy
