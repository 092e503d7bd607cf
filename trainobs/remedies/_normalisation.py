"""A normalisation between kernel and activation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._activation import with_activation
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, rebuilt
from trainobs.remedies._treatment import Treatment, listed

_NORMALISATIONS = {"batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}


class InsertNormalisation(Remedy):
    """Puts a BatchNormalization, or a LayerNormalization, between kernel and activation."""

    name = "insert normalisation"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """One, then the other, where none stands there yet."""
        names = [name for name in situation.targets if not situation.is_normalised(name)]
        if names and not situation.is_recurrent():
            for kind, layer in _NORMALISATIONS.items():
                changes = f"Puts a {layer.__name__} between kernel and activation of {listed(names)}."
                yield Treatment.of_model(
                    mechanism, f"insert {layer.__name__}", changes, insert_normalisation, kind, layers=names
                )


def insert_normalisation(model: keras.Model, kind: str = "batch", *, layers: Iterable[str]) -> keras.Model:
    """Normalise the preactivations of layers: kernel, normalisation, activation.

    Parameters
    ----------
    model : keras.Model
    kind : {"batch", "layer"}, default "batch"
        `BatchNormalization` or `LayerNormalization`, over the last axis (the channels).
    layers : iterable of str
        Names of layers with a kernel.

    Returns
    -------
    keras.Model
        Each of these layers is now a block: itself without its activation, the normalisation, and the
        activation. Gammas are 1, betas 0.

    Notes
    -----
    Ioffe & Szegedy (2015), Ba et al. (2016): whatever the kernel's scale and the bias, preactivations
    have mean 0 and variance 1 at first, where ReLUs are half on and tanh is steep.
    """
    if kind not in _NORMALISATIONS:
        raise InvalidArgument(f"`kind` must be one of {tuple(_NORMALISATIONS)}. Received: {kind!r}.")
    names = checked_names(model, layers)
    return rebuilt(model, lambda layer: _block(layer, kind) if layer.name in names else layer)


def _block(layer: keras.Layer, kind: str) -> keras.Layer:
    # only convolutions have a data format, and Keras has no type for layers with an activation
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    normalise = _NORMALISATIONS[kind](axis=axis, name=f"{layer.name}_normalised")
    given = getattr(layer, "activation", None)
    if given is None or given is keras.activations.linear:
        return keras.Sequential([layer, normalise], name=f"{layer.name}_block")
    activation = keras.layers.Activation(given, name=f"{layer.name}_activation")
    linear = with_activation(layer, "linear")
    return keras.Sequential([linear, normalise, activation], name=f"{layer.name}_block")
