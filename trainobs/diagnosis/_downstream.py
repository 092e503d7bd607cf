"""Why the gradient that arrives at a node is near zero: the walk towards the loss.

Where a node is read by several others, its gradient is lost only if it is lost on every branch; then
each branch has an origin of its own.
"""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis import LOSS, Case, Edge, Loss, Piece, Stretch
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._upstream import liveness, mostly_off, silent_input, why_off
from trainobs.mechanisms import (
    Disconnected,
    Masked,
    Mechanism,
    QuietOutput,
    QuietPart,
    Underflow,
    VanishingAtNode,
    VanishingGradient,
    ZeroLossGradient,
    ZeroScale,
    sufficient_powers,
    weights_at_fault,
)

Origins = tuple[Origin, ...]
#: Where a branch ends that counts for nothing as long as there are others.
_BESIDES = (Disconnected, QuietOutput)


class Downstream:
    """Walks from nodes to the loss, each stretch of branches once.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._lost_on_stretches: dict[int, Origins] = {}

    def is_unseen(self, node: int) -> bool:
        """Whether no way leads from a node to a loss that is not silent: it is read inside of a loop, say."""
        return not self._case.loss_is_silent and not self._case.paths.to_loss(node)

    def why_silent(self, node: int, layer: str) -> Origins:
        """Why the gradient that arrives at a node of a layer is near zero: the largest share first."""
        case = self._case
        path = case.paths.to_loss(node)
        loudest = case.paths.loudest(path)
        if case.loss_is_silent or not path:
            last = case.layer_of(loudest[-1].maker) if loudest else layer
            if case.loss_is_silent and not case.is_output(last):
                last = case.output_layer()  # the way there is not known: it is silent wherever it leads
            return (Origin(ZeroLossGradient.at(case, last), ("loss",)),)
        for passed in (node, *(edge.reader for edge in loudest if edge.reader != LOSS)):
            site = case.flow.owner_of(passed)
            if site is not None and Underflow.holds(case, site):
                mechanism = Underflow.from_loss_to(case, site)
                return (Origin(mechanism, (site.info.layer, mechanism.layer)),)
        return self._lost_on(path)

    def _lost_on(self, path: tuple[Piece, ...]) -> Origins:
        """Where a gradient is lost on its way: at one node, on all branches of a stretch, or slowly.

        Other places that would have done it alone are named besides: the loss at each is sufficient.
        """
        losses = [self._case.paths.loss(piece).powers for piece in path]
        place = losses.index(max(losses))
        if not self._kills(losses[place], losses):
            return (self._lost_on_edges(self._case.paths.loudest(path)),)
        origins = self._lost_at(path, place)
        also = (at for at in range(len(path)) if at != place and losses[at] >= sufficient_powers(self._case))
        besides = [key for at in also for o in self._lost_on((path[at],)) for key in (o.key, *o.also)]
        return tuple(origin.beside(besides) for origin in origins)

    def _lost_at(self, path: tuple[Piece, ...], place: int) -> Origins:
        """The origins at the piece of a path that takes the gradient."""
        piece = path[place]
        if isinstance(piece, Edge):
            return (self._lost_on_edges(self._case.paths.loudest(path)),)
        before = self._case.paths.loudest(path[:place])
        steps = [self._case.layer_of(edge.reader) for edge in before]
        return tuple(origin.after(*steps) for origin in self._lost_on_branches(piece))

    def _kills(self, loss: float, losses: list[float]) -> bool:
        """Whether one of several losses is that of a killer, and not part of a slow decay."""
        total = sum(loss for loss in losses if loss > 0)
        return math.isinf(loss) or (loss >= self._case.thresholds.killer and loss > 0.5 * total)

    # ---- branches ----------------------------------------------------------------------------

    def _lost_on_branches(self, stretch: Stretch) -> Origins:
        """The origins of all branches, the same ones as one; each branch has the same share.

        A branch that is cut off does not count as long as there are others: nothing was to come from it.
        """
        if stretch.start not in self._lost_on_stretches:
            origins = [self._lost_on(branch) for branch in stretch.branches]
            self._lost_on_stretches[stretch.start] = _joined(origins)
        return self._lost_on_stretches[stretch.start]

    # ---- one edge after the other ------------------------------------------------------------

    def _lost_on_edges(self, edges: list[Edge]) -> Origin:
        """Where a gradient is lost along one edge after the other."""
        case = self._case
        losses = [case.paths.loss(edge) for edge in edges]
        worst = max(losses, key=lambda loss: loss.powers)
        edge = edges[losses.index(worst)]
        killer = self._kills(worst.powers, [loss.powers for loss in losses])
        if edge.reader == LOSS and killer:
            return Origin(QuietOutput.at(case, edge.maker), ("loss",))
        path = [e.reader for e in edges if e.reader != LOSS]
        if not path:  # nothing stands between: the loss itself sends little
            return Origin(ZeroLossGradient.at(case, case.layer_of(edge.maker)), ("loss",))
        steps = [case.layer_of(node) for node in path[: edges.index(edge) + 1]]
        origin = None if edge.reader == LOSS else self._lost_at_node(edge.reader, worst, killer)
        if origin is not None:
            return origin.after(*steps)
        strongest = path[-1] if edge.reader == LOSS else edge.reader
        mechanism = VanishingGradient.along(case, case.layer_of(strongest), path)
        return Origin(mechanism, tuple(case.layer_of(node) for node in path))

    def _lost_at_node(self, node: int, loss: Loss, killer: bool) -> Origin | None:
        """What takes the gradient at a node; None where it is part of a slow decay."""
        site = self._case.flow.owner_of(node)
        if site is None:
            return self._killed_between(node, loss.powers) if killer else None
        if killer and loss.factor == "slope":
            return why_off(self._case, site)
        mechanism = weights_at_fault(self._case, site) if loss.factor == "kernel" else None
        return None if mechanism is None else Origin(mechanism)

    def _killed_between(self, node: int, powers: float) -> Origin:
        """A node without a kernel takes the gradient: all of it, or most.

        By its scale of zero; by one of its gates, or another of its inputs, that it multiplies with; by a
        state that is not carried on; or by itself.
        """
        case = self._case
        scale = ZeroScale.at(case, node)
        if scale is not None:
            return Origin(scale, (scale.layer,))
        off = [gate for gate in case.flow.gates(node) if mostly_off(case, gate)]
        if off:
            return why_off(case, min(off, key=liveness))
        return silent_input(case, node) or Origin(*self._by_itself(node, powers))

    def _by_itself(self, node: int, powers: float) -> tuple[Mechanism, tuple[str, ...]]:
        """The mechanism of a node that takes the gradient all by itself."""
        case, layer = self._case, self._case.layer_of(node)
        part = QuietPart.of(case, node, powers)
        if part is not None:
            return part, ("loss",)
        if not math.isinf(powers):
            return VanishingAtNode(layer, 10**-powers, layer in case.learning_layers), ()
        if case.is_near_zero(case.flow.records[node].output.rms):
            return Masked.at(case, node), (layer,)
        return Disconnected(layer, "node"), ()


def _joined(branches: list[Origins]) -> Origins:
    """The origins of branches, the same ones as one, the largest share first.

    Nor does the loss itself count as a branch of an output that others read too: what is known is the whole
    gradient that comes there, not how much of it the loss sends, if any.
    """
    open_ones = [b for b in branches if any(not isinstance(o.mechanism, _BESIDES) for o in b)] or branches
    origins: dict[tuple[str, str], Origin] = {}
    for origin in (origin for branch in open_ones for origin in branch):
        share, same = origin.share / len(open_ones), origins.get(origin.key)
        before = same.share if same else 0.0
        origins[origin.key] = dataclasses.replace(same or origin, share=share + before)
    return tuple(sorted(origins.values(), key=lambda origin: -origin.share))
