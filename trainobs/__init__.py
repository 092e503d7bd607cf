"""trainobs answers one question for Keras/TensorFlow users: why is this gradient zero?

>>> import trainobs

Importing it is cheap: TensorFlow, pandas and matplotlib load when a name below is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainobs.analysis import Cause as Cause
    from trainobs.capture import capture_batch as capture_batch
    from trainobs.capture import register_activation_layer as register_activation_layer
    from trainobs.capture import register_layer_kind as register_layer_kind
    from trainobs.explain import explain_near_zero_gradients as explain_near_zero_gradients
    from trainobs.health import GradientHealth as GradientHealth
    from trainobs.health import check_health as check_health
    from trainobs.health import register_health_rule as register_health_rule
    from trainobs.mechanisms import register_mechanism as register_mechanism
    from trainobs.recorder import Recorder as Recorder
    from trainobs.recorder import log_spaced as log_spaced
    from trainobs.recording import Recording as Recording
    from trainobs.remedies import register_remedy as register_remedy
    from trainobs.report import Report as Report
    from trainobs.thresholds import NearZero as NearZero
    from trainobs.thresholds import Thresholds as Thresholds

__version__ = "0.1.0"

_HOMES = {
    "Cause": "trainobs.analysis",
    "GradientHealth": "trainobs.health",
    "NearZero": "trainobs.thresholds",
    "Recorder": "trainobs.recorder",
    "Recording": "trainobs.recording",
    "Report": "trainobs.report",
    "Thresholds": "trainobs.thresholds",
    "capture_batch": "trainobs.capture",
    "check_health": "trainobs.health",
    "explain_near_zero_gradients": "trainobs.explain",
    "log_spaced": "trainobs.recorder",
    "register_activation_layer": "trainobs.capture",
    "register_health_rule": "trainobs.health",
    "register_layer_kind": "trainobs.capture",
    "register_mechanism": "trainobs.mechanisms",
    "register_remedy": "trainobs.remedies",
}

__all__ = [  # noqa: RUF022 (in the order of a user's walk)
    "explain_near_zero_gradients",
    "Recorder",
    "Recording",
    "Report",
    "NearZero",
    "Thresholds",
    "Cause",
    "GradientHealth",
    "check_health",
    "capture_batch",
    "log_spaced",
    "register_layer_kind",
    "register_activation_layer",
    "register_mechanism",
    "register_remedy",
    "register_health_rule",
]


_FOLDERS = ("health", "mechanisms", "remedies", "similarity")


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for (PEP 562)."""
    if name in _FOLDERS:
        return importlib.import_module(f"trainobs.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'trainobs' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_FOLDERS})
