"""Losses that see the brightness of an image."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

import keras
from keras import ops

from trainobs.errors import InvalidArgument

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="trainobs")
def brightness_penalty(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
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
        dtype: str | keras.DTypePolicy | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mse_weight = _weight("mse_weight", mse_weight)
        self.brightness_weight = _weight("brightness_weight", brightness_weight)
        if self.mse_weight == self.brightness_weight == 0:
            raise InvalidArgument(
                "MeanSquaredErrorWithBrightness: both weights are 0, so the loss is always 0. "
                "Set one of `mse_weight` and `brightness_weight` above 0."
            )

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
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

    def get_config(self) -> dict[str, object]:
        """What `from_config` needs to make the loss again."""
        weights = {"mse_weight": self.mse_weight, "brightness_weight": self.brightness_weight}
        return {**super().get_config(), **weights}


def _brightness(name: str, images: tf.Tensor) -> tf.Tensor:
    """Mean over all axes but the first, at least in float32."""
    images = ops.convert_to_tensor(images)
    if len(images.shape) == 0:
        raise InvalidArgument(
            f"brightness_penalty: `{name}` must have a batch axis, shape (batch, …). Received: shape (). "
            "Add the axis with `keras.ops.expand_dims(…, 0)`."
        )
    images = ops.cast(images, keras.backend.result_type(_float_dtype(images), "float32"))
    return ops.mean(images, axis=tuple(range(1, len(images.shape))))


def _float_dtype(tensor: tf.Tensor) -> str:
    """A tensor's dtype, float32 for integers and booleans."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return str(dtype) if "float" in dtype else "float32"


def _weight(name: str, value: float) -> float:
    """`value` as a float, if it is a finite number of at least 0."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and value >= 0):
        raise InvalidArgument(
            f"MeanSquaredErrorWithBrightness: `{name}` must be a finite number of at least 0. "
            f"Received: {name}={value!r}. The defaults are 2.0 and 1.0."
        )
    return float(value)
