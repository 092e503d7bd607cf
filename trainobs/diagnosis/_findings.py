"""From figures to findings: which mechanisms stop gradients, where, and what suffers from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from trainobs.analysis import Flow, Paths, SiteFigures, WholeLayerFigures, powers
from trainobs.diagnosis._origins import (
    Origin,
    Walk,
    input_detail,
    is_constant_kernel,
    name_inputs,
)
from trainobs.records import DATA, NodeRecord
from trainobs.statistics import OutputStatistics, Statistics
from trainobs.thresholds import Thresholds

Figures = SiteFigures | WholeLayerFigures
SEVERITIES = ("error", "warning", "info")
_SEVERITY = {
    "frozen": "info",
    "cancellation": "info",
    "zero_loss_gradient": "warning",
    "exploding": "warning",
    "unexplained": "warning",
}

#: Activations that make probabilities of logits.
_PROBABILITIES = ("sigmoid", "softmax")

#: The range of the activations that bound their output, for targets that lie outside.
_RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "relu6": (0.0, 6.0),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One mechanism that keeps gradients near zero (or breaks them).

    Attributes
    ----------
    severity : {"error", "warning", "info"}
    cause : str
        From the closed vocabulary of docs/findings.md.
    layer : str
        The layer that holds the mechanism.
    share : float
        Part of the model's weights whose gradients it keeps near zero.
    affects : tuple of str
        Other layers that suffer from it.
    detail : dict
        Numbers for the evidence sentence.
    """

    severity: str
    cause: str
    layer: str
    share: float
    affects: tuple[str, ...]
    detail: dict[str, float | str] = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All findings, and the origins of each affected weight, the largest share first."""

    findings: tuple[Finding, ...]
    origins: dict[str, tuple[Origin, ...]]


def diagnose(
    statistics: Statistics,
    sites: dict[str, SiteFigures],
    others: dict[str, WholeLayerFigures],
    flow: Flow,
    settings: Thresholds,
    gradient_floor: float,
) -> Diagnosis:
    """Find the mechanisms behind near-zero, exploding and broken gradients.

    Parameters
    ----------
    statistics : Statistics
    sites : dict of str to SiteFigures
        By `SiteInfo.key`.
    others : dict of str to WholeLayerFigures
        By path of the weight.
    flow : Flow
    settings : Thresholds
    gradient_floor : float
        g_out at or below this is `zero_loss_gradient`.

    Returns
    -------
    Diagnosis
        Findings, the worst first.
    """
    broken = _non_finite(statistics, sites, flow)
    if broken is not None:
        return Diagnosis((Finding("error", broken.cause, broken.layer, 1.0, (), broken.detail),), {})
    quiet = statistics.loudest_output()[0] <= gradient_floor and _is_known(statistics, sites, settings)
    silent = quiet and any(figures.info.connected for figures in (sites | others).values())
    ways = Paths(flow, _quieter(statistics), measured=statistics.backprop == "tape")
    walk = Walk(flow, settings, ways, silent, _learning(others, settings))
    outputs = [*_output_mismatches(statistics, flow), *_masked(statistics, flow, whole=True)]
    origins = _origins(sites, walk, settings, outputs) | _other_origins(others, walk, settings)
    mismatched = {origin.layer for origin in outputs}
    direct = [*outputs, *_direct(statistics, sites, flow, settings, walk, silent, mismatched)]
    known = sites | others
    walked = [o for weight, found in origins.items() for o in found if _asks(known[weight], o, settings)]
    roots: dict[tuple[str, str], Origin] = {}
    for origin in (*direct, *_one_decay(walked)):
        roots.setdefault(origin.key, origin)
    origins = {
        weight: tuple(_of_one_layer(o, roots) for o in _one_decay(found, roots))
        for weight, found in origins.items()
    }
    roots = {key: origin for key, origin in roots.items() if _of_one_layer(origin, roots) is origin}
    kept = {
        w: tuple(o for o in found if o.key in roots or _is_redundant(known[w], o))
        for w, found in origins.items()
    }
    origins = {weight: found for weight, found in kept.items() if found}
    findings = [_finding(root, origins, known) for root in roots.values()]
    order = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    return Diagnosis(tuple(sorted(findings, key=lambda f: (order[f.severity], -f.share))), origins)


def _learning(others: dict[str, WholeLayerFigures], settings: Thresholds) -> frozenset[str]:
    """Layers of unknown kind of which some weight gets a live gradient."""
    live = (o for o in others.values() if o.info.trainable and o.info.connected)
    return frozenset(o.info.layer for o in live if o.near_zero_fraction <= settings.affected)


def _is_known(statistics: Statistics, sites: dict[str, SiteFigures], settings: Thresholds) -> bool:
    """Whether what the loss sends was measured, or estimated well enough to say that it is nothing."""
    if statistics.backprop == "tape":
        return True
    nodes = {output.node for output in statistics.outputs}
    trusts = [figures.pinv_trust for figures in sites.values() if figures.info.activation_node in nodes]
    return min(trusts, default=0.0) >= settings.pinv_trust


def _one_decay(origins: Iterable[Origin], roots: dict[tuple[str, str], Origin] | None = None) -> list[Origin]:
    """Let every slow decay be that of the first one's layer: it is one mechanism, seen from many kernels."""
    origins = list(origins)
    known = [o for o in (origins if roots is None else roots.values()) if _is_decay(o)]
    return [dataclasses.replace(o, layer=known[0].layer) if _is_decay(o) and known else o for o in origins]


