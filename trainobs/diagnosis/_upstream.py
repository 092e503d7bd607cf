"""Why units are off, and why what a kernel reads is near zero: the walk towards the data.

The two ask each other: units are off for want of input, and input is near zero where units are off.
"""

from __future__ import annotations

from trainobs.analysis import Case, SiteFigures
from trainobs.diagnosis._factors import is_joint
from trainobs.diagnosis._origin import Origin, at_its_layer
from trainobs.mechanisms import (
    DeadActivation,
    Masked,
    Mechanism,
    SaturatedActivation,
    UnscaledInput,
    VanishingGradient,
    VanishingSignal,
    ZeroInput,
    ZeroScale,
    forgotten_state,
    levels_its_input,
    rectifies,
    weights_at_fault,
)
from trainobs.records import DATA

#: Keys of the weights that a walk has passed.
Seen = frozenset[str]


def why_off(case: Case, figures: SiteFigures, seen: Seen = frozenset()) -> Origin:
    """Why the units of a layer are off."""
    figures = case.flow.site_of_activation(figures.info.activation_node) or figures
    silencing = silencing_scale(case, figures)
    if silencing is not None:
        return at_its_layer(silencing)
    if not figures.off_fraction:
        return _none_is_off(case, figures, seen)
    reason, _ = figures.main_off_reason(case.thresholds.firing)
    step = f"{figures.info.activation.layer} off: {reason}"
    at_fault = _own_fault(case, figures, reason)
    if at_fault is not None:
        return Origin(at_fault, (step,))
    if rectifies(case, figures) and reason == "input" and figures.info.key not in seen:
        pushed = DeadActivation.pushed_off(case, figures)
        besides = [(DeadActivation.cause, figures.info.layer)] if pushed else []
        return why_zero(case, figures, seen | {figures.info.key}).after(step).beside(besides)
    kind = DeadActivation if rectifies(case, figures) else SaturatedActivation
    return Origin(kind.of(case, figures), (step,))


def _none_is_off(case: Case, figures: SiteFigures, seen: Seen) -> Origin:
    """Why slopes take a gradient though none of a layer's own units is off: by a gate, or little by little."""
    node = figures.info.node
    off = [gate for gate in case.flow.gates(node) if mostly_off(case, gate)]
    if off:
        return why_off(case, min(off, key=liveness), seen)
    return at_its_layer(VanishingGradient.along(case, figures.info.layer, [node]))


def silencing_scale(case: Case, figures: SiteFigures) -> ZeroScale | None:
    """A normalisation between a kernel and its activation whose gamma is zero."""
    scales = (ZeroScale.at(case, node) for node in case.flow.between(figures))
    return next((scale for scale in scales if scale is not None), None)


def _own_fault(case: Case, figures: SiteFigures, reason: str) -> Mechanism | None:
    """What keeps a layer's units off at the layer itself: weights that say nothing, or unscaled data."""
    at_fault = None if figures.info.normalised else weights_at_fault(case, figures)
    if at_fault is None and reason != "bias" and UnscaledInput.holds(case, figures):
        return UnscaledInput.of(case, figures)
    return at_fault


def mostly_off(case: Case, figures: SiteFigures) -> bool:
    """Whether most of a layer's units are off, dead or saturated."""
    return DeadActivation.holds(case, figures) or SaturatedActivation.holds(case, figures)


def liveness(figures: SiteFigures) -> float:
    """Part of a kernel's units and positions that are not off."""
    return 1.0 - figures.off_fraction


# ---- towards the data ----------------------------------------------------------------------------


def why_zero(case: Case, figures: SiteFigures, seen: Seen = frozenset()) -> Origin:
    """Why what a kernel multiplies is near zero."""
    if levels_its_input(case, figures):
        return at_its_layer(Masked.at(case, figures.info.node))
    makers = [site for site in _makers(case, figures) if site.info.key not in seen]
    if not makers:
        return Origin(ZeroInput.of(figures), ("data",))
    source = min(makers, key=liveness)
    stopping = _scale_before(case, figures.info.node) or silencing_scale(case, source)
    mechanism = stopping or weights_at_fault(case, source)
    if mechanism is not None:
        return at_its_layer(mechanism)
    return _through(case, figures, source, seen | {figures.info.key})


def _makers(case: Case, figures: SiteFigures) -> list[SiteFigures]:
    """The kernels that make what one reads; the gates, for a recurrent one."""
    node, flow = figures.info.node, case.flow
    return flow.gates(node) if figures.info.role == "recurrent" else flow.upstream_sites(node)


def _through(case: Case, figures: SiteFigures, source: SiteFigures, seen: Seen) -> Origin:
    """Why a kernel before another one gives it nothing, if its weights are as they should be."""
    if mostly_off(case, source):
        return why_off(case, source, seen)
    if case.shrinks(source):
        return _vanishing(case, source)
    if case.is_near_zero(source.input_rms) and source.info.role == "kernel":
        return why_zero(case, source, seen).after(source.info.layer)
    if has_shrunk(case, case.output_rms(source)) or is_joint(figures) or figures.info.role == "recurrent":
        return _vanishing(case, source)
    return _stopped_between(case, figures)


def has_shrunk(case: Case, rms: float) -> bool:
    """Whether an output is so near to near zero that it has shrunk on its way."""
    return rms <= case.thresholds.shrunk * case.near_zero.activation_limit


def _vanishing(case: Case, source: SiteFigures) -> Origin:
    return Origin(VanishingSignal.before(case, source), (source.info.layer,))


def _scale_before(case: Case, node: int) -> ZeroScale | None:
    """A scale of zero in front of a node, with no kernel in between."""
    producers = case.flow.records[node].producers
    while len(producers) == 1 and producers[0] != DATA and case.flow.site_at(producers[0]) is None:
        scale = ZeroScale.at(case, producers[0])
        if scale is not None:
            return scale
        producers = case.flow.records[producers[0]].producers
    return None


def _stopped_between(case: Case, figures: SiteFigures) -> Origin:
    """A layer without a kernel, between two live ones, puts out near-zero values."""
    node = case.flow.records[figures.info.node].producers[0]
    maker = None if node == DATA else silent_input(case, node)
    if maker is not None:
        return maker
    if node == DATA or not case.is_near_zero(case.flow.records[node].output.rms):
        own = "" if figures.carries else figures.info.weight.rsplit("/")[-1]
        return at_its_layer(ZeroInput.of(figures, multiplied_by=own))
    return at_its_layer(Masked.at(case, node))


# ---- what a node multiplies with -----------------------------------------------------------------


def silent_input(case: Case, node: int) -> Origin | None:
    """Why one of the inputs of a node is near zero, if one is: a product passes nothing on.

    A state that is not carried on is one, too.
    """
    forgotten = forgotten_state(case, node)
    if forgotten is not None:
        return at_its_layer(forgotten)
    if len(case.flow.records[node].producers) < 2:
        return None
    maker = min(case.flow.upstream_sites(node), key=case.output_rms, default=None)
    if maker is None or not case.is_near_zero(case.output_rms(maker)):
        return None
    return _why_silent(case, maker)


def _why_silent(case: Case, maker: SiteFigures) -> Origin | None:
    """Why a kernel gives next to nothing."""
    at_fault = weights_at_fault(case, maker)
    if at_fault is not None:
        return at_its_layer(at_fault)
    if mostly_off(case, maker):
        return why_off(case, maker)
    if has_shrunk(case, maker.input_rms):
        return why_zero(case, maker).after(maker.info.layer)
    return _vanishing(case, maker) if case.shrinks(maker) else None
