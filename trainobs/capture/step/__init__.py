"""Taps in the user's own train step, and every one taken out again.

May import `reading` and `layers`; never what draws conclusions. `_patches` puts taps into the models for the
length of a `with` block: `_forward` and `_backward` stand in for methods of the user's. What layers make is
kept, and the user's own tape is asked for its gradient besides; `_apart` says why nothing is put on the
way. `_tracing` and `_keeping` know where a tensor is kept; `_parts_of_models` and `_replacing` help.
`_tapped_step` is a model's own train step with taps in it: `_train_function` lets due steps of a `fit` run
it, `_batch` one batch with the update withheld. `_watched` records steps of loops of users. `_readiness`
says what is missing before anything is traced.
"""

from trainobs.capture.step._backward import connected
from trainobs.capture.step._batch import BatchCapture, capture_batch, prepared, state_restored
from trainobs.capture.step._keeping import penalty_gradient
from trainobs.capture.step._parts_of_models import (
    nodes_of,
    optimizers_of,
    updating_optimizer,
    variables_by_id,
)
from trainobs.capture.step._readiness import check_model, check_weights
from trainobs.capture.step._replacing import replaced
from trainobs.capture.step._tapped_step import CapturedStep
from trainobs.capture.step._train_function import Catch, TrainFunction
from trainobs.capture.step._watched import CaughtStep, WatchedModels

__all__ = [
    "BatchCapture",
    "CapturedStep",
    "Catch",
    "CaughtStep",
    "TrainFunction",
    "WatchedModels",
    "capture_batch",
    "check_model",
    "check_weights",
    "connected",
    "nodes_of",
    "optimizers_of",
    "penalty_gradient",
    "prepared",
    "replaced",
    "state_restored",
    "updating_optimizer",
    "variables_by_id",
]
