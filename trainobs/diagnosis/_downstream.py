"""Why the gradient that arrives at a node is near zero: the walk towards the loss.

Where a node is read by several others, its gradient is lost only if it is lost on every branch; then
each branch has an origin of its own.
"""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case, Edge, FromTheEnd, SiteFigures, Stretch, Way
from trainobs.diagnosis._edges import AlongEdges, kills
from trainobs.diagnosis._origin import MOST_OTHERS, Origin, origin_of
from trainobs.diagnosis._steps import Steps
from trainobs.diagnosis._upstream import Upstream
from trainobs.mechanisms import Disconnected, Underflow, ZeroLossGradient, sufficient_powers

Origins = tuple[Origin, ...]


class Downstream:
    """Walks from nodes to the loss. What is known of a way is known to all that lead into it.

    Parameters
    ----------
    case : Case
    upstream : Upstream
        Asked for what keeps units off, or the input of a product near zero.
    """

    def __init__(self, case: Case, upstream: Upstream) -> None:
        self._case, self._paths = case, case.paths
        self._edges = AlongEdges(case, upstream)
        self._on_ways: dict[Way, Origins] = {}
        self._on_stretches: dict[Stretch, Origins] = {}
        self._flushed = FromTheEnd(self._flushed_of)
        self._underflow_begins = Underflow.beginnings(case)
        self._sufficient = FromTheEnd(self._sufficient_of)
        self._layers_to_worst = FromTheEnd(self._layers_to_worst_of)

    def is_unseen(self, node: int) -> bool:
        """Whether no way leads from a node to a loss that is not silent: it is read inside of a loop, say."""
        return not self._case.loss_is_silent and self._paths.to_loss(node) is None

    def why_silent(self, node: int, layer: str) -> Origins:
        """Why the gradient that arrives at a node of a layer is near zero: the largest share first."""
        way = self._paths.to_loss(node)
        if way is None or self._case.loss_is_silent:
            last = self._case.layer_of(self._paths.loudest(way).last.start) if way else layer
            return (origin_of(ZeroLossGradient.at(self._case, last), "loss"),)
        flushed = self._flushed(self._paths.loudest(way))
        if flushed is not None:
            mechanism = self.underflow(flushed)
            return (origin_of(mechanism, flushed.info.layer, mechanism.layer),)
        return self._lost_on(way)

    # ---- half precision ----------------------------------------------------------------------

    def underflow(self, figures: SiteFigures) -> Underflow:
        """Where, on the way from the loss to a kernel, gradients begin to be flushed."""
        return Underflow.from_loss_to(self._case, figures, self._underflow_begins)

    def _flushed_of(self, way: Way, behind: SiteFigures | None) -> SiteFigures | None:
        """The first kernel on a way whose gradients were flushed."""
        site = self._case.flow.owner_of(way.piece.start)
        return site if site is not None and Underflow.holds(self._case, site) else behind

    # ---- one piece after the other -----------------------------------------------------------

    def _lost_on(self, way: Way) -> Origins:
        """Where a gradient is lost on its way: at one node, on all branches of a stretch, or slowly.

        Other places that would have done it alone are named besides: the loss at each is sufficient.
        """
        if way not in self._on_ways:
            killed = kills(self._case, way)
            self._on_ways[way] = self._killed_on(way) if killed else self._lost_along(way)
        return self._on_ways[way]

    def _lost_along(self, way: Way) -> Origins:
        return (self._edges.lost_on(self._paths.loudest(way)),)

    def _killed_on(self, way: Way) -> Origins:
        piece = way.worst.piece
        origins = self._lost_along(way) if isinstance(piece, Edge) else self._lost_on_branches(piece)
        steps = Steps() if isinstance(piece, Edge) else self._layers_to_worst(way)
        others = (part.piece for part in self._sufficient(way) if part is not way.worst)
        alone = [origin for other in others for origin in self._lost_on(self._paths.alone(other))]
        besides = [key for origin in alone for key in (origin.key, *origin.also)]
        return tuple(origin.behind(steps).beside(besides) for origin in origins)

    def _sufficient_of(self, way: Way, behind: tuple[Way, ...] | None) -> tuple[Way, ...]:
        """The parts of a way whose first piece would take a gradient alone: those nearest to its end."""
        others = behind or ()
        suffices = way.loss.powers >= sufficient_powers(self._case) and len(others) <= MOST_OTHERS
        return (way, *others) if suffices else others

    def _layers_to_worst_of(self, way: Way, behind: Steps | None) -> Steps:
        """The layers up to where the worst piece begins."""
        if way.worst is way:
            return Steps()
        own = self._edges.layers(self._paths.loudest(self._paths.alone(way.piece)))
        return own + (behind or Steps())

    # ---- branches ----------------------------------------------------------------------------

    def _lost_on_branches(self, stretch: Stretch) -> Origins:
        """The origins of all branches, the same ones as one; each branch has the same share.

        A branch that is cut off does not count as long as there are others: nothing was to come from it.
        """
        for inner in self._unknown_in(stretch):
            self._on_stretches[inner] = _joined([self._lost_on(branch) for branch in inner.branches])
        return self._on_stretches[stretch]

    def _unknown_in(self, stretch: Stretch) -> list[Stretch]:
        """A stretch and those within it that were not walked yet: those nearest to the loss first."""
        unknown: dict[Stretch, None] = {}
        todo = [stretch]
        while todo:
            one = todo.pop()
            if one not in unknown and one not in self._on_stretches:
                unknown[one] = None
                pieces = (piece for branch in one.branches for piece in branch)
                todo += [piece for piece in pieces if isinstance(piece, Stretch)]
        return sorted(unknown, key=lambda one: -one.start)


def _joined(branches: list[Origins]) -> Origins:
    """The origins of branches, the same ones as one, the largest share first."""
    open_ones = [b for b in branches if any(not isinstance(o.mechanism, Disconnected) for o in b)] or branches
    origins: dict[tuple[str, str], Origin] = {}
    for origin in (origin for branch in open_ones for origin in branch):
        share, same = origin.share / len(open_ones), origins.get(origin.key)
        before = same.share if same else 0.0
        origins[origin.key] = dataclasses.replace(same or origin, share=share + before)
    return tuple(sorted(origins.values(), key=lambda origin: -origin.share))
