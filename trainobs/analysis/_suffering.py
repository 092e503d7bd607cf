"""Which layers suffer: what they have to learn does not reach them. Definitions: docs/definitions.md."""

from __future__ import annotations

from collections.abc import Iterable

from trainobs.analysis._weight_figures import WeightFigures

_MODIFYING = ("bias", "scale")


def suffering_layers(
    weights: Iterable[WeightFigures], limit: float, *, zeros_count: bool = True
) -> frozenset[str]:
    """Layers of whose used weights this part or more has near-zero gradients, or none.

    Of all of them, or of those that carry signals: biases and scales only modify these.

    Parameters
    ----------
    weights : iterable of WeightFigures
    limit : float
        See `Thresholds.near_zero_weights`.
    zeros_count : bool
        Whether gradients of exactly 0 count. Over few positions they may be chance.
    """
    layers: dict[str, list[WeightFigures]] = {}
    for figures in weights:
        if figures.info.trainable:
            layers.setdefault(figures.info.layer, []).append(figures)
    return frozenset(
        name
        for name, own in layers.items()
        if _are_lost(own, limit, zeros_count) or _are_lost(_carrying(own), limit, zeros_count)
    )


def _carrying(weights: list[WeightFigures]) -> list[WeightFigures]:
    return [figures for figures in weights if figures.info.role not in _MODIFYING]


def _are_lost(weights: list[WeightFigures], limit: float, zeros_count: bool) -> bool:
    number = lost = 0
    for figures in weights:
        used = figures.used
        zeros = 0 if zeros_count else used.zero
        number += used.number - zeros
        lost += (used.near_zero if figures.info.connected else used.number) - zeros
    return number > 0 and lost >= limit * number
