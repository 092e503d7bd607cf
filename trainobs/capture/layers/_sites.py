"""What layers are to each other: which have an activation, normalise, or keep the shape."""

from __future__ import annotations

from typing import Any

import keras

from trainobs.capture.layers._registry import kind_of

_NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    *((keras.layers.RMSNormalization,) if hasattr(keras.layers, "RMSNormalization") else ()),
)
_SHAPE_KEEPING = (keras.layers.Dropout, keras.layers.ActivityRegularization)


def is_normalisation(layer: Any) -> bool:
    """Whether the layer normalises; such layers may stand between kernel and activation."""
    return isinstance(layer, _NORMALISATIONS)


def is_attention(layer: Any) -> bool:
    """Whether a layer made of others computes attention scores between them."""
    return isinstance(layer, (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention))


def keeps_shape(layer: Any) -> bool:
    """Whether the layer may stand between kernel and activation without being either."""
    return isinstance(layer, _SHAPE_KEEPING)


def has_activation(layer: Any) -> bool:
    """Whether the layer is of a kind that applies an activation function to its last preactivation."""
    kind = kind_of(layer)
    given = layer.activation if kind is not None and kind.activates else None
    return given is not None and given is not keras.activations.linear
