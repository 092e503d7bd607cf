"""One mechanism, one finding: the origins of all walks, put together by rules, each pure and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from trainobs.analysis import Case
from trainobs.diagnosis._downstream import Origins
from trainobs.diagnosis._origin import Origin
from trainobs.mechanisms import (
    Cancellation,
    DeadActivation,
    Disconnected,
    Exploding,
    HeldSmall,
    InnerTermDominates,
    Key,
    Masked,
    Mechanism,
    Silenced,
    VanishingAtNode,
    VanishingGradient,
    VanishingSignal,
    ZeroLossGradient,
    ZeroWeights,
)


@dataclasses.dataclass(frozen=True)
class Traces:
    """What is known before findings are made of it.

    Attributes
    ----------
    direct : tuple of Origin
        The mechanisms that show by themselves.
    walked : dict of str to tuple of Origin
        By key of the weight: where its gradient is lost.
    asking : frozenset of str
        The weights that ask for an explanation of their own; of the others it is only said whether they
        suffer from a mechanism that is known.
    """

    direct: Origins
    walked: dict[str, Origins]
    asking: frozenset[str]

    def roots(self) -> dict[Key, Origin]:
        """What becomes a finding: mechanisms that show by themselves, and those of weights that ask."""
        asked = (o for weight, origins in self.walked.items() if weight in self.asking for o in origins)
        roots: dict[Key, Origin] = {}
        for origin in (*self.direct, *(o for o in asked if not is_by_design(o))):
            roots.setdefault(origin.key, origin)
        return roots

    def mapped(self, change: Callable[[Origin], Origin]) -> Traces:
        """The same traces, with every origin changed."""
        walked = {weight: tuple(map(change, origins)) for weight, origins in self.walked.items()}
        return dataclasses.replace(self, direct=tuple(map(change, self.direct)), walked=walked)


Rule = Callable[[Traces, Case], Traces]


def outputs_explain_silence(traces: Traces, case: Case) -> Traces:
    """A mismatch or mask of an output explains a silent loss, and the other mechanisms at its layer."""
    explaining = [o.mechanism for o in traces.direct if o.mechanism.explains_output]
    if not explaining:
        return traces

    def better(origin: Origin) -> Origin:
        silent = case.loss_is_silent or isinstance(origin.mechanism, ZeroLossGradient)
        fitting = [m for m in explaining if m.layer == origin.mechanism.layer or silent]
        return origin.by(fitting[0]) if fitting else origin

    direct = tuple(o for o in traces.direct if not isinstance(o.mechanism, ZeroLossGradient))
    return dataclasses.replace(traces.mapped(better), direct=direct)


def one_slow_decay(traces: Traces, case: Case) -> Traces:
    """Every slow decay is the first one: it is one mechanism, seen from several kernels."""
    roots = [origin.mechanism for origin in traces.roots().values()]
    first = next((mechanism for mechanism in roots if is_slow_decay(mechanism)), None)
    if first is None:
        return traces

    def joined(origin: Origin) -> Origin:
        moved = is_slow_decay(origin.mechanism)
        mechanism = dataclasses.replace(origin.mechanism, layer=first.layer) if moved else origin.mechanism
        return dataclasses.replace(origin, mechanism=mechanism)

    return traces.mapped(joined)


def penalties_hold_kernels(traces: Traces, case: Case) -> Traces:
    """Where penalties hold every kernel that is too small, one of them explains what is lost by these.

    Of units whose kernel is next to nothing the bias alone decides whether they are off.
    """
    held = {o.mechanism.layer: o.mechanism for o in traces.direct if isinstance(o.mechanism, HeldSmall)}
    small = {figures.info.layer for figures in case.small_kernels}
    if not held or not small <= held.keys():
        return traces

    def explained(origin: Origin) -> Origin:
        own = held.get(origin.mechanism.layer)
        if isinstance(origin.mechanism, ZeroWeights | DeadActivation):
            return origin if own is None else origin.by(own)
        return origin.by(own or next(iter(held.values()))) if is_slow_decay(origin.mechanism) else origin

    return traces.mapped(explained)


def inner_terms_are_loud(traces: Traces, case: Case) -> Traces:
    """Where a term of the loss reads the net before its end, the gradient need not have grown up to there."""
    if not any(isinstance(o.mechanism, InnerTermDominates) for o in traces.direct):
        return traces
    direct = tuple(o for o in traces.direct if not isinstance(o.mechanism, Exploding))
    return dataclasses.replace(traces, direct=direct)


def zeros_wait_for_zeros(traces: Traces, case: Case) -> Traces:
    """A kernel of zeros whose gradient is kept by another one, which will grow, waits for that one too."""
    waits: dict[str, Mechanism] = {}
    for weight, origins in traces.walked.items():
        growing = [
            o.mechanism for o in origins if isinstance(o.mechanism, ZeroWeights) and o.mechanism.learns
        ]
        if growing and len(growing) == len(origins) and case.weights[weight].info.role == "kernel":
            waits[case.weights[weight].info.layer] = growing[0]

    def followed(origin: Origin) -> Origin:
        other = waits.get(origin.mechanism.layer) if isinstance(origin.mechanism, ZeroWeights) else None
        return origin if other is None else origin.by(other)

    return traces.mapped(followed)


def is_slow_decay(mechanism: Mechanism) -> bool:
    """Whether gradients or signals vanish over several layers, and not at one node."""
    return isinstance(mechanism, VanishingGradient | VanishingSignal)


def is_by_design(origin: Origin) -> bool:
    """Whether the terms of a bias cancel because the layers behind are invariant to it."""
    return isinstance(origin.mechanism, Cancellation) and origin.mechanism.by_design


def zeros_follow_the_cut(traces: Traces, case: Case) -> Traces:
    """Where a layer cuts gradients off, or shrinks them, that explains why it puts out next to nothing."""
    cuts = {
        origin.mechanism.layer: origin.mechanism
        for origin in traces.roots().values()
        if isinstance(origin.mechanism, Disconnected | VanishingAtNode)
    }

    def followed(origin: Origin) -> Origin:
        is_masked = isinstance(origin.mechanism, Masked | Silenced)
        cut = cuts.get(origin.mechanism.layer) if is_masked else None
        return origin if cut is None else origin.by(cut)

    return traces.mapped(followed)


def one_cut_is_one_finding(traces: Traces, case: Case) -> Traces:
    """Gradients that end in one line, or of a whole model for want of a way to the loss, end by one cut."""
    whole = not any(figures.info.connected for figures in case.weights.values())
    first: dict[object, Mechanism] = {}
    for origin in traces.roots().values():
        if isinstance(origin.mechanism, Disconnected):
            first.setdefault(_cut_of(origin.mechanism, whole), origin.mechanism)

    def joined(origin: Origin) -> Origin:
        cut = _cut_of(origin.mechanism, whole) if isinstance(origin.mechanism, Disconnected) else None
        return origin if cut is None or cut not in first else origin.by(first[cut])

    return traces.mapped(joined)


def _cut_of(mechanism: Disconnected, whole: bool) -> object:
    """What tells a cut from others: its line, or else its layer."""
    place = mechanism.place
    if place is not None and place.file and mechanism.where == "operation":
        return place.file, place.line
    return "unused" if whole and mechanism.where == "unused" else mechanism.key


def only_what_is_a_finding(traces: Traces, case: Case) -> Traces:
    """If a weight does not ask, only origins that are findings count; a bias that cancels keeps its own."""
    roots = traces.roots()
    walked = {
        weight: tuple(o for o in origins if o.key in roots or is_by_design(o))
        for weight, origins in traces.walked.items()
    }
    return dataclasses.replace(traces, walked={weight: o for weight, o in walked.items() if o})


#: In this order.
MERGE_RULES: tuple[Rule, ...] = (
    outputs_explain_silence,
    one_slow_decay,
    penalties_hold_kernels,
    inner_terms_are_loud,
    zeros_wait_for_zeros,
    zeros_follow_the_cut,
    only_what_is_a_finding,
)


def merge(traces: Traces, case: Case) -> Traces:
    """All rules, one after the other."""
    for rule in MERGE_RULES:
        traces = rule(traces, case)
    return traces
