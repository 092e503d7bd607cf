"""Why a gradient is lost along one edge after the other: at a node, at the loss, or little by little."""

from __future__ import annotations

import math

from trainobs.analysis import LOSS, Case, FromTheEnd, Way, decays
from trainobs.diagnosis._at_kernel import liveness, mostly_off
from trainobs.diagnosis._origin import Origin, at_its_layer, origin_of
from trainobs.diagnosis._steps import Steps
from trainobs.diagnosis._upstream import Upstream
from trainobs.mechanisms import (
    ConstantOutput,
    Disconnected,
    Masked,
    QuietOutput,
    QuietPart,
    Symmetric,
    UnexplainedWay,
    VanishingAtNode,
    VanishingGradient,
    ZeroLossGradient,
    ZeroScale,
    weights_at_fault,
)


class AlongEdges:
    """Finds where a gradient is lost on ways that are made of edges only. Each node is asked once.

    Parameters
    ----------
    case : Case
    upstream : Upstream
        Asked for what keeps units off, or the input of a product near zero.
    """

    def __init__(self, case: Case, upstream: Upstream) -> None:
        self._case, self._upstream = case, upstream
        self._at_nodes: dict[tuple[int, int, bool], Origin | None] = {}
        self._decay = decays(case.flow, case.near_zero.slope_atol)
        self.layers = FromTheEnd(self._layers_of)
        self._layers_to_worst = FromTheEnd(self._layers_to_worst_of)

    def lost_on(self, way: Way) -> Origin:
        """Where a gradient is lost."""
        case, worst = self._case, way.worst.piece
        if worst.end == LOSS and kills(case, way):
            return origin_of(QuietOutput.at(case, worst.start), "loss")
        if way.piece.end == LOSS:  # nothing stands between: the loss itself sends little
            return origin_of(ZeroLossGradient.at(case, case.layer_of(way.piece.start)), "loss")
        origin = None if worst.end == LOSS else self._at_node(way)
        if origin is not None:
            return origin.behind(self._layers_to_worst(way))
        decay = self._decay(way)
        if decay.lost <= 0:  # nothing is lost that was measured
            return origin_of(UnexplainedWay(case.layer_of(way.piece.start)), "loss")
        return Origin(VanishingGradient.along(case, decay), self.layers(way))

    def _layers_of(self, way: Way, behind: Steps | None) -> Steps:
        """The layers that a way leads to."""
        own = Steps() if way.piece.end == LOSS else Steps.of(self._case.layer_of(way.piece.end))
        return own + (behind or Steps())

    def _layers_to_worst_of(self, way: Way, behind: Steps | None) -> Steps:
        """The layers up to where most is lost."""
        return self._layers_of(way, None if way.worst is way else behind)

    # ---- at one node -------------------------------------------------------------------------

    def _at_node(self, way: Way) -> Origin | None:
        """What takes most of the gradient on a way; None where that is part of a slow decay."""
        edge, killed = way.worst.piece, kills(self._case, way)
        asked = (edge.end, edge.start, killed)
        if asked not in self._at_nodes:
            self._at_nodes[asked] = self._lost_at(way.worst, killed)
        return self._at_nodes[asked]

    def _lost_at(self, way: Way, killed: bool) -> Origin | None:
        """What takes the gradient at the first node of a way."""
        node, loss = way.piece.end, way.loss
        site = self._case.flow.owner_of(node)
        if site is None:
            return self._killed_between(node, loss.powers) if killed else None
        if loss.factor == "slope":
            by_slopes = killed and loss.taken >= self._case.thresholds.killer and site.off_fraction > 0
            return self._upstream.why_off(site) if by_slopes else None
        mechanism = weights_at_fault(self._case, site) or Symmetric.where_gradients_cancel(self._case, site)
        return None if mechanism is None else Origin(mechanism)

    def _killed_between(self, node: int, powers: float) -> Origin:
        """A node without a kernel takes the gradient: all of it, or most.

        By its scale of zero; by one of its gates, or another of its inputs, that it multiplies with; by a
        state that is not carried on; or by itself.
        """
        case = self._case
        scale = ZeroScale.at(case, node)
        if scale is not None:
            return at_its_layer(scale)
        off = [gate for gate in case.flow.gates(node) if mostly_off(case, gate)]
        if off:
            return self._upstream.why_off(min(off, key=liveness))
        return self._upstream.silent_input(node) or self._by_itself(node, powers)

    def _by_itself(self, node: int, powers: float) -> Origin:
        """A node takes the gradient all by itself."""
        case, layer = self._case, self._case.layer_of(node)
        part = QuietPart.of(case, node, powers)
        if part is not None:
            return origin_of(part, "loss")
        constant = ConstantOutput.at(case, node)
        if constant is not None:
            return Origin(constant)
        if not math.isinf(powers):
            return Origin(VanishingAtNode(layer, 10**-powers, layer in case.learning_layers))
        if case.is_near_zero(case.flow.records[node].output.rms):
            return at_its_layer(Masked.at(case, node))
        return Origin(Disconnected.of_zeros(case, node))


def kills(case: Case, way: Way) -> bool:
    """Whether the worst piece of a way is a killer, and not part of a slow decay."""
    loss = way.worst.loss.powers
    return math.isinf(loss) or (loss >= case.thresholds.killer and loss > 0.5 * way.lost)
