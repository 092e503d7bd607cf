"""The slope of an activation function, by differentiating it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def slope_of(
    function: Callable[[tf.Tensor], tf.Tensor], preactivation: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply an activation function; return its value and φ' of every element.

    The VJP of ones sums each Jacobian column, which is φ' for an element-wise function.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(preactivation)
        output = function(preactivation)
    slope = tape.gradient(output, preactivation, unconnected_gradients="zero")
    return output, slope
