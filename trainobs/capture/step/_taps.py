"""A tap: an identity op that hands over the gradient when it comes by."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from trainobs.capture._keras_internals import carry_attributes


def gradient_tap(
    tensor: tf.Tensor, on_gradient: Callable[[tf.Tensor], None], sought: frozenset[str] = frozenset()
) -> tf.Tensor:
    """Return `tensor` unchanged; call `on_gradient` with its upstream gradient in backprop.

    Whatever tape the train step uses runs the tap: there is no second backward pass. What is not
    a floating-point tensor is returned as it came. `sought` are the ops that losses look for behind
    their prediction (see `_keras_internals`).

    Only what a layer puts out is tapped, never what it reads: a tap before a layer that reads a
    tensor several times would sum these gradients before those of other readers come to them, and
    floating-point sums depend on their order.
    """
    if not is_float_tensor(tensor):
        return tensor

    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def pass_on(upstream: tf.Tensor) -> tf.Tensor:
            on_gradient(upstream)
            return upstream

        return tf.identity(x), pass_on

    tapped = identity(tensor)
    carry_attributes(tensor, tapped, sought)
    return tapped


def is_float_tensor(value: object) -> bool:
    """Whether `value` is a dense tensor that a gradient can flow through."""
    return tf.is_tensor(value) and isinstance(value, tf.Tensor) and value.dtype.is_floating
