"""A call whose gradient comes through unshrunk, and one that hands on what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import carry_attributes
from trainobs.capture.inside import is_floating
from trainobs.capture.intervene._not_in_place import NotInPlace

Call = Callable[..., object]
Structure = TypeVar("Structure")
#: What goes on of a gradient that arrives.
SendsBack = Callable[[tf.Tensor], tf.Tensor]


def passed_on(original: Call, *args: object, **kwargs: object) -> object:
    """The call, with gradients of its inputs as large as that of its outputs."""
    arrived: list[tf.Tensor] = []

    def noted(gradient: tf.Tensor) -> tf.Tensor:
        arrived.append(tf.norm(tf.cast(gradient, tf.float32)))
        return gradient

    def enlarged(gradient: tf.Tensor) -> tf.Tensor:
        """With the norm of what has arrived behind; a gradient of zeros stays."""
        wide, whole = tf.cast(gradient, tf.float32), tf.norm(tf.stack(arrived))
        size = tf.norm(wide)
        return tf.cast(wide * tf.where(size > 0, tf.maximum(whole / size, 1.0), 1.0), gradient.dtype)

    given_args, given_kwargs = _sending_back(enlarged, (args, kwargs))
    return _sending_back(noted, original(*given_args, **given_kwargs))


def _sending_back(back: SendsBack, structure: Structure) -> Structure:
    """The same tensors, with something done to the gradients that come to them."""
    return keras.tree.map_structure(lambda t: _identity(t, back) if is_floating(t) else t, structure)


def _identity(tensor: tf.Tensor, back: SendsBack) -> tf.Tensor:
    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple[tf.Tensor, SendsBack]:
        return tf.identity(x), back

    result: tf.Tensor = identity(tensor)
    carry_attributes(tensor, result, frozenset())
    return result


def handed_on(original: Call, *args: object, **kwargs: object) -> object:
    """What the call reads, in place of what it puts out, if that has the same shape."""
    outputs = original(*args, **kwargs)
    read = [tensor for tensor in keras.tree.flatten((args, kwargs)) if is_floating(tensor)]
    same = [tensor for tensor in read if isinstance(outputs, tf.Tensor) and tensor.shape == outputs.shape]
    if not same:
        raise NotInPlace("the layer puts out another shape than it reads, so it can't be left out")
    return max(same, key=lambda tensor: float(tf.reduce_max(tf.abs(tf.cast(tensor, tf.float32)))))
