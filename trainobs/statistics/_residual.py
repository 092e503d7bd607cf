"""How far the terms of a weight are from the gradient that the step itself computed (docs/definitions.md).

And the size of what is not a term: the gradient of the weight's own penalty, by its regulariser, or added up
in the loss: of an L2 penalty what is left is in proportion to the weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainobs.linear_ops import LinearOp
from trainobs.records import SiteRecord, sums_of
from trainobs.statistics._delivered import delivered
from trainobs.statistics._schema import per_position

Array = np.ndarray
#: Cosine from which a penalty's gradient is in proportion to its weight, but for rounding.
PROPORTIONAL = 1 - 1e-4
#: Four random numbers are so with a probability of about 0.014³, the third power of that angle.
_TOO_FEW = 4
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
        ``residual`` and ``residual_scale`` (), ``penalty`` and ``penalty_along`` ().
    """
    if calls[0].kernel_gradient is None:
        return dict.fromkeys(("residual", "residual_scale", "penalty", "penalty_along"), np.zeros(()))
    own, op, positions = delivered(calls), calls[0].op, float(sums["positions"])
    gradient, penalty = (_canonical(part, op, own.rows) for part in (own.gradient, own.penalty))
    difference = sums["gradient"] / positions + penalty - gradient
    in_loss = _in_proportion(-difference, _canonical(own.weight, op, own.rows))
    difference, penalty = difference + in_loss, penalty + in_loss
    squares = np.maximum(sums["all_sq"], np.float32(_SMALLEST_SQUARE * sums["terms"]))
    of_inputs = np.sum(squares, axis=-1, keepdims=True, dtype=np.float64)
    size = np.sqrt(np.sum(sums["terms"] * of_inputs)) / positions
    least = _norm(sums["gradient"]) / positions  # by Cauchy and Schwarz; squares may have been cut
    scale = max(size, least) + _norm(penalty)
    found = {
        "residual": np.asarray(_norm(difference)),
        "residual_scale": np.asarray(scale),
        "penalty": np.asarray(_norm(penalty)),
        "penalty_along": np.asarray(_along(penalty, _canonical(own.weight, op, own.rows))),
    }
    return per_position(found, positions)


def _canonical(values: Array | None, op: LinearOp, rows: Array | None) -> Array:
    """In the layout of the sums; 0 where there is nothing."""
    if values is None:
        return np.zeros(())
    return values if rows is not None else np.asarray(op.canonical_kernel(values), np.float32)


def _norm(values: Array) -> float:
    """Frobenius norm, in float64 where float32 loses the squares."""
    return float(np.sqrt(sums_of(np.asarray(values)).square_sum))


def _in_proportion(values: Array, weight: Array) -> Array:
    """The values, if they are in proportion to a weight, as an L2 penalty's are that a loss adds up by
    itself; else 0. A few numbers may be so by chance."""
    size, own = _norm(values), _norm(weight)
    if values.size < _TOO_FEW or not 0 < size < np.inf or not own:
        return np.zeros(())
    cosine = float(np.sum(np.multiply(values, weight, dtype=np.float64))) / size / own
    return cosine * size / own * np.asarray(weight) if abs(cosine) >= PROPORTIONAL else np.zeros(())


def _along(penalty: Array, weight: Array) -> float:
    """The part of a penalty's gradient that is along the weight: all of it, of an L2 penalty."""
    size = _norm(weight)
    return float(np.sum(np.multiply(penalty, weight, dtype=np.float64))) / size if size else 0.0