def _is_decay(origin: Origin) -> bool:
    """Whether gradients vanish over several layers, and not at one node."""
    return origin.cause == "vanishing" and origin.detail.get("direction") != "node"


def _of_one_layer(origin: Origin, roots: dict[tuple[str, str], Origin]) -> Origin:
    """Let a layer that puts out zeros only be one that cuts gradients off, if it does: rounding, say."""
    cut = roots.get(("disconnected", origin.layer)) if origin.cause == "masked" else None
    return origin if cut is None else dataclasses.replace(cut, steps=origin.steps, share=origin.share)


def _quieter(statistics: Statistics) -> dict[int, float]:
    """Of each output that a loss reads, how many powers of ten less it gets than the loudest one."""
    loudest = statistics.loudest_output()[0]
    touched = {o.node: o.g_out for o in statistics.outputs if o.touched and o.node != DATA}
    return {node: powers(g_out / loudest) if loudest else 0.0 for node, g_out in touched.items()}


def _asks(figures: Figures, origin: Origin, settings: Thresholds) -> bool:
    """Whether a weight has so many near-zero gradients that they need an explanation."""
    if not figures.info.trainable or _is_redundant(figures, origin):
        return False
    return not figures.info.connected or _near_zero(figures) > settings.near_zero_weights


def _near_zero(figures: Figures) -> float:
    return figures.used_near_zero if isinstance(figures, SiteFigures) else figures.near_zero_fraction


def _is_redundant(figures: Figures, origin: Origin) -> bool:
    """Whether this is a bias that the layers behind it are invariant to.

    A normalisation takes its mean away, attention's softmax what all scores have in common: the terms
    of such a bias cancel in every healthy model.
    """
    return isinstance(figures, SiteFigures) and figures.info.role == "bias" and origin.cause == "cancellation"


def _origins(
    sites: dict[str, SiteFigures], walk: Walk, settings: Thresholds, outputs: list[Origin]
) -> dict[str, tuple[Origin, ...]]:
    """Where the gradient of every affected kernel is lost."""
    found = {}
    for weight, figures in sites.items():
        near_zero = figures.used_near_zero
        if not figures.info.trainable or (figures.info.connected and near_zero <= settings.affected):
            continue
        found[weight] = tuple(_at_output(origin, outputs, walk) for origin in walk.origins(figures))
    return found


def _at_output(origin: Origin, outputs: list[Origin], walk: Walk) -> Origin:
    """What an output's mismatch or mask explains better."""
    silent = walk.silent_loss or (origin.cause == "zero_loss_gradient" and "below" not in origin.detail)
    better = [o for o in outputs if o.layer == origin.layer or silent]
    return dataclasses.replace(better[0], steps=origin.steps, share=origin.share) if better else origin


