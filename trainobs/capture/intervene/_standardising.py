"""Values brought to a healthy size, with a gradient that is not made smaller by it.

| letter | axis                        |
|--------|-----------------------------|
| j      | units                       |
| p      | all others: positions       |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.tensors import as_array

#: Values of a unit that differ by less than this part of their size are the same, up to rounding.
_ROUNDING = 1e-5


def standardised(z: tf.Tensor, channels: int = -1) -> tf.Tensor:
    """Zero mean and unit variance over the positions, for each unit.

    Mean and deviation σ are taken as constants of the batch. The gradient is divided by σ, but where σ > 1,
    there it goes back as it is: what is put right must not make it smaller in another way.

    Parameters
    ----------
    z : tensor of shape (p…, j)
    channels : int
        The axis of the units.
    """
    axes = [axis for axis in range(z.shape.rank) if axis != channels % z.shape.rank]
    if not axes or int(np.prod(z.shape)) < 2 * z.shape[channels]:
        raise NotInPlace("one position of a layer can't be standardised")

    values = as_array(z).astype(np.float32, copy=False)  # in NumPy: a step of a cell is small
    mean = values.mean(tuple(axes), keepdims=True)
    deviation = values.std(tuple(axes), keepdims=True)
    deviation = np.where(
        deviation > _ROUNDING * np.abs(mean), deviation, np.float32(np.inf)
    )  # of what varies
    moved_z, smallest = tf.constant((values - mean) / deviation, z.dtype), np.minimum(deviation, 1)

    @tf.custom_gradient
    def moved(z: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return moved_z, lambda upstream: tf.cast(tf.cast(upstream, tf.float32) / smallest, z.dtype)

    result: tf.Tensor = moved(z)
    return result


def divided_by_rms(x: tf.Tensor) -> tf.Tensor:
    """Values of unit size."""
    wide = tf.cast(x, tf.float32)
    rms = tf.sqrt(tf.reduce_mean(tf.square(wide)))
    return tf.cast(wide / tf.where(rms > 0, tf.stop_gradient(rms), 1.0), x.dtype)


def shifted(x: tf.Tensor) -> tf.Tensor:
    """Values of zero mean, for each feature (last axis)."""
    wide = tf.cast(x, tf.float32)
    mean = tf.reduce_mean(wide, axis=list(range(x.shape.rank - 1)), keepdims=True)
    return tf.cast(wide - tf.stop_gradient(mean), x.dtype)


def noise_like(x: tf.Tensor) -> tf.Tensor:
    """Normal numbers of unit size, the same ones each time."""
    return tf.cast(tf.random.stateless_normal(tf.shape(x), seed=(5, 7)), x.dtype)
