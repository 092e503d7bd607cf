"""The kinds of layers whose weights trainobs explains one by one, and how a layer's kind is told."""

from __future__ import annotations

import keras

from trainobs.capture.layers._kind import Kind
from trainobs.capture.layers._linear import (
    EinsumKind,
    LinearKind,
    SeparableKind,
    conv_op,
    depthwise_op,
    transpose_op,
)
from trainobs.capture.layers._lookup import LookupKind
from trainobs.capture.layers._scale import (
    BatchKind,
    GroupKind,
    LayerKind,
    NegativeSlopeKind,
    RootMeanSquareKind,
)
from trainobs.capture.layers.recurrent import RecurrentKind
from trainobs.errors import InvalidArgument
from trainobs.linear_ops import DenseOp

#: Each kind by the name of its class in `keras.layers` (some came with a later Keras).
_BUILT_IN: dict[str, Kind] = {
    "Dense": LinearKind(lambda layer, shape: DenseOp()),
    "EinsumDense": EinsumKind(),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), LinearKind(conv_op)),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), LinearKind(depthwise_op)),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), LinearKind(transpose_op)),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), SeparableKind()),
    "Embedding": LookupKind(),
    "BatchNormalization": BatchKind(),
    "LayerNormalization": LayerKind(),
    "GroupNormalization": GroupKind(),
    "RMSNormalization": RootMeanSquareKind(),
    "PReLU": NegativeSlopeKind(),
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM"), RecurrentKind()),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "RNN"), RecurrentKind()),
}

KINDS: dict[type[keras.Layer], Kind] = {
    getattr(keras.layers, name): kind for name, kind in _BUILT_IN.items() if hasattr(keras.layers, name)
}


def register_layer_kind(layer_class: type[keras.Layer], kind: Kind) -> None:
    """Tell trainobs what the weights of a class of layers meet, so that it explains each of them.

    docs/extending/layer_kind.md writes a kind, step by step.

    Parameters
    ----------
    layer_class : type
        A subclass of `keras.Layer`. Its own subclasses are covered as long as they inherit its `call`:
        another one may do anything with the weights.
    kind : Kind
        An object, such as ``LinearKind(lambda layer, shape: DenseOp())``.

    Raises
    ------
    InvalidArgument
        If `layer_class` is no class of layers, or `kind` is no `Kind`.

    Examples
    --------
    >>> import keras
    >>> from trainobs.capture import LinearKind
    >>> from trainobs.linear_ops import DenseOp
    >>> class MyDense(keras.layers.Dense):
    ...     def call(self, x):
    ...         return self.activation(keras.ops.matmul(x, self.kernel) + self.bias)
    >>> register_layer_kind(MyDense, LinearKind(lambda layer, shape: DenseOp()))
    """
    check_layer_class(layer_class, "A kind of layer")
    if not isinstance(kind, Kind):
        given = isinstance(kind, type) and issubclass(kind, Kind)
        hint = (
            f"Pass an object: {kind.__name__}()."
            if given
            else "docs/extending/layer_kind.md shows how to write one."
        )
        raise InvalidArgument(
            f"The kind of {layer_class.__name__} must be a `trainobs.capture.Kind`. Received: {kind!r} "
            f"(of type {type(kind).__name__}). {hint}"
        )
    KINDS[layer_class] = kind


def check_layer_class(layer_class: object, what: str) -> None:
    """Refuse to register anything but a class of layers."""
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        hint = " Pass its class, not the layer." if isinstance(layer_class, keras.Layer) else ""
        raise InvalidArgument(
            f"{what} is registered by its class, a subclass of `keras.Layer`. Received: {layer_class!r} "
            f"(of type {type(layer_class).__name__}).{hint}"
        )


def kind_of(layer: keras.Operation) -> Kind | None:
    """The kind of a layer, or None if it is explained as a whole.

    A subclass with a `call` of its own may do anything with its weights, so it is not known.
    """
    for cls in type(layer).__mro__:
        if cls in KINDS and type(layer).call is cls.call:
            return KINDS[cls] if KINDS[cls].knows(layer) else None
    return None
