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

from trainobs.records import SiteRecord
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
    if len(pieces) == 1:
        return np.asarray(pieces[0].weight, np.float64)
    own = [
        np.asarray(first.op.canonical_kernel(piece.weight), np.float64)
        for piece, first in zip(pieces, firsts, strict=True)
    ]
    if sum(part.size for part in own) != math.prod(firsts[0].shape):
        return None
    return np.concatenate(own, axis=-1).reshape(firsts[0].shape)
