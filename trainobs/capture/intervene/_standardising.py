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

    @tf.custom_gradient
    def moved(z: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        wide = tf.cast(z, tf.float32)
        mean = tf.reduce_mean(wide, axes, keepdims=True)
        centred = wide - mean
        deviation = tf.sqrt(tf.reduce_mean(centred * centred, axes, keepdims=True))
        deviation = tf.where(deviation > _ROUNDING * tf.abs(mean), deviation, np.inf)  # of what varies

        def back(upstream: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.cast(upstream, tf.float32) / tf.minimum(deviation, 1.0), z.dtype)

        return tf.cast(centred / deviation, z.dtype), back

    moved_z: tf.Tensor = moved(z)
    return moved_z


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
