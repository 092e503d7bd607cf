"""From explanation to cure: changes of models and data that remove findings, and trials that prove it.

1. `_models` and `_data` hold the remedies, functions from a model to a new model and from data to new
   data; `_surgery` makes a model anew with some layers replaced, `_layers` and `_background` are layers
   of their own.
2. `_catalogue` knows which of them fit a finding; `_trials` applies them, explains and trains again.

May import `errors`, `records`, `capture`, `explain` and `progress`; never what draws.
"""

from trainobs.remedies._background import (
    BackgroundLift,
    MeanSquaredErrorWithBrightness,
    brightness_penalty,
)
from trainobs.remedies._catalogue import CATALOGUE, Treatment, treatments
from trainobs.remedies._data import drop_non_finite, standardise
from trainobs.remedies._layers import Residual
from trainobs.remedies._models import (
    ACTIVATIONS,
    clip_gradients,
    fix_head,
    insert_normalisation,
    lower_learning_rate,
    reinitialise,
    reinitialise_units,
    scale_loss,
    swap_activation,
    unfreeze,
    warm_up,
    wrap_residual,
)
from trainobs.remedies._trials import try_remedies

__all__ = [
    "ACTIVATIONS",
    "CATALOGUE",
    "BackgroundLift",
    "MeanSquaredErrorWithBrightness",
    "Residual",
    "Treatment",
    "brightness_penalty",
    "clip_gradients",
    "drop_non_finite",
    "fix_head",
    "insert_normalisation",
    "lower_learning_rate",
    "reinitialise",
    "reinitialise_units",
    "scale_loss",
    "standardise",
    "swap_activation",
    "treatments",
    "try_remedies",
    "unfreeze",
    "warm_up",
    "wrap_residual",
]
