"""Factors that are live, but never together: none alone keeps a gradient near zero, two of them do."""

from __future__ import annotations

from trainobs.analysis import Case, Cause, SiteFigures
from trainobs.diagnosis._factors import is_joint
from trainobs.mechanisms import (
    FiresOnNothing,
    Mechanism,
    OffAtErrors,
    ReadsNothingAtErrors,
    forgotten_state,
    rectifies,
)

_PAIRS = (Cause.ACTIVATION_BACKPROP, Cause.INPUT_BACKPROP, Cause.INPUT_ACTIVATION)


def never_together(case: Case, figures: SiteFigures) -> Mechanism | None:
    """The mechanism, where most of a weight's near-zero gradients are lost by two factors that take turns.

    Not where both are small everywhere: that is a decay.
    """
    if not is_joint(figures):
        return None
    pair = max(_PAIRS, key=lambda pair: figures.used_shares[pair])
    if pair is Cause.ACTIVATION_BACKPROP:
        return OffAtErrors.at(case, case.flow.site_of_activation(figures.info.activation_node) or figures)
    parts = figures.mean_likelihoods
    if pair is Cause.INPUT_ACTIVATION:
        apart = rectifies(case, figures) and parts["p_input_activation"] >= 1 - case.near_zero.rtol
        return FiresOnNothing.at(figures) if apart else None
    if parts["p_input"] + parts["p_backprop"] < 1:
        return None
    forgotten = forgotten_state(case, figures.info.node)
    if forgotten is not None:  # what is read early never meets an error that comes late
        return forgotten
    makers = (OffAtErrors.at(case, maker) for maker in case.flow.upstream_sites(figures.info.node))
    return next((maker for maker in makers if maker is not None), ReadsNothingAtErrors.at(figures))
