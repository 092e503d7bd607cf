"""Which factor of a weight's gradient the walk follows: input, activation or backprop."""

from __future__ import annotations

import numpy as np

from trainobs.analysis import CAUSES, Cause, SiteFigures

_FACTORS = ("input", "activation", "backprop")
#: The factors of each set.
_MEMBERS = {
    cause: tuple(factor for factor in _FACTORS if factor in str(cause.name).lower())
    for cause in CAUSES
    if cause is not Cause.CANCELLATION
}


def main_factor(figures: SiteFigures) -> str:
    """Which factor keeps most of a weight's near-zero gradients there; "cancellation" if none does.

    Sets that share a weight have equal parts of it. Of a set of several factors, none of which would
    do alone, the part goes to the one that is smallest against its reference; not to an activation whose
    units are all on, for that has nothing to explain.
    """
    parts = figures.used_shares
    scores = dict.fromkeys(_FACTORS, 0.0) | {"cancellation": float(parts[Cause.CANCELLATION])}
    for cause, factors in _MEMBERS.items():
        asked = [
            factor for factor in factors if factor != "activation" or figures.off_fraction > 0
        ] or factors
        smallest = min(asked, key=lambda factor: figures.factor_sizes[factor])
        scores[smallest] += float(parts[cause])
    return max(scores, key=lambda factor: scores[factor])


def also_sufficient(figures: SiteFigures, factor: str) -> list[str]:
    """Which other factors alone keep most of a weight's near-zero gradients there, too."""
    verdicts = figures.verdict[figures.near_zero]
    return [
        other
        for cause, (other, *more) in _MEMBERS.items()
        if other != factor and not more and np.mean((verdicts & cause) != 0) > 0.5
    ]


def is_joint(figures: SiteFigures) -> bool:
    """Whether most of a weight's near-zero gradients have no factor that alone keeps them there."""
    parts = figures.used_shares
    joint = sum(float(parts[cause]) for cause, factors in _MEMBERS.items() if len(factors) > 1)
    return joint > 0.5
