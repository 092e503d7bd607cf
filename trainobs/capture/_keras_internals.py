"""Every private Keras name that trainobs uses, with the reason. Tested on Keras 3.8 and 3.15.

* ``Layer._flatten_layers``: Keras has no public way to list sublayers of a layer that is no Model
  (public `Model.layers` stops at direct children).
* ``_keras_logits`` and ``_keras_mask``: attributes that Keras hangs on tensors. Losses read the
  logits behind a softmax or sigmoid from the first, layers find masks in the second; an identity
  op that does not carry them on changes training.
* ``keras.src.random.seed_generator.global_seed_generator``: the state behind `keras.random.*`
  calls without a seed; needed to put it back after a batch was captured.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

_SOFT_OPS = ("Softmax", "Sigmoid")


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer below `model` (or below a layer), each once."""
    return model._flatten_layers(include_self=False)


def logits_behind(tensor: Any) -> Any | None:
    """The logits that a Keras loss would read instead of `tensor`, or None.

    Keras looks at the attribute first and, in a graph, at the op that made the tensor.
    """
    logits = getattr(tensor, "_keras_logits", None)
    if logits is None and _made_by_soft_op(tensor):
        logits = tensor.op.inputs[0]
    return logits


def _made_by_soft_op(tensor: Any) -> bool:
    return tf.is_symbolic_tensor(tensor) and tensor.op.type in _SOFT_OPS


def carry_attributes(source: Any, target: Any) -> None:
    """Hang what Keras hung on `source` on `target`, an identical tensor."""
    logits = logits_behind(source)
    if logits is not None:
        target._keras_logits = logits
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        target._keras_mask = mask


def replace_logits(tensor: Any, logits: Any) -> None:
    """Make a loss read `logits` in place of those behind `tensor`."""
    tensor._keras_logits = logits


def global_seed_state() -> Any:
    """The variable that `keras.random` calls without a seed draw from."""
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator().state
