"""Taps in the user's own train step: the only folder that touches Keras models.

It may import `errors`, `near_zero`, `tensors`, `activations`, `linear_ops` and `recording`, never
`analysis` or anything that draws. How a step is tapped, in the order of the files:

1. `_keras_internals` holds every private Keras name we need, with the reason.
2. `_taps` makes identity ops that hand over what flows forward and backward through them.
3. `_kinds` is the folder of layer kinds: what each weight of a layer met. `_sites` says what layers
   are to each other, `_activation_functions` what stands behind a preactivation.
4. `_trace` collects what one step hands over; `_patches` puts the taps into the models for the
   length of a `with` block, with `_parts_of_models` and `_replacing`.
5. `_wiring` finds out who consumes whom; `_layout` lists what a step has to return, with `_slots`,
   which knows what can be read unnoticed; `_filling` makes its record of the values.
6. `_tapped_step` is a model's own train step with taps in it. `_train_function` lets due steps of a
   `fit` run it, `_batch` one batch with the update withheld; `_watched` records steps of loops that
   users write.
"""

from trainobs.capture._batch import BatchCapture, capture_batch
from trainobs.capture._keras_internals import all_layers
from trainobs.capture._kinds import KINDS, Call, Kind, LinearKind, Part
from trainobs.capture._parts_of_models import updating_optimizer
from trainobs.capture._readiness import check_model, check_weights
from trainobs.capture._tapped_step import CapturedStep
from trainobs.capture._train_function import Catch, TrainFunction
from trainobs.capture._watched import CaughtStep, WatchedModels

__all__ = [
    "KINDS",
    "BatchCapture",
    "Call",
    "CapturedStep",
    "Catch",
    "CaughtStep",
    "Kind",
    "LinearKind",
    "Part",
    "TrainFunction",
    "WatchedModels",
    "all_layers",
    "capture_batch",
    "check_model",
    "check_weights",
    "updating_optimizer",
]
