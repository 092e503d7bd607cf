"""From explanation to cure: changes of models and data that remove findings, and trials that prove it.

May import `errors`, `progress`, `findings`, `records`, `statistics`, `capture`, `mechanisms`, `explanation`
and `explain`; never `report` or what draws.

A remedy has one file, or shares one with its like (`_reset_bias`, `_reinitialise`, `_activation`,
`_normalisation`, `_residual`, `_head`, `_optimizer`, `_unfreeze`, `_data`, `_background_lift`): a function
from a model to a new model, or from data to new data, and a `Remedy` that says when it fits. Functions leave
the given model as it is; the new one has its weights and, if it was compiled, its optimizer's settings, loss
and loss weights; metrics are left out.

`_remedy` says what a remedy is, and registers those that exist; it is given a typed mechanism and its
`_situation`, and answers with a `_treatment`. `_treatments` has those of a report's findings,
`_trials` applies them, explains and trains again. `_surgery` makes a model anew with some layers replaced,
`_weights` knows a layer's by name. `_brightness` has losses.
A new remedy is one file that subclasses `Remedy`.
"""

from trainobs.remedies._activation import ACTIVATIONS, SwapActivation, swap_activation
from trainobs.remedies._background_lift import BackgroundLift, LiftBackground
from trainobs.remedies._brightness import MeanSquaredErrorWithBrightness, brightness_penalty
from trainobs.remedies._data import (
    DropBrokenSamples,
    StandardiseInputs,
    StandardiseTargets,
    drop_non_finite,
    standardise,
)
from trainobs.remedies._head import FixHead, fix_head
from trainobs.remedies._normalisation import InsertNormalisation, insert_normalisation
from trainobs.remedies._optimizer import (
    ClipGradients,
    LowerLearningRate,
    ScaleLoss,
    WarmUp,
    clip_gradients,
    lower_learning_rate,
    scale_loss,
    warm_up,
)
from trainobs.remedies._reinitialise import (
    Reinitialise,
    ReinitialiseDeadUnits,
    reinitialise,
    reinitialise_units,
)
from trainobs.remedies._remedy import (
    Remedy,
    register_remedy,
    registered_remedies,
    remedies_against,
    unregister_remedy,
)
from trainobs.remedies._reset_bias import ResetBias, reset_bias
from trainobs.remedies._residual import Residual, ResidualWrap, wrap_residual
from trainobs.remedies._situation import Situation
from trainobs.remedies._treatment import Arrays, ModelAndData, Treatment
from trainobs.remedies._treatments import treatments
from trainobs.remedies._trials import try_remedies
from trainobs.remedies._unfreeze import Unfreeze, unfreeze

__all__ = [
    "ACTIVATIONS",
    "Arrays",
    "BackgroundLift",
    "ClipGradients",
    "DropBrokenSamples",
    "FixHead",
    "InsertNormalisation",
    "LiftBackground",
    "LowerLearningRate",
    "MeanSquaredErrorWithBrightness",
    "ModelAndData",
    "Reinitialise",
    "ReinitialiseDeadUnits",
    "Remedy",
    "ResetBias",
    "Residual",
    "ResidualWrap",
    "ScaleLoss",
    "Situation",
    "StandardiseInputs",
    "StandardiseTargets",
    "SwapActivation",
    "Treatment",
    "Unfreeze",
    "WarmUp",
    "brightness_penalty",
    "clip_gradients",
    "drop_non_finite",
    "fix_head",
    "insert_normalisation",
    "lower_learning_rate",
    "register_remedy",
    "registered_remedies",
    "reinitialise",
    "reinitialise_units",
    "remedies_against",
    "reset_bias",
    "scale_loss",
    "standardise",
    "swap_activation",
    "treatments",
    "try_remedies",
    "unfreeze",
    "unregister_remedy",
    "warm_up",
    "wrap_residual",
]
