"""What layers are to each other: which have an activation, normalise, keep the shape, or stop a gradient."""

from __future__ import annotations

import keras

from trainobs.capture._keras_internals import CUTTING_OPERATIONS, casts_to, key_projection
from trainobs.capture.layers._registry import kind_of

_NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    *((keras.layers.RMSNormalization,) if hasattr(keras.layers, "RMSNormalization") else ()),
)
_ATTENTIONS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_SHAPE_KEEPING = (keras.layers.Dropout, keras.layers.ActivityRegularization)
#: Layers that put out numbers of classes; and Lambda, whose function may do anything.
_CUTTING_LAYERS = (keras.layers.Discretization, keras.layers.CategoryEncoding, keras.layers.Lambda)


def is_normalisation(layer: keras.Operation) -> bool:
    """Whether the layer normalises; such layers may stand between kernel and activation."""
    return isinstance(layer, _NORMALISATIONS)


def normalises(layer: keras.Operation) -> bool:
    """Whether what the layer puts out does not depend on the scale of what it reads.

    Keras' layers are known by their classes, those of others, which Keras has none for, by calling
    themselves a normalisation. `keras.layers.Normalization` is none: it applies constants.
    """
    if isinstance(layer, (*_NORMALISATIONS, keras.layers.UnitNormalization)):
        return True
    own = isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.Normalization)
    return own and type(layer).__name__.endswith("Normalization")


def is_attention(layer: keras.Operation | None) -> bool:
    """Whether a layer made of others computes attention scores between them."""
    return isinstance(layer, _ATTENTIONS)


def projects_keys(inside: keras.Layer | None, layer: keras.Operation) -> bool:
    """Whether a layer, a part of another one, makes the keys of an attention.

    Its bias adds the same to the scores of all keys, and softmax takes that away.
    """
    return is_attention(inside) and key_projection(inside) is layer


def keeps_shape(layer: keras.Operation) -> bool:
    """Whether the layer may stand between kernel and activation without being either."""
    return isinstance(layer, _SHAPE_KEEPING)


def can_cut_gradient(layer: keras.Operation) -> bool:
    """Whether the layer can stop a gradient by what it does: it rounds, compares, counts or stops it."""
    target = casts_to(layer)
    whole = target is not None and not keras.backend.is_float_dtype(target)
    return whole or isinstance(layer, (*_CUTTING_LAYERS, *CUTTING_OPERATIONS))


def has_activation(layer: keras.Operation) -> bool:
    """Whether the layer is of a kind that applies an activation function to its last preactivation."""
    kind = kind_of(layer)
    given = layer.activation if kind is not None and kind.activates else None
    return given is not None and given is not keras.activations.linear
