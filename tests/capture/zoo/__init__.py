"""Small trainings of every kind, by name, and all that a training may change.

`fresh(name)` seeds everything first, so two calls give the same training. `_ground` holds what all
share; `_models`, `_weights`, `_settings` and `_steps` each enter their trainings into `PROBLEMS`.
"""

from tests.capture.zoo import _models, _settings, _steps, _weights  # noqa: F401
from tests.capture.zoo._ground import (
    BATCH,
    PROBLEMS,
    SAMPLES,
    STEPS,
    State,
    Training,
    assert_same,
    batches,
    compiled,
    digits,
    flat,
    fresh,
    images,
    net,
    one_hot,
    optimizers,
    problem,
    rows,
    state,
    tokens,
    train,
)
from tests.capture.zoo._models import Subclassed

__all__ = [
    "BATCH",
    "PROBLEMS",
    "SAMPLES",
    "STEPS",
    "State",
    "Subclassed",
    "Training",
    "assert_same",
    "batches",
    "compiled",
    "digits",
    "flat",
    "fresh",
    "images",
    "net",
    "one_hot",
    "optimizers",
    "problem",
    "rows",
    "state",
    "tokens",
    "train",
]
