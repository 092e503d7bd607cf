"""A weight and its gradient, put together from the sites that hold its calls and parts.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W       | a weight before the step                                       |
| g       | dJ/dW, before clipping and the optimizer                       |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from trainobs.records import Rows, SiteRecord, StepRecord
from trainobs.statistics import Delivered, delivered

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """All calls, passes and parts (gates, say) of a weight together.

    Attributes
    ----------
    weight : array or None
        W, of its own shape (of a table, its rows `rows`); None if the parts don't make it up.
    gradient : array or None
        g of all parts, flat; None where none arrived.
    rows : int array or None
        Of a table, the rows that were looked up by any call.
    firsts : tuple of SiteRecord
        The first call of each part.
    """

    weight: Array | None
    gradient: Array | None
    rows: Array | None
    firsts: tuple[SiteRecord, ...]

    @classmethod
    def of(cls, sites: Sequence[SiteRecord]) -> Whole:
        """Put together what all sites of one weight recorded."""
        parts = parts_of(sites)
        pieces = [delivered(calls) for calls in parts.values()]
        firsts = tuple(calls[0] for calls in parts.values())
        return cls(_weight(pieces, firsts), _gradient(pieces), pieces[0].rows, firsts)


def parts_of(sites: Iterable[SiteRecord]) -> dict[str, list[SiteRecord]]:
    """The calls of each part of a weight, by the part's name."""
    parts: dict[str, list[SiteRecord]] = {}
    for site in sites:
        parts.setdefault(site.part, []).append(site)
    return parts


def _gradient(pieces: Sequence[Delivered]) -> Array | None:
    known = [piece.gradient.reshape(-1) for piece in pieces if piece.gradient is not None]
    return np.concatenate(known) if known else None


def _weight(pieces: Sequence[Delivered], firsts: Sequence[SiteRecord]) -> Array | None:
    return _together([piece.weight for piece in pieces], firsts)


def _together(pieces: Sequence[Array | None], firsts: Sequence[SiteRecord]) -> Array | None:
    """What parts have of a weight or its gradient as one array; None if they don't make it up."""
    known = [piece for piece in pieces if piece is not None]
    if len(known) < len(pieces):
        return None
    if len(known) == 1:
        return np.asarray(known[0], np.float64)
    own = [
        np.asarray(first.op.canonical_kernel(piece), np.float64)
        for piece, first in zip(known, firsts, strict=True)
    ]
    if sum(part.size for part in own) != math.prod(firsts[0].shape):
        return None
    return np.concatenate(own, axis=-1).reshape(firsts[0].shape)


def whole_gradients(record: StepRecord) -> dict[str, Array] | None:
    """By path: the gradient of every trainable weight that got one, of its shape.

    None if one can't be put together.
    """
    found: dict[str, Array] = {}
    for sites in by_weight(record.sites):
        if sites[0].trainable and any(site.kernel_gradient is not None for site in sites):
            gradient = _whole_gradient(sites)
            if gradient is None:
                return None
            found[sites[0].weight] = gradient
    for weight in record.weights:
        if weight.trainable and weight.gradient is not None:
            known = weight.gradient
            found[weight.weight] = known.dense(weight.shape) if isinstance(known, Rows) else known
    return found


def _whole_gradient(sites: Sequence[SiteRecord]) -> Array | None:
    parts = parts_of(sites)
    pieces = [delivered(calls) for calls in parts.values()]
    gradient = _together([piece.gradient for piece in pieces], [calls[0] for calls in parts.values()])
    rows, shape = pieces[0].rows, sites[0].shape
    if gradient is None or rows is None:
        return gradient
    return Rows(rows, gradient).dense(shape)


def by_weight(sites: Iterable[SiteRecord]) -> list[list[SiteRecord]]:
    """The sites of each weight."""
    grouped: dict[str, list[SiteRecord]] = {}
    for site in sites:
        grouped.setdefault(site.weight, []).append(site)
    return list(grouped.values())
