"""From each weight whose gradient is lost to where it is lost.

`input` walks upstream (towards the data), `backprop` downstream (towards the loss), `activation`
stays and asks why the units are off.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainobs.analysis import Case, Cause, SiteFigures, WholeLayerFigures
from trainobs.diagnosis._apart import never_together
from trainobs.diagnosis._at_kernel import silencing_scale
from trainobs.diagnosis._cut import Cut
from trainobs.diagnosis._downstream import Downstream, Origins
from trainobs.diagnosis._factors import also_sufficient, main_factor
from trainobs.diagnosis._origin import Origin, origin_of
from trainobs.diagnosis._upstream import Upstream
from trainobs.mechanisms import (
    Cancellation,
    ConstantOutput,
    Disconnected,
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


class Walk:
    """Walks through a case, from weights whose gradient is lost. Nothing is asked twice.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._upstream = Upstream(case)
        self._downstream = Downstream(case, self._upstream)
        self._cut = Cut(case)

    def from_suspects(self, seen: list[Mechanism]) -> list[Origin]:
        """Why units are off where so many are that it is a finding, with or without a lost gradient."""
        explained = {mechanism.layer for mechanism in seen if mechanism.explains_output}
        suspects = {site.info.key for kind in registered_mechanisms() for site in kind.suspects(self._case)}
        return [
            self._upstream.why_off(site)
            for key, site in self._case.sites.items()
            if key in suspects and _can_be_asked(site) and site.info.layer not in explained
        ]

    def from_lost_gradients(self) -> dict[str, Origins]:
        """Where the gradient of every affected weight is lost, by key of the weight."""
        sites, others = self._case.sites, self._case.whole_layers
        origins = {key: self._of_site(sites[key]) for key in _affected(self._case, sites)}
        return origins | {key: self._of_layer(others[key]) for key in _affected(self._case, others)}

    # ---- weights whose terms are known -------------------------------------------------------

    def _of_site(self, figures: SiteFigures) -> Origins:
        """Where the near-zero gradient of a kernel comes from: the largest share first."""
        start, mechanism = _name(figures), self._before_any_factor(figures)
        if mechanism is not None:
            return (origin_of(mechanism, start, mechanism.layer),)
        if not figures.info.connected:
            return (self._cut.before(figures).after(start),)
        factor = main_factor(figures)
        if factor == "cancellation":
            return (origin_of(Cancellation(figures.info.layer, figures.info.role == "bias"), start),)
        others = [o for other in also_sufficient(figures, factor) for o in self._by(other, figures)]
        besides = [key for origin in others for key in (origin.key, *origin.also)]
        step = f"{start} ← {factor}"
        return tuple(origin.beside(besides).after(step) for origin in self._by(factor, figures))

    def _before_any_factor(self, figures: SiteFigures) -> Mechanism | None:
        """What explains a weight's gradient whatever its factors are."""
        case = self._case
        if not figures.info.connected:
            return None
        if Underflow.holds(case, figures):
            return self._downstream.underflow(figures)
        at_once = OneTimeStep.at(case, figures) or silencing_scale(case, figures)
        return at_once or never_together(case, figures)

    def _by(self, factor: str, figures: SiteFigures) -> Origins:
        """Why a factor of a kernel's gradient is near zero."""
        if factor == "backprop":
            return self._downstream.why_silent(figures.info.activation_node, figures.info.layer)
        ask = self._upstream.why_zero if factor == "input" else self._upstream.why_off
        return (ask(figures),)

    # ---- weights of unknown kind -------------------------------------------------------------

    def _of_layer(self, figures: WholeLayerFigures) -> Origins:
        """Where the near-zero gradient of a weight of unknown kind comes from."""
        info, start = figures.info, _name(figures)
        if not info.connected:
            return (origin_of(Disconnected(info.layer, "unused"), start),)
        waiting = WaitingWeight.of(self._case, figures)
        if waiting is not None:
            return (origin_of(waiting, start, waiting.zero),)
        found = (ConstantOutput.at(self._case, node) for node in info.nodes)
        constant = next((mechanism for mechanism in found if mechanism is not None), None)
        if constant is not None:
            return (origin_of(constant, start, constant.layer),)
        if Cause.BACKPROP in figures.causes and not self._downstream.is_unseen(info.nodes[-1]):
            origins = self._downstream.why_silent(info.nodes[-1], info.layer)
            return tuple(origin.after(f"{start} ← backprop") for origin in origins)
        kind = ZeroLayerInput if Cause.INPUT in figures.causes else UnexplainedLayer
        return (origin_of(kind(info.layer), start),)


def _can_be_asked(figures: SiteFigures) -> bool:
    info = figures.info
    return figures.carries and info.trainable and info.connected and not info.logits


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


def _name(figures: SiteFigures | WholeLayerFigures) -> str:
    return f"{figures.info.layer}/{figures.info.weight.rsplit('/', 1)[-1]}"
