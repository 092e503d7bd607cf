"""What a way leaves of a gradient that shrinks little by little."""

from __future__ import annotations

import dataclasses

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
    lost : float
        On all nodes that let something through.
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
    """

    lost: float = 0.0
    slopes: float = 0.0
    kernels: float = 0.0
    layers: int = 0
    rectifying: bool = True
    worst: SiteFigures | None = None
    taken: float = 0.0

    def through(self, node: FlowNode) -> Decay:
        """The decay on a way that begins with one more node."""
        return dataclasses.replace(
            self,
            lost=self.lost + (powers(node.gain) if node.gain > 0 else 0.0),
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
        behind = behind or Decay()
        if way.piece.end == LOSS:
            return behind
        node, site = flow.nodes[way.piece.end], flow.site_at(way.piece.end)
        decay = behind.through(node)
        if site is None:
            return decay
        return decay.by(site, powers(node.kernel_gain), site.info.activation.rectifies(slope_atol))

    return FromTheEnd(of)
