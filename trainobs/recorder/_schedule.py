"""Which steps of a training are recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from trainobs.errors import InvalidArgument


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Every so many steps, or just the steps of a list.

    Attributes
    ----------
    every : int or None
        Steps 0, every, 2·every, …
    at : frozenset of int
        These steps, where `every` is None.

    Examples
    --------
    >>> [step for step in range(7) if Schedule.of(every=3).is_due(range(step, step + 1))]
    [0, 3, 6]
    """

    every: int | None
    at: frozenset[int]

    @classmethod
    def of(cls, every: int | None = None, at: Iterable[int] | None = None) -> Schedule:
        """What a user asks for, by default every hundredth step.

        Raises
        ------
        InvalidArgument
            If both are given, or a value does not fit.
        """
        if every is not None and at is not None:
            raise InvalidArgument(
                f"Give either `every` or `at`, not both. Received: every={every!r}, at={at!r}."
            )
        if at is not None:
            return cls(None, _steps_of(at))
        every = 100 if every is None else every
        if not is_positive_int(every):
            raise InvalidArgument(f"`every` must be a positive integer. Received: every={every!r}.")
        return cls(every, frozenset())

    def is_due(self, steps: range) -> bool:
        """Whether one of some steps in a row is to be recorded."""
        if self.every is not None:
            return steps[-1] // self.every > (steps[0] - 1) // self.every
        return any(step in self.at for step in steps)


def log_spaced(last: int, per_decade: int = 4) -> tuple[int, ...]:
    """Steps that are dense early in training and sparse later.

    Parameters
    ----------
    last : int
        No step beyond this one.
    per_decade : int, default 4
        How many steps between 10 and 100, and so on.

    Returns
    -------
    tuple of int
        For ``Recorder(at=…)``.

    Examples
    --------
    >>> log_spaced(100, per_decade=2)
    (0, 1, 3, 10, 32, 100)
    """
    if not (_is_int(last) and _is_int(per_decade)) or last < 0 or per_decade < 1:
        raise InvalidArgument(
            f"`last` must be an integer of at least 0 and `per_decade` one of at least 1. "
            f"Received: {last!r}, {per_decade!r}."
        )
    steps, exponent = {0}, 0
    while (step := round(10 ** (exponent / per_decade))) <= last:
        steps.add(step)
        exponent += 1
    return tuple(sorted(steps))


def is_positive_int(value: object) -> bool:
    """Whether a user's value counts something."""
    return _is_int(value) and value > 0  # type: ignore[operator]


def _steps_of(at: Iterable[int]) -> frozenset[int]:
    steps = list(at) if isinstance(at, Iterable) else []
    if not steps or not all(_is_int(step) and step >= 0 for step in steps):
        raise InvalidArgument(f"`at` must contain step numbers from 0 on. Received: at={at!r}.")
    return frozenset(map(int, steps))


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
