"""Layers that remedies put around a model's own."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="trainobs")
class ActivationInPlaceOfSoftmax(keras.layers.Activation):
    """An activation that is called as a `Softmax` layer is, with a mask, which it does not need."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """The activation of the inputs."""
        del mask
        return super().call(inputs)


@keras.saving.register_keras_serializable(package="trainobs")
class Residual(keras.layers.Wrapper):
    """A skip connection: what a layer reads, added to what it puts out.

    The gradient of the input is that of the output plus what comes through the layer, so that it does
    not vanish where the layer lets little through (He et al. 2016).

    Parameters
    ----------
    layer : keras.layers.Layer
        One whose output has the shape of its input.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Residual(keras.layers.Dense(3, kernel_initializer="zeros"))
    >>> np.asarray(layer(np.ones((1, 3)))).tolist()
    [[1.0, 1.0, 1.0]]
    """

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """``inputs + layer(inputs)``."""
        return inputs + self.layer(inputs, *args, **kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape
