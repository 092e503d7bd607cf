"""Which layers suffer: what they have to learn does not reach them. Definitions: docs/definitions.md."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from trainobs.analysis._weight_figures import WeightFigures


def suffering_layers(
    weights: Iterable[WeightFigures], limit: float, *, zeros_count: bool = True
) -> frozenset[str]:
    """Layers of whose used weights this part or more has near-zero gradients, or none.

    Parameters
    ----------
    weights : iterable of WeightFigures
    limit : float
        See `Thresholds.near_zero_weights`.
    zeros_count : bool
        Whether gradients of exactly 0 count. Over few positions they may be chance.
    """
    number: collections.Counter[str] = collections.Counter()
    lost: collections.Counter[str] = collections.Counter()
    for figures in weights:
        if figures.info.trainable:
            layer, used = figures.info.layer, figures.used
            zeros = 0 if zeros_count else used.zero
            number[layer] += used.number - zeros
            lost[layer] += (used.near_zero if figures.info.connected else used.number) - zeros
    return frozenset(layer for layer, of in number.items() if of > 0 and lost[layer] >= limit * of)
