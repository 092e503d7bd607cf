"""From each weight whose gradient is lost to where it is lost.

`input` walks upstream (towards the data), `backprop` downstream (towards the loss), `activation`
stays and asks why the units are off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case, Cause, SiteFigures, WholeLayerFigures
from trainobs.diagnosis._cut import where_cut, where_layer_is_cut
from trainobs.diagnosis._downstream import Downstream, Origins
from trainobs.diagnosis._factors import also_sufficient, is_joint, main_factor
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._upstream import silencing_scale, why_off, why_zero
from trainobs.mechanisms import (
    Cancellation,
    Mechanism,
    OneTimeStep,
    Underflow,
    UnexplainedLayer,
    WaitingWeight,
    ZeroLayerInput,
    registered_mechanisms,
)


def see(case: Case) -> list[Mechanism]:
    """The mechanisms that show by themselves."""
    return [mechanism for kind in registered_mechanisms() for mechanism in kind.seen(case)]


def walk_from_suspects(case: Case, seen: list[Mechanism]) -> list[Origin]:
    """Why units are off where so many are that it is a finding, whether or not a gradient is lost by it."""
    explained = {mechanism.layer for mechanism in seen if mechanism.explains_output}
    suspects = {site.info.key for kind in registered_mechanisms() for site in kind.suspects(case)}
    return [
        why_off(case, site)
        for key, site in case.sites.items()
        if key in suspects and _can_be_asked(site) and site.info.layer not in explained
    ]


def _can_be_asked(figures: SiteFigures) -> bool:
    info = figures.info
    return figures.carries and info.trainable and info.connected and not info.logits


def walk(case: Case) -> dict[str, Origins]:
    """Where the gradient of every affected weight is lost, by key of the weight."""
    downstream = Downstream(case)
    origins = {key: _of_site(case, downstream, case.sites[key]) for key in _affected(case, case.sites)}
    others = _affected(case, case.whole_layers)
    return origins | {key: _of_layer(case, downstream, case.whole_layers[key]) for key in others}


def _affected(case: Case, weights: dict[str, SiteFigures] | dict[str, WholeLayerFigures]) -> Iterator[str]:
    """Keys of the weights with so many near-zero gradients that a finding elsewhere may be why.

    Not those whose factors don't say what their gradient is: near zero are their terms, not their gradient.
    """
    for key, figures in weights.items():
        if isinstance(figures, SiteFigures) and not case.is_told(figures):
            continue
        lost = not figures.info.connected or not figures.used_near_zero <= case.thresholds.affected
        if figures.info.trainable and lost:
            yield key


def _of_site(case: Case, downstream: Downstream, figures: SiteFigures) -> Origins:
    """Where the near-zero gradient of a kernel comes from: the largest share first."""
    start, mechanism = _name(figures), _before_any_factor(case, figures)
    if mechanism is not None:
        return (Origin(mechanism, (start, mechanism.layer)),)
    if not figures.info.connected:
        return (where_cut(case, figures.info.activation_node).after(start),)
    factor = main_factor(figures)
    if factor == "cancellation":
        return (Origin(Cancellation(figures.info.layer, figures.info.role == "bias"), (start,)),)
    origins = _by(case, downstream, factor, figures)
    others = [o for other in also_sufficient(figures, factor) for o in _by(case, downstream, other, figures)]
    besides = [key for origin in others for key in (origin.key, *origin.also)]
    joint = is_joint(figures)
    return tuple(
        dataclasses.replace(origin.beside(besides).after(f"{start} ← {factor}"), is_joint=joint)
        for origin in origins
    )


def _before_any_factor(case: Case, figures: SiteFigures) -> Mechanism | None:
    """What explains a weight's gradient whatever its factors are."""
    if not figures.info.connected:
        return None
    if Underflow.holds(case, figures):
        return Underflow.from_loss_to(case, figures)
    return OneTimeStep.at(case, figures) or silencing_scale(case, figures)


def _by(case: Case, downstream: Downstream, factor: str, figures: SiteFigures) -> Origins:
    """Why a factor of a kernel's gradient is near zero."""
    if factor == "backprop":
        return downstream.why_silent(figures.info.activation_node, figures.info.layer)
    return (why_zero(case, figures) if factor == "input" else why_off(case, figures),)


def _of_layer(case: Case, downstream: Downstream, figures: WholeLayerFigures) -> Origins:
    """Where the near-zero gradient of a weight of unknown kind comes from."""
    info, start = figures.info, _name(figures)
    if not info.connected:
        return (where_layer_is_cut(case, figures).after(start),)
    waiting = WaitingWeight.of(case, figures)
    if waiting is not None:
        return (Origin(waiting, (start, waiting.zero)),)
    if Cause.BACKPROP in figures.causes and not downstream.is_unseen(info.nodes[-1]):
        origins = downstream.why_silent(info.nodes[-1], info.layer)
        return tuple(origin.after(f"{start} ← backprop") for origin in origins)
    kind = ZeroLayerInput if Cause.INPUT in figures.causes else UnexplainedLayer
    return (Origin(kind(info.layer), (start,)),)


def _name(figures: SiteFigures | WholeLayerFigures) -> str:
    return f"{figures.info.layer}/{figures.info.weight.rsplit('/', 1)[-1]}"