def _other_origins(
    others: dict[str, WholeLayerFigures], walk: Walk, settings: Thresholds
) -> dict[str, tuple[Origin, ...]]:
    """Where the gradient of every affected weight of unknown kind is lost."""
    return {
        weight: walk.other_origins(other)
        for weight, other in others.items()
        if other.info.trainable and (not other.info.connected or other.near_zero_fraction > settings.affected)
    }


def _finding(root: Origin, origins: dict[str, tuple[Origin, ...]], sites: dict[str, Figures]) -> Finding:
    hit = {weight: o for weight, found in origins.items() for o in found if o.key == root.key}
    total = sum(figures.size for figures in sites.values())
    lost = sum(origin.share * sites[weight].near_zero_count for weight, origin in hit.items())
    affects = dict.fromkeys(sites[w].info.layer for w in hit if sites[w].info.layer != root.layer)
    return Finding(
        _severity(root),
        root.cause,
        root.layer,
        lost / total if total else 0.0,
        tuple(affects),
        {**root.detail, **_where_in_time([sites[weight] for weight in hit]), **_besides(hit, sites)},
    )


def _besides(hit: dict[str, Origin], sites: dict[str, Figures]) -> dict[str, float | str]:
    """What alone would keep most of a finding's near-zero gradients there, too."""
    lost: dict[tuple[str, str], int] = {}
    for weight, origin in hit.items():
        for key in origin.also:
            lost[key] = lost.get(key, 0) + sites[weight].near_zero_count
    total = sum(sites[weight].near_zero_count for weight in hit)
    told = [f"{cause} at {layer}" for (cause, layer), many in lost.items() if many > 0.5 * total]
    return {"also": ", ".join(told)} if told else {}


def _where_in_time(hit: list[Figures]) -> dict[str, float | str]:
    """Which gates of recurrent layers a finding concerns, and at which time steps."""
    timed = [f for f in hit if isinstance(f, SiteFigures) and f.steps and f.info.role == "kernel"]
    told = []
    for figures in timed:
        steps, name = name_inputs(figures.step_near_zero), figures.info.part or "units"
        when = f" at time steps {steps} of {figures.steps}" if steps else ""
        told.append(f"the {name} of {figures.info.layer}{when}")
    return {"gates": "; ".join(told)} if told else {}


def _severity(root: Origin) -> str:
    """Only to inform where no factor does it alone, and where it is no fault.

    Some positions have no weight; a scale of zero is about to grow; a slope for negative inputs met none;
    what is lost on the whole way to the loss would not alone make a gradient near zero.
    """
    some_masked = 0.0 < float(root.detail.get("weightless", 1.0)) < 1.0
    harmless = some_masked or root.detail.get("learns") or root.detail.get("own")
    harmless = harmless or root.detail.get("partial")
    if root.detail.get("healed"):
        return "warning"
    return "info" if "joint" in root.detail or harmless else _SEVERITY.get(root.cause, "error")


# ---- seen without a walk -------------------------------------------------------------------------


def _direct(
    statistics: Statistics,
    sites: dict[str, SiteFigures],
    flow: Flow,
    settings: Thresholds,
    walk: Walk,
    silent: bool,
    mismatched: set[str],
) -> Iterator[Origin]:
    if silent and not mismatched:
        g_out = statistics.loudest_output()[0]
        last = _output_layer(statistics, flow)
        yield Origin("zero_loss_gradient", last, (), {"g_out": g_out, "loss": statistics.loss})
    yield from _applied_twice(statistics, flow)
    yield from _frozen(sites)
    for figures in sites.values():
        info = figures.info
        if not info.trainable:
            continue
        if figures.carries and info.layer not in mismatched:
            yield from _off_layers(figures, walk, settings)
        if info.role == "kernel":
            yield from _zero_inputs(figures, flow, settings)
        if is_constant_kernel(figures) and figures.kernel_rms > 0:
            yield Origin("zero_weights", info.layer, (), {"constant": "yes", "units": figures.units})
        if figures.residual > settings.residual_limit(info.dtype, figures.terms):
            yield Origin("unexplained", info.layer, (), {"residual": figures.residual})
    yield from _underflows(sites, walk)
    yield from _masked(statistics, flow, whole=False)
    yield from _exploding(statistics, sites, flow, settings)


