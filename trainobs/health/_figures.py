"""From one recorded step to the figures of every weight."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from trainobs.health._activations import speakers, with_activations
from trainobs.health._gradients import Moved, with_gradient
from trainobs.health._parts import Whole, by_weight
from trainobs.health._samples import Samples, samples_of, shift
from trainobs.health._scales import with_scales
from trainobs.health._weight_health import WeightHealth
from trainobs.records import Rows, SiteRecord, StepRecord, WeightRecord
from trainobs.thresholds import Thresholds


@np.errstate(invalid="ignore", over="ignore", divide="ignore")  # NaN in, NaN out: that is a finding
def figures(
    record: StepRecord, thresholds: Thresholds, moved: Moved, before: Samples | None = None
) -> tuple[WeightHealth, ...]:
    """The figures of every weight of a step.

    Parameters
    ----------
    record : StepRecord
    thresholds : Thresholds
        Its `dead_activity` and `near_zero.slope_atol`.
    moved : Moved
        What is known of the weights after the step, for the update ratio.
    before : Samples, optional
        Activations at an earlier check, for the shift.

    Returns
    -------
    tuple of WeightHealth
        In the order of the forward pass; weights of layers whose kind is not known come last.

    Notes
    -----
    Each weight counts once: calls of a shared layer hold the same gradient, parts of a weight (gates) are
    put together, gradients of several passes (`SiteRecord.loss`) are added. A table's figures are those of
    the rows that were looked up.
    """
    speaking = speakers(record.sites)
    outputs = {output.node for output in record.outputs}
    weights = [
        _of_sites(sites, thresholds, [site for site in sites if id(site) in speaking], outputs, moved)
        for sites in by_weight(record.sites)
    ]
    weights += [_of_weight(weight) for weight in record.weights]
    now = samples_of(record.sites)
    shifts = {layer: shift((before or {}).get(layer, {}), sample) for layer, sample in now.items()}
    return tuple(dataclasses.replace(w, shift=shifts.get(w.layer, math.nan)) for w in weights)


def _of_sites(
    sites: Sequence[SiteRecord],
    thresholds: Thresholds,
    speaking: Sequence[SiteRecord],
    outputs: set[int],
    moved: Moved,
) -> WeightHealth:
    """The figures of a weight with a site for each call and part; speakers tell what its activation does."""
    health, whole = _identity(sites, outputs), Whole.of(sites)
    if health.trainable:
        health = with_gradient(health, whole.gradient)
    health = with_scales(health, whole)
    health = with_activations(health, speaking, thresholds)
    ratio = moved.ratio(health.weight, whole.weight, whole.rows)
    return dataclasses.replace(health, update_ratio=ratio)


def _identity(sites: Sequence[SiteRecord], outputs: set[int]) -> WeightHealth:
    first = sites[0]
    return WeightHealth(
        weight=first.weight,
        layer=first.layer,
        kind=first.kind,
        role=first.role,
        dtype=first.dtype,
        trainable=first.trainable,
        cancelled=all(site.cancels for site in sites),
        at_output=all(site.activation_node in outputs for site in sites),
        size=math.prod(first.shape) if first.shape else int(first.kernel.size),
    )


def _of_weight(weight: WeightRecord) -> WeightHealth:
    """The figures of a weight whose layer is not known: those of the gradient alone."""
    health = WeightHealth(
        weight=weight.weight,
        layer=weight.layer,
        kind=weight.kind,
        role="",
        dtype=weight.dtype,
        trainable=weight.trainable,
        cancelled=False,
        at_output=False,
        size=math.prod(weight.shape),
    )
    gradient = weight.gradient
    dense = gradient.dense(weight.shape) if isinstance(gradient, Rows) else gradient
    return with_gradient(health, dense) if weight.trainable else health
