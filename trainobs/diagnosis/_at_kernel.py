"""What is seen at one kernel, or right before it, without a walk."""

from __future__ import annotations

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms import (
    ConstantOutput,
    DeadActivation,
    Mechanism,
    OffUnits,
    OneSignedInput,
    SaturatedActivation,
    UnscaledInput,
    ZeroScale,
    weights_at_fault,
)
from trainobs.records import DATA


def silencing_scale(case: Case, figures: SiteFigures) -> ZeroScale | None:
    """A normalisation between a kernel and its activation whose gamma is zero."""
    scales = (ZeroScale.at(case, node) for node in case.flow.between(figures))
    return next((scale for scale in scales if scale is not None), None)


def mostly_off(case: Case, figures: SiteFigures) -> bool:
    """Whether most of a layer's units are off, dead or saturated."""
    return DeadActivation.holds(case, figures) or SaturatedActivation.holds(case, figures)


def liveness(figures: SiteFigures) -> float:
    """Part of a kernel's units and positions that are not off."""
    return 1.0 - figures.off_fraction


def has_shrunk(case: Case, rms: float) -> bool:
    """Whether an output is so near to near zero that it has shrunk on its way."""
    return rms <= case.thresholds.shrunk * case.near_zero.activation_limit


def own_fault(case: Case, figures: SiteFigures, reason: str) -> Mechanism | None:
    """What keeps a layer's units off at the layer itself: its softmax, its weights, or the data."""
    constant = ConstantOutput.of_units(case, figures)
    if constant is not None:
        return constant
    at_fault = None if figures.info.normalised else weights_at_fault(case, figures)
    if at_fault is not None or reason == "bias":
        return at_fault
    kinds: tuple[type[OffUnits], ...] = (UnscaledInput, OneSignedInput)
    return next((kind.of(case, figures) for kind in kinds if kind.holds(case, figures)), None)


def scale_before(case: Case, node: int) -> ZeroScale | None:
    """A scale of zero in front of a node, with no kernel in between."""
    producers = case.flow.records[node].producers
    while len(producers) == 1 and producers[0] != DATA and case.flow.site_at(producers[0]) is None:
        scale = ZeroScale.at(case, producers[0])
        if scale is not None:
            return scale
        producers = case.flow.records[producers[0]].producers
    return None
