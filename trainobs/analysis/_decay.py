"""What a way leaves of a gradient that shrinks little by little."""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis._flow import Flow
from trainobs.analysis._flow_node import FlowNode
from trainobs.analysis._paths import powers
from trainobs.analysis._site_figures import SiteFigures
from trainobs.analysis._ways import LOSS, FromTheEnd, Way


@dataclasses.dataclass(frozen=True)
class Decay:
    """Powers of ten that are lost on a way, and by what.

    Attributes
    ----------
    gains : float
        On all nodes that let something through.
    arriving, sent : float
        Size of the gradient at the start of the way, and at its end: what the loudest output gets.
    slopes, kernels : float
        By slopes, and by kernels; what others give back is not set off.
    layers : int
        Kernels on the way.
    rectifying : bool
        Whether all activations are rectifiers, but for that of the last kernel.
    worst : SiteFigures or None
        The kernel that takes most.
    taken : float
        By that kernel.
    drop : int
        The node that takes most, by all its factors; -1 on a way without nodes.
    dropped : float
        By that node.
    """

    gains: float = 0.0
    arriving: float = math.nan
    sent: float = math.nan
    slopes: float = 0.0
    kernels: float = 0.0
    layers: int = 0
    rectifying: bool = True
    worst: SiteFigures | None = None
    taken: float = 0.0
    drop: int = -1
    dropped: float = -math.inf

    @property
    def lost(self) -> float:
        """On the whole way: by what arrives of what is sent, where both are known, else by the gains."""
        return powers(self.arriving / self.sent) if self.arriving > 0 and self.sent > 0 else self.gains

    def through(self, node: FlowNode, loss: float) -> Decay:
        """The decay on a way that begins with one more node."""
        at, dropped = (node.index, loss) if loss >= self.dropped else (self.drop, self.dropped)
        return dataclasses.replace(
            self,
            drop=at,
            dropped=dropped,
            gains=self.gains + (loss if math.isfinite(loss) else 0.0),
            slopes=self.slopes + max(powers(node.slope_gain), 0.0),
            kernels=self.kernels + max(powers(node.kernel_gain), 0.0),
        )

    def by(self, site: SiteFigures, taken: float, rectifies: bool) -> Decay:
        """The decay on a way that begins with one more kernel."""
        worst = (site, taken) if self.worst is None or taken >= self.taken else (self.worst, self.taken)
        return dataclasses.replace(
            self,
            layers=self.layers + 1,
            rectifying=self.rectifying and (rectifies or self.worst is None),
            worst=worst[0],
            taken=worst[1],
        )


def decays(flow: Flow, slope_atol: float) -> FromTheEnd[Decay]:
    """The decays on ways that are made of edges only.

    Parameters
    ----------
    flow : Flow
    slope_atol : float
        See `NearZero`.
    """

    def of(way: Way, behind: Decay | None) -> Decay:
        arriving = flow.nodes[way.piece.start].gradient_rms
        if way.piece.end == LOSS:
            return Decay(arriving=arriving, sent=arriving * 10**way.loss.powers)
        behind = dataclasses.replace(behind or Decay(), arriving=arriving)
        node, site = flow.nodes[way.piece.end], flow.site_at(way.piece.end)
        decay = behind.through(node, way.loss.powers)
        if site is None:
            return decay
        return decay.by(site, powers(node.kernel_gain), site.info.activation.rectifies(slope_atol))

    return FromTheEnd(of)
