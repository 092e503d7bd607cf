"""The names of columns that come in groups, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from trainobs.analysis import CAUSE_NAMES, CAUSES, Cause
from trainobs.statistics import OFF_REASONS

Value = TypeVar("Value")

LIKELIHOODS = (
    "p_input",
    "p_activation",
    "p_weights",
    "p_backprop",
    "p_backprop_pinv",
    "p_next_gradient",
    "p_input_activation",
    "p_activation_backprop",
)
SHARES = tuple(f"share_{name}" for name in CAUSE_NAMES)
OFF_COLUMNS = tuple(f"off_by_{reason}" for reason in OFF_REASONS)


def by_column(shares: Mapping[Cause, Value]) -> dict[str, Value]:
    """The shares of causes by the names of their columns."""
    return {column: shares[cause] for column, cause in zip(SHARES, CAUSES, strict=True)}
