"""From traces to findings: severity, share, who suffers, and the sentences."""

from __future__ import annotations

import collections

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.diagnosis._merge import Traces
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._proof import Proof
from trainobs.diagnosis._prove import Proofs
from trainobs.diagnosis._severity import severity_of
from trainobs.findings import Finding, ranked
from trainobs.mechanisms import ranges


def rank(traces: Traces, case: Case, proofs: Proofs) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    return tuple(
        ranked(_finding(root, traces, case, proofs.get(root.key)) for root in traces.roots().values())
    )


def _finding(root: Origin, traces: Traces, case: Case, proof: Proof | None) -> Finding:
    """What is said of one mechanism."""
    held = {weight: o for weight, origins in traces.walked.items() for o in origins if o.key == root.key}
    layers = dict.fromkeys(case.weights[weight].info.layer for weight in held)
    mechanism = root.mechanism
    told = [mechanism.evidence(), *_in_time(held, case), *_over_determined(held, case), *_hidden(held, case)]
    told += [proof.told] if proof is not None and proof.told else []
    return Finding(
        severity=severity_of(root, traces, case),
        cause=mechanism.cause,
        layer=mechanism.layer,
        share=1.0 if mechanism.alone else _share(held, case),
        affects=tuple(layer for layer in layers if layer != mechanism.layer),
        evidence=" ".join(told),
        remedy=mechanism.advice(),
        value=mechanism.value,
        threshold=mechanism.threshold(case),
        proved=None if proof is None else proof.proved,
    )


def _share(held: dict[str, Origin], case: Case) -> float:
    """Part of all weights whose gradients a mechanism keeps near zero."""
    total = sum(figures.size for figures in case.weights.values())
    lost = sum(origin.share * case.weights[weight].near_zero_count for weight, origin in held.items())
    return lost / total if total else 0.0


def _in_time(held: dict[str, Origin], case: Case) -> list[str]:
    """Which gates of recurrent layers a mechanism concerns, and at which time steps; not of whole layers."""
    gates = [site for site in case.sites.values() if site.steps and site.info.role == "kernel"]
    live = {site.info.layer for site in gates if site.info.key not in held or not np.all(site.step_near_zero)}
    told = [_gate(site) for site in gates if site.info.key in held and site.info.layer in live]
    return [f"Near-zero gradients: {'; '.join(told)}."] if told else []


def _gate(figures: SiteFigures) -> str:
    steps, name = ranges(figures.step_near_zero), figures.info.part or "units"
    number = "step" if np.sum(figures.step_near_zero) == 1 else "steps"
    when = f" at time {number} {steps} (there are {figures.steps}, from 0 on)" if steps else ""
    return f"the {name} of {figures.info.layer}{when}"


def _hidden(held: dict[str, Origin], case: Case) -> list[str]:
    """Which gradients look live, as what is near zero of the data's is not of a penalty's."""
    sites = [case.sites[weight] for weight in held if weight in case.sites]
    hidden = [site for site in sites if site.penalty_norm > case.near_zero.rtol * site.healthy_norm]
    layers = dict.fromkeys(site.info.layer for site in hidden)
    told = f"Penalties hide it: with them, the gradients of {', '.join(layers)} are not near zero."
    return [told] if hidden else []


def _over_determined(held: dict[str, Origin], case: Case) -> list[str]:
    """What alone would keep most of a mechanism's near-zero gradients there, too."""
    lost: collections.Counter[tuple[str, str]] = collections.Counter()
    for weight, origin in held.items():
        lost.update(dict.fromkeys(origin.also, case.weights[weight].near_zero_count))
    total = sum(case.weights[weight].near_zero_count for weight in held)
    also = [f"{cause} at {layer}" for (cause, layer), number in lost.items() if number > 0.5 * total]
    told = f"Over-determined: without it, most of these gradients would be near zero by {', '.join(also)}."
    return [told] if also else []
