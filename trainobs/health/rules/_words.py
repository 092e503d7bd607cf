"""Words that rules have in common."""

from __future__ import annotations


def words_for(measure: str) -> str:
    """What `Thresholds.vanishing_of` and `exploding_of` name, in a sentence."""
    return {"norm": "the gradient norm", "mean_abs": "the mean absolute gradient"}[measure]