def _underflows(sites: dict[str, SiteFigures], walk: Walk) -> Iterator[Origin]:
    """The layer, from the loss, at which half precision begins to flush gradients to zero."""
    for figures in reversed(list(sites.values())):
        if figures.info.trainable and walk.underflows(figures):
            yield walk.of_underflow(figures)
            return


def _masked(statistics: Statistics, flow: Flow, *, whole: bool) -> Iterator[Origin]:
    """Outputs of which the loss leaves positions out: all of them (`whole`), or some."""
    for output in statistics.outputs:
        if output.masked_fraction and (output.masked_fraction == 1.0) == whole:
            layer = flow.records[output.node].layer if output.node != DATA else "the output"
            yield Origin("masked", layer, (), {"weightless": output.masked_fraction})


def _frozen(sites: dict[str, SiteFigures]) -> Iterator[Origin]:
    """The layers with weights that are not trained."""
    weights: dict[str, int] = {}
    for figures in sites.values():
        if not figures.info.trainable:
            weights[figures.info.layer] = weights.get(figures.info.layer, 0) + figures.size
    for layer, many in weights.items():
        yield Origin("frozen", layer, (), {"weights": many})


def _off_layers(figures: SiteFigures, walk: Walk, settings: Thresholds) -> Iterator[Origin]:
    info = figures.info
    if info.logits or not info.connected:
        return
    if info.consumers:
        stuck = walk.saturated(figures)
    else:  # an output that saturates where it is right is healthy: is the error cut off?
        rectifies = info.activation.rectifies(settings.near_zero.slope_atol)
        stuck = not rectifies and figures.slope_gain <= settings.stuck_slope_gain
    unscaled = walk.reads_unscaled(figures) and float(np.mean(figures.dead)) > settings.dead_units_warning
    if walk.dead(figures) or stuck or unscaled:
        yield walk.of_off_units(figures)


def _zero_inputs(figures: SiteFigures, flow: Flow, settings: Thresholds) -> Iterator[Origin]:
    if flow.reads_data(figures.info.node) and float(np.mean(figures.dead_inputs)) > settings.zero_inputs:
        yield Origin("zero_input", figures.info.layer, (), input_detail(figures))


def _exploding(
    statistics: Statistics, sites: dict[str, SiteFigures], flow: Flow, settings: Thresholds
) -> Iterator[Origin]:
    """The first layer, from the loss, at which the gradient has grown too large.

    Where a normalisation scales small values up, it scales their gradient up too, and the kernel before
    it scales that down again. So the gradient is taken of values that are brought to unit size first.
    A kernel right before a normalisation is left out: its scale does not matter for the loss, so a large
    gradient makes it grow, and a larger kernel's gradient is smaller (Arora, Li & Lyu 2019).
    """
    reference = max((o.gradient_norm for o in statistics.outputs if o.touched), default=0.0)
    for figures in reversed([site for site in sites.values() if site.info.role == "kernel"]):
        size = min(statistics.nodes[figures.info.node].output.rms, 1.0)
        free = reference > 0 and not flow.is_normalised(figures.info.node)
        growth = size * figures.preactivation_gradient_norm / reference if free else 0.0
        mean = figures.mean_gradient
        if growth > settings.exploding_growth or mean > settings.exploding_mean:
            if growth <= settings.exploding_growth:  # not the gradient is large here, but the input
                kernels = [site for site in sites.values() if site.info.role == "kernel"]
                figures = max(kernels, key=lambda f: f.kernel_rms / f.healthy_weight)
            detail: dict[str, float | str] = {
                "growth": growth,
                "mean": mean,
                "kernel_rms": figures.kernel_rms,
                "healthy_weight": figures.healthy_weight,
            }
            yield Origin("exploding", figures.info.layer, (), detail)
            return


