"""The kinds of layers whose weights trainobs explains one by one, and how a layer's kind is told."""

from __future__ import annotations

from typing import Any

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

KINDS: dict[Any, Kind] = {
    getattr(keras.layers, name): kind for name, kind in _BUILT_IN.items() if hasattr(keras.layers, name)
}


def kind_of(layer: Any) -> Kind | None:
    """The kind of a layer, or None if it is explained as a whole.

    A subclass with a `call` of its own may do anything with its weights, so it is not known.
    """
    for cls, kind in KINDS.items():
        if isinstance(layer, cls) and type(layer).call is cls.call:
            return kind if kind.knows(layer) else None
    return None
