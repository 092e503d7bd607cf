"""What the step itself computed for a weight: all its calls and passes together.

A step may take several gradients (passes, `SiteRecord.loss`), which are added. Within one pass every
call of a shared layer has the whole gradient; of a table, the rows that the call looked up.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from trainobs.records import SiteRecord

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Delivered:
    """A weight and its gradient, in the layer's own layout.

    Attributes
    ----------
    weight : array
        Its values before the step; of a table, those of `rows`.
    gradient : array of the same shape, or None
        dJ/dW, all passes added; None if no gradient came.
    penalty : array of the same shape, or None
        What the weight's own regulariser has in the gradient.
    rows : int array of shape (u,) or None
        Of a table, every row that a call looked up.
    """

    weight: Array
    gradient: Array | None
    penalty: Array | None
    rows: Array | None


def delivered(calls: Sequence[SiteRecord]) -> Delivered:
    """Put together what the calls of one weight, or of one part of it, recorded.

    Parameters
    ----------
    calls : sequence of SiteRecord
        All those of one `SiteRecord.key` in a step.

    Returns
    -------
    Delivered
    """
    rows = _rows(calls)
    weight = _whole([(call.rows, call.kernel) for call in calls], rows)
    assert weight is not None
    penalty = _whole([(call.rows, call.penalty_gradient) for call in calls], rows)
    return Delivered(weight, _gradient(calls, rows), penalty, rows)


def _rows(calls: Sequence[SiteRecord]) -> Array | None:
    looked_up = [np.asarray(call.rows) for call in calls if call.rows is not None]
    return np.unique(np.concatenate(looked_up)) if looked_up else None


def _gradient(calls: Sequence[SiteRecord], rows: Array | None) -> Array | None:
    """dJ/dW, the sum of all passes."""
    passes: dict[int, list[SiteRecord]] = {}
    for call in calls:
        passes.setdefault(call.loss, []).append(call)
    wholes = (_whole([(call.rows, call.kernel_gradient) for call in one], rows) for one in passes.values())
    known = [whole for whole in wholes if whole is not None]
    return functools.reduce(np.add, known) if known else None


def _whole(pieces: Iterable[tuple[Array | None, Array | None]], rows: Array | None) -> Array | None:
    """One array shaped like the weight, from each call's rows and values; None without any values."""
    known = [(own_rows, np.asarray(values)) for own_rows, values in pieces if values is not None]
    if not known:
        return None
    first = known[0][1]
    if rows is None:
        return first
    whole = np.zeros((rows.size, *first.shape[1:]))
    for own_rows, values in known:
        whole[np.searchsorted(rows, np.asarray(own_rows))] = values
    return whole
