"""From a train step to its record: the only room that touches Keras models.

May import `errors`, `counterfactuals`, `activations`, `tensors`, `linear_ops` and `records`; never
`statistics`, `analysis` or anything that draws conclusions or pictures. Its own rooms go one way, each
imports only those below it:

* `_update`: what the optimizer would make of gradients, tried on copies;
* `intervene`: a batch once more, with one thing changed, to prove a cause or to refute it;
* `inside`: operation by operation, down to the user's line, when a finding needs it;
* `step`: taps in the user's own step, one batch, loops that users write;
* `reading`: which tensors may be read without moving a bit, a plan of the step, records of its values;
* `layers`: what each weight of each kind of layer met; `layers/recurrent` apart.

`_keras_internals` holds every private Keras name that we need, with the reason; `_users_lines` tells the
user's code from others'.
"""

from trainobs.capture._keras_internals import all_layers, maker_of
from trainobs.capture._update import updated_weights
from trainobs.capture.inside import BatchLook, second_look
from trainobs.capture.intervene import try_out
from trainobs.capture.layers import (
    KINDS,
    Call,
    Kind,
    LinearKind,
    Part,
    register_activation_layer,
    register_layer_kind,
)
from trainobs.capture.step import (
    BatchCapture,
    CapturedStep,
    Catch,
    CaughtStep,
    TrainFunction,
    WatchedModels,
    capture_batch,
    check_model,
    check_weights,
    updating_optimizer,
)

__all__ = [
    "KINDS",
    "BatchCapture",
    "BatchLook",
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
    "maker_of",
    "register_activation_layer",
    "register_layer_kind",
    "second_look",
    "try_out",
    "updated_weights",
    "updating_optimizer",
]
