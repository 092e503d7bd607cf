"""A call whose gradient comes through unshrunk, and one that hands on what it reads."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import carry_attributes
from trainobs.capture.inside import is_floating
from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.capture.step import gradient_tap

Call = Callable[..., object]


def passed_on(original: Call, *args: object, **kwargs: object) -> object:
    """The call, with gradients of its inputs as large as that of its outputs."""
    arrived: list[tf.Tensor] = []

    def note(gradient: tf.Tensor) -> None:
        arrived.append(tf.norm(tf.cast(gradient, tf.float32)))

    def enlarged(value: object) -> object:
        return _with_norm(value, arrived) if is_floating(value) else value

    given_args, given_kwargs = keras.tree.map_structure(enlarged, (args, kwargs))
    outputs = original(*given_args, **given_kwargs)
    return keras.tree.map_structure(lambda t: gradient_tap(t, note) if is_floating(t) else t, outputs)


def _with_norm(tensor: tf.Tensor, arrived: list[tf.Tensor]) -> tf.Tensor:
    """The tensor, whose gradient gets the norm of what has arrived behind it; a gradient of zeros stays."""

    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def back(upstream: tf.Tensor) -> tf.Tensor:
            wide, whole = tf.cast(upstream, tf.float32), tf.norm(tf.stack(arrived))
            size = tf.norm(wide)
            return tf.cast(wide * tf.where(size > 0, tf.maximum(whole / size, 1.0), 1.0), x.dtype)

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
