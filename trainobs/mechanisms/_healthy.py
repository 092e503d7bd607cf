"""What weights and preactivations would be in a healthy model: counterfactuals that mechanisms share."""

from __future__ import annotations

import math

from trainobs.analysis import Case
from trainobs.counterfactuals import (
    AllStandardised,
    Counterfactual,
    FreshWeights,
    StandardisedPreactivation,
    Untried,
)


def fresh_weights(case: Case, layer: str, role: str) -> Counterfactual | Untried:
    """The weights of a role in a layer, drawn afresh: a table of unit size (a*), kernels of He's scale."""
    sites = [site for site in case.sites.values() if (site.info.layer, site.info.role) == (layer, role)]
    if not sites:
        return Untried(f"{layer} has no {role}")
    healthy = sites[0].healthy_weight
    rms = case.near_zero.activation_scale if role == "table" or math.isnan(healthy) else healthy
    return FreshWeights(layer, tuple(dict.fromkeys(site.info.weight for site in sites)), rms)


def every_layer_standardised(case: Case) -> Counterfactual | Untried:
    """Every activation behind a kernel gets values of zero mean and unit variance."""
    layers = dict.fromkeys(site.info.activation.layer for site in case.kernels)
    return AllStandardised(tuple(layers)) if layers else Untried("no kernel is on the way")


def standardised_at(case: Case, layer: str) -> Counterfactual:
    """The preactivation of a layer with zero mean and unit variance, wherever its activation is applied."""
    sites = (site.info for site in case.sites.values() if site.info.layer == layer)
    return StandardisedPreactivation(next((info.activation.layer for info in sites), layer))
