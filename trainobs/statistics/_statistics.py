"""Additive statistics of recorded steps: what reports, batches and workers have in common.

Every figure of a report is a ratio of sums over terms, so ``Statistics + Statistics`` is the one
way to merge: two batches, two recorded steps of the same weights, two workers.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.errors import InvalidArgument
from trainobs.records import NodeRecord, Scalars
from trainobs.statistics._outputs import OutputStatistics
from trainobs.statistics._site_statistics import SiteStatistics
from trainobs.statistics._whole_layer import WholeLayerStatistics
from trainobs.thresholds import NearZero


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Everything a report is made of. Two of the same model and weights can be added.

    Attributes
    ----------
    sites : dict of str to SiteStatistics
        By `SiteInfo.key`, in the order of the forward pass.
    nodes : tuple of NodeRecord
        With gradients per sample (batch size · dJ/d(output)).
    outputs : tuple of OutputStatistics
    loss_sum, batches : float, int
    near_zero : NearZero
        The thresholds that the sums were counted with.
    backprop : {"tape", "pinv"}
        Whether backprop was measured or estimated.
    step : int or None
        The recorded step; None for data that was run for the report.
    others : dict of str to WholeLayerStatistics
        The weights that no site explains, by path.
    idle : int
        How many gradients of a step were asked for no weights at all.
    """

    sites: dict[str, SiteStatistics]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[OutputStatistics, ...]
    loss_sum: float
    batches: int
    near_zero: NearZero
    backprop: str = "tape"
    step: int | None = None
    others: dict[str, WholeLayerStatistics] = dataclasses.field(default_factory=dict)
    idle: int = 0

    def __add__(self, other: Statistics) -> Statistics:
        self._check_can_be_added(other)
        return dataclasses.replace(
            self,
            sites={name: site + other.sites[name] for name, site in self.sites.items()},
            nodes=tuple(map(_added_nodes, self.nodes, other.nodes)),
            outputs=tuple(one + another for one, another in zip(self.outputs, other.outputs, strict=True)),
            loss_sum=self.loss_sum + other.loss_sum,
            batches=self.batches + other.batches,
            others={name: part + other.others[name] for name, part in self.others.items()},
        )

    def _check_can_be_added(self, other: Statistics) -> None:
        if list(self.sites) != list(other.sites) or len(self.nodes) != len(other.nodes):
            raise InvalidArgument(
                f"Statistics can be added only if they are of the same model. Received kernels "
                f"{list(self.sites)} and {list(other.sites)}."
            )
        if self.near_zero != other.near_zero:
            raise InvalidArgument(
                f"Statistics can be added only if they were counted with the same thresholds. Received "
                f"{self.near_zero} and {other.near_zero}. Count both with one `near_zero`."
            )

    @property
    def loss(self) -> float:
        """Mean loss of the batches."""
        return self.loss_sum / self.batches

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(
            site.kernel.nbytes + sum(a.nbytes for a in site.sums.values()) for site in self.sites.values()
        )

    def loudest_output(self) -> tuple[float, int]:
        """g_out and K of the output (or, untouched, the site) with the largest g_out."""
        touched = [(o.g_out, o.elements) for o in self.outputs if o.touched]
        if not touched:
            touched = [(_site_g_out(s), s.kernel.shape[-1]) for s in self.sites.values()]
        finite = [pair for pair in touched if np.isfinite(pair[0])]
        return max(finite, default=(0.0, 1))


def _added_nodes(one: NodeRecord, other: NodeRecord) -> NodeRecord:
    return dataclasses.replace(
        one,
        samples=one.samples + other.samples,
        output=one.output + other.output,
        output_gradient=_plus(one.output_gradient, other.output_gradient),
        input_gradients=tuple(map(_plus, one.input_gradients, other.input_gradients)),
    )


def _plus(one: Scalars | None, other: Scalars | None) -> Scalars | None:
    """Their sum; what only one of them has stays as it is."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _site_g_out(site: SiteStatistics) -> float:
    return float(np.sqrt(site.sums["output_gradient_sq"] / site.sums["unit_positions"]))
