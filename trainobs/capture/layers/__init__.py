"""What trainobs knows of Keras' layers: it runs on the host, and never inside the user's step.

May import `recurrent`; never `reading` or `step`. The kinds of layers say what each weight of a call
met, so that it is explained one by one. A kind is one line of `_registry` and, if no other layer is
like it, one short class: `_kind` says what it has to answer; `_linear` holds kernels, `_scale`
normalisations and PReLU, `_lookup` embeddings, `recurrent` what runs over time. Layers of any other
kind are explained as a whole. `_sites` says what layers are to each other, `_activation_layers`
which are activations, `_probing` what their functions do. docs/extending/layer_kind.md adds a kind.
"""

from trainobs.capture.layers._activation_layers import (
    Probed,
    activation_of,
    is_activation,
    register_activation_layer,
)
from trainobs.capture.layers._kind import Call, Kind, Part, Units
from trainobs.capture.layers._linear import LinearKind
from trainobs.capture.layers._registry import KINDS, kind_of, register_layer_kind
from trainobs.capture.layers._sites import (
    can_cut_gradient,
    has_activation,
    is_attention,
    is_normalisation,
    keeps_shape,
    normalises,
    projects_keys,
)
from trainobs.capture.layers._slope import slope_of
from trainobs.capture.layers.recurrent import cells_of, gate_calls, is_recurrent

__all__ = [
    "KINDS",
    "Call",
    "Kind",
    "LinearKind",
    "Part",
    "Probed",
    "Units",
    "activation_of",
    "can_cut_gradient",
    "cells_of",
    "gate_calls",
    "has_activation",
    "is_activation",
    "is_attention",
    "is_normalisation",
    "is_recurrent",
    "keeps_shape",
    "kind_of",
    "normalises",
    "projects_keys",
    "register_activation_layer",
    "register_layer_kind",
    "slope_of",
]
