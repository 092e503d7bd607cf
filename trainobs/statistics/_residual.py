"""How far the terms of a weight are from the gradient that the step itself computed (docs/definitions.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainobs.linear_ops import LinearOp
from trainobs.records import SiteRecord, sums_of
from trainobs.statistics._delivered import delivered
from trainobs.statistics._schema import per_position

Array = np.ndarray
#: Squares of terms below this are 0 in the float32 that they were summed in.
_SMALLEST_SQUARE = float(np.finfo(np.float32).tiny)


def residual_sums(calls: Sequence[SiteRecord], sums: Mapping[str, Array]) -> dict[str, Array]:
    """The distance, and what it is compared with: the size of sums whose terms have random signs.

    Parameters
    ----------
    calls : sequence of SiteRecord
        The calls of one weight.
    sums : mapping of str to array
        Its sums over all of them, and ``positions``.

    Returns
    -------
    dict of str to array
        ``residual`` and ``residual_scale`` ().
    """
    if calls[0].kernel_gradient is None:
        return {"residual": np.zeros(()), "residual_scale": np.zeros(())}
    own, op, positions = delivered(calls), calls[0].op, float(sums["positions"])
    gradient, penalty = (_canonical(part, op, own.rows) for part in (own.gradient, own.penalty))
    difference = sums["gradient"] / positions + penalty - gradient
    squares = np.maximum(sums["all_sq"], np.float32(_SMALLEST_SQUARE * sums["terms"]))
    of_inputs = np.sum(squares, axis=-1, keepdims=True, dtype=np.float64)
    size = np.sqrt(np.sum(sums["terms"] * of_inputs)) / positions
    own_size = _norm(sums["gradient"]) / positions  # never the larger one, unless squares were too large to sum
    scale = max(size, own_size) + _norm(penalty)
    distances = {"residual": np.asarray(_norm(difference)), "residual_scale": np.asarray(scale)}
    return per_position(distances, positions)


def _canonical(values: Array | None, op: LinearOp, rows: Array | None) -> Array:
    """In the layout of the sums; 0 where there is nothing."""
    if values is None:
        return np.zeros(())
    return values if rows is not None else np.asarray(op.canonical_kernel(values), np.float32)


def _norm(values: Array) -> float:
    """Frobenius norm, in float64 where float32 loses the squares."""
    return float(np.sqrt(sums_of(np.asarray(values)).square_sum))
