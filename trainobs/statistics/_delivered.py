"""What the step itself computed for a weight: all its calls and passes together.

A step may take several gradients (passes, `SiteRecord.loss`), which are added. Within one pass every
call of a shared layer holds the whole gradient; of a table, the rows that the call looked up.
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
    """Put together what the calls of one weight, or of one part of it, hold of it.

    Parameters
    ----------
    calls : sequence of SiteRecord
        All those of one `SiteRecord.key` in a step.

    Returns
    -------
    Delivered
    """
    rows = _rows(calls)
    weight = _whole(calls, "kernel", rows)
    assert weight is not None
    return Delivered(weight, _gradient(calls, rows), _whole(calls, "penalty_gradient", rows), rows)


def _rows(calls: Sequence[SiteRecord]) -> Array | None:
    looked_up = [np.asarray(call.rows) for call in calls if call.rows is not None]
    return np.unique(np.concatenate(looked_up)) if looked_up else None


def _gradient(calls: Sequence[SiteRecord], rows: Array | None) -> Array | None:
    """dJ/dW, the sum of all passes."""
    passes: dict[int, list[SiteRecord]] = {}
    for call in calls:
        passes.setdefault(call.loss, []).append(call)
    wholes = (_whole(calls_of_pass, "kernel_gradient", rows) for calls_of_pass in passes.values())
    known = [whole for whole in wholes if whole is not None]
    return functools.reduce(np.add, known) if known else None


def _whole(calls: Iterable[SiteRecord], name: str, rows: Array | None) -> Array | None:
    """What the calls hold of one array shaped like the weight; None if they hold nothing."""
    holding = [call for call in calls if getattr(call, name) is not None]
    if not holding:
        return None
    if rows is None:
        return np.asarray(getattr(holding[0], name))
    whole = np.zeros((rows.size, *np.shape(getattr(holding[0], name))[1:]))
    for call in holding:
        whole[np.searchsorted(rows, np.asarray(call.rows))] = getattr(call, name)
    return whole
