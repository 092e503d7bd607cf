"""What values the fields of thresholds take, and whether one does."""

from __future__ import annotations

import math
import numbers

_MEASURES = ("norm", "mean_abs")
_SHARES = (
    "near_zero_weights", "affected", "dead_units", "dead_units_by_chance", "dead_units_warning",
    "dead_activity", "saturated", "zero_inputs", "firing", "pinv_trust", "flushed", "zero_gradients", "shift",
    "oscillation_share",
)  # fmt: skip
NUMBER = "a positive, finite number"
SHARE = "a number from 0 to 1"
COUNT = "a positive integer"
BAND = "a pair (low, high) of positive, finite numbers with low < high"
MEASURE = f"one of {_MEASURES}"


def expected_of(name: str, default: object) -> str:
    """What values a field takes, in words."""
    if name in _SHARES:
        return SHARE
    if name.endswith("_of"):
        return MEASURE
    if isinstance(default, int):
        return COUNT
    return BAND if isinstance(default, tuple) or name == "first_last" else NUMBER


def fits(value: object, expected: str) -> bool:
    """Whether a value is what `expected_of` says."""
    if expected == COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if expected == BAND:
        is_pair = isinstance(value, tuple) and len(value) == 2 and all(_is_positive(end) for end in value)
        return is_pair and value[0] < value[1]  # type: ignore[index]
    if expected == SHARE:
        return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]
    return value in _MEASURES if expected == MEASURE else _is_positive(value)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]
