"""What the loss reads, told apart from what something else reads too.

A step is only listened to: the user's own tape is asked for a few more gradients, and nothing is put on its
way. An operation more on one of several ways would let their gradients arrive in another order, and sums of
three or more depend on theirs. Only a prediction that layers read too becomes a tensor of its own: there the
gradient of the loss alone is asked for.
"""

from __future__ import annotations

import tensorflow as tf

from trainobs.capture._keras_internals import carry_attributes
from trainobs.capture.reading import StepTrace


def apart(tensor: tf.Tensor, sought: frozenset[str] = frozenset()) -> tf.Tensor:
    """An equal tensor, which losses take for this one; `sought` are the ops that they look for behind it."""
    own = tf.identity(tensor)
    carry_attributes(tensor, own, sought)
    return own


def readers_of(trace: StepTrace, tensor: tf.Tensor) -> int:
    """How many operations of a graph, or layers in eager code, have read a tensor up to now."""
    if tf.is_symbolic_tensor(tensor):
        return len(tensor.consumers())
    return sum(tensor is received for call in trace.calls for received in call.received)


def is_float_tensor(value: object) -> bool:
    """Whether `value` is a dense tensor that a gradient can flow through."""
    return tf.is_tensor(value) and isinstance(value, tf.Tensor) and value.dtype.is_floating
