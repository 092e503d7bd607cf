"""Sums of squares of values whose squares float32 can't hold: that of 1e-20 is 0 there, that of 1e20 inf."""

from __future__ import annotations

from trainobs.tensors import tf

#: Squares beyond this size cannot change a verdict, but could overflow float32 when multiplied.
LARGEST_SQUARE = 1e18
#: The bits of a float32 that hold its exponent.
_EXPONENT = 0x7F800000


def square(values: tf.Tensor) -> tf.Tensor:
    """Squares in float32, to be compared with limits: 0 where they are too small to be held."""
    return tf.minimum(tf.square(values), LARGEST_SQUARE)


def sum_of_squares(values: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """The sum over some axes, in float64.

    Values are divided by a power of two near the largest of them, which is exact. So what is lost is 1e-19
    times smaller than the largest one, or smaller. Values below float32's smallest normal number, 1.2e-38,
    are lost: TensorFlow has processors take them for 0.

    Parameters
    ----------
    values : tensor of float32
    axes : list of int

    Returns
    -------
    tensor of float64
    """
    unit = _power_of_two(tf.reduce_max(tf.abs(values)))
    squares = tf.reduce_sum(square(values / unit), axes)
    return tf.cast(squares, tf.float64) * tf.square(tf.cast(unit, tf.float64))


def _power_of_two(size: tf.Tensor) -> tf.Tensor:
    """The largest one up to a size; 1 for 0, and for what is not finite."""
    bits = tf.bitwise.bitwise_and(tf.bitcast(size, tf.int32), _EXPONENT)
    power = tf.bitcast(bits, tf.float32)
    return tf.where((power > 0) & tf.math.is_finite(power), power, 1.0)