def _non_finite(statistics: Statistics, sites: dict[str, SiteFigures], flow: Flow) -> Origin | None:
    """The first place where a value is NaN or infinite: forward first, then backward."""
    for index, node in enumerate(statistics.nodes):
        where = _broken_forward(flow.site_at(index), node, flow.reads_data(index))
        if where:
            return Origin("non_finite", node.layer, (), {"where": where})
    for _, node in reversed(list(enumerate(statistics.nodes))):
        if node.output_gradient is not None and node.output_gradient.non_finite:
            return Origin("non_finite", node.layer, (), {"where": "gradient"})
    for figures in reversed(list(sites.values())):
        if not figures.is_finite:
            return Origin("non_finite", figures.info.layer, (), {"where": "kernel gradient"})
    return None


def _broken_forward(figures: SiteFigures | None, node: NodeRecord, reads_data: bool) -> str:
    """Where a node is the first to hold a broken value; "" if it does not."""
    if figures is not None:
        if reads_data and figures.statistics.sums["input_non_finite"]:
            return "input"
        if not figures.kernel_is_finite:
            return "kernel"
    return "output" if node.output.non_finite else ""


# ---- where the loss meets the model --------------------------------------------------------------


def _output_layer(statistics: Statistics, flow: Flow) -> str:
    nodes = [output.node for output in statistics.outputs if output.node != DATA]
    return flow.records[nodes[0]].layer if nodes else flow.records[-1].layer


def _output_mismatches(statistics: Statistics, flow: Flow) -> Iterator[Origin]:
    """Outputs whose activation, loss and targets cannot pass a gradient together."""
    for output in statistics.outputs:
        site = flow.site_of_activation(output.node) if output.node != DATA else None
        if site is None:
            continue
        found = _mismatch(output, site)
        if found is not None:
            kind, why = found
            detail: dict[str, float | str] = {"kind": kind, "why": why}
            detail |= {"low": output.target_low, "high": output.target_high}
            yield Origin("output_mismatch", site.info.layer, (), detail)


def _applied_twice(statistics: Statistics, flow: Flow) -> Iterator[Origin]:
    """Outputs that were made probabilities of already when a softmax or sigmoid meets them (again)."""
    for output in statistics.outputs:
        if output.node == DATA or flow.records[output.node].activation not in _PROBABILITIES:
            continue
        record = flow.records[output.node]
        before = [flow.records[p].activation for p in record.producers if p != DATA]
        name, healed = record.activation, ""
        if flow.site_at(output.node) is None and before and before[0] in _PROBABILITIES:
            why = f"{name} is applied to what {before[0]} has made already"
        elif output.from_logits and "crossentropy" in output.loss_name:
            why = f"the loss expects logits (from_logits=True), but {name} was applied"
            if output.logits:
                why, healed = f"{why}; Keras noticed, and read the logits before it", "yes"
        else:
            continue
        unknown = float("nan")
        detail: dict[str, float | str] = {"kind": "twice", "why": why, "healed": healed}
        detail |= {"low": unknown, "high": unknown}
        yield Origin("output_mismatch", record.layer, (), detail)


def _mismatch(output: OutputStatistics, site: SiteFigures) -> tuple[str, str] | None:
    """What does not fit, as a keyword and in words."""
    activation, loss = site.info.activation.name, output.loss_name
    if activation == "softmax" and output.elements == 1:
        return "single", "softmax over one unit is always 1"
    low, high = _RANGES.get(activation, (-np.inf, np.inf))
    if loss and "sparse" not in loss and (output.target_low < low or output.target_high > high):
        return "range", f"targets lie outside the range [{low:g}, {high:g}] of {activation}"
    clips = "crossentropy" in loss and not output.logits and not output.from_logits
    if clips and (output.low < 0 or output.high > 1):
        return "clipped", "the loss clips everything outside (0, 1), and with it the gradient"
    return None
