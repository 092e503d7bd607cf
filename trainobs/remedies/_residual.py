"""Skip connections around layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, layers_named, rebuilt
from trainobs.remedies._treatment import Treatment, listed


class ResidualWrap(Remedy):
    """Adds what a layer reads to what it puts out, where shapes allow."""

    name = "residual wrap"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """All targets at once."""
        names = situation.targets
        if names:
            changes = f"Adds what a layer reads to what it puts out, where shapes allow: {listed(names)}."
            yield Treatment.of_model(mechanism, self.name, changes, wrap_residual, layers=names)


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

    def call(self, inputs: keras.KerasTensor, *args: object, **kwargs: object) -> keras.KerasTensor:
        """``inputs + layer(inputs)``."""
        return inputs + self.layer(inputs, *args, **kwargs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape


def wrap_residual(model: keras.Model, *, layers: Iterable[str]) -> keras.Model:
    """Add a skip connection around layers whose output has the shape of their input.

    Parameters
    ----------
    model : keras.Model
    layers : iterable of str
        Names; those whose shapes differ are left as they are.

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If there is no such layer, or none of them keeps its shape.
    """
    asked = checked_names(model, layers)
    names = {layer.name for layer in layers_named(model, asked) if _keeps_shape(layer)}
    if not names:
        raise InvalidArgument(f"None of these layers has an output of its input's shape: {sorted(asked)}.")
    return rebuilt(
        model, lambda layer: Residual(layer, name=f"{layer.name}_residual") if layer.name in names else layer
    )


def _keeps_shape(layer: keras.Layer) -> bool:
    """Whether a layer puts out what has the shape of what it reads."""
    try:
        return bool(layer.input.shape == layer.output.shape)
    except (AttributeError, ValueError):  # called several times, or not by Keras
        return False
