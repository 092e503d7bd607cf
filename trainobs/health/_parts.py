"""A weight, and its gradient, put together from the sites that hold its calls and parts.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W       | a weight before the step                                       |
| g       | dJ/dW, before clipping and the optimizer                       |
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trainobs.records import SiteRecord

Array = np.ndarray
#: The calls of each part of a weight (of a gate, say), by the part's name.
Parts = Mapping[str, Sequence[SiteRecord]]


def parts_of(sites: Iterable[SiteRecord]) -> dict[str, list[SiteRecord]]:
    """The calls of each part of a weight, by the part's name."""
    parts: dict[str, list[SiteRecord]] = {}
    for site in sites:
        parts.setdefault(site.part, []).append(site)
    return parts


def rows_of(sites: Sequence[SiteRecord]) -> Array | None:
    """Of a table, the rows that were looked up by any call."""
    looked_up = [site.rows for site in sites if site.rows is not None]
    return np.unique(np.concatenate(looked_up)) if looked_up else None


def whole_weight(parts: Parts, rows: Array | None) -> Array | None:
    """W before the step, of its own shape (of a table, its rows `rows`); None if parts don't make it up."""
    firsts = [calls[0] for calls in parts.values()]
    site = firsts[0]
    if rows is not None:
        whole = np.zeros((rows.size, *site.kernel.shape[1:]), np.float64)
        for call in parts[site.part]:
            whole[np.searchsorted(rows, np.asarray(call.rows))] = call.kernel
        return whole
    if len(firsts) == 1:
        return np.asarray(site.kernel, np.float64)
    pieces = [np.asarray(first.op.canonical_kernel(first.kernel), np.float64) for first in firsts]
    if sum(piece.size for piece in pieces) != math.prod(site.shape):
        return None
    return np.concatenate(pieces, axis=-1).reshape(site.shape)


def whole_gradient(parts: Parts, rows: Array | None) -> Array | None:
    """g of all parts, flat; None where none arrived."""
    gradients = [_gradient(calls, rows) for calls in parts.values()]
    known = [gradient.reshape(-1) for gradient in gradients if gradient is not None]
    return np.concatenate(known) if known else None


def _gradient(calls: Sequence[SiteRecord], rows: Array | None) -> Array | None:
    """dJ/dW of one part of a weight: each pass once, calls of one pass hold the same; None without any."""
    one_of_each_pass = {site.loss: site for site in calls if site.kernel_gradient is not None}
    if not one_of_each_pass:
        return None
    if rows is None:
        return functools.reduce(np.add, (np.asarray(s.kernel_gradient) for s in one_of_each_pass.values()))
    width = np.asarray(calls[0].kernel).shape[1:]
    by_pass = {loss: np.zeros((rows.size, *width)) for loss in one_of_each_pass}
    for site in calls:  # each call holds the rows that it looked up, of the gradient of all calls
        if site.kernel_gradient is not None and site.rows is not None:
            by_pass[site.loss][np.searchsorted(rows, site.rows)] = site.kernel_gradient
    return functools.reduce(np.add, by_pass.values())
