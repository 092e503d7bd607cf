"""The case that a diagnosis works on: all figures of one report, under one roof."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from trainobs.analysis._chance import Chance
from trainobs.analysis._flow import Flow
from trainobs.analysis._paths import Paths, powers
from trainobs.analysis._second_look import SecondLook, TakeLook
from trainobs.analysis._site_figures import SiteFigures
from trainobs.analysis._suffering import suffering_layers
from trainobs.analysis._weight_figures import WeightFigures
from trainobs.analysis._whole_layer_figures import WholeLayerFigures
from trainobs.counterfactuals import TryOut
from trainobs.records import DATA
from trainobs.statistics import OutputStatistics, Statistics
from trainobs.thresholds import NearZero, Thresholds


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """All that mechanisms are looked for in.

    Parameters
    ----------
    statistics : Statistics
    sites : dict of str to SiteFigures
        By `SiteInfo.key`, in the order of the forward pass.
    whole_layers : dict of str to WholeLayerFigures
        By path of the weight: those whose layer is not known.
    flow : Flow
    thresholds : Thresholds
    take_look : callable, optional
        Takes a second look at the batch, where a model is at hand.
    try_out : callable, optional
        Runs the batch with something changed, where a model is at hand.
    """

    statistics: Statistics
    sites: dict[str, SiteFigures]
    whole_layers: dict[str, WholeLayerFigures]
    flow: Flow
    thresholds: Thresholds
    take_look: TakeLook | None = None
    try_out: TryOut | None = None

    @functools.cached_property
    def second_look(self) -> SecondLook | None:
        """Taken when it is first asked for; None where none can be had."""
        return None if self.take_look is None else self.take_look()

    @property
    def weights(self) -> dict[str, WeightFigures]:
        """All weights, by key."""
        return {**self.sites, **self.whole_layers}

    @property
    def near_zero(self) -> NearZero:
        """What counts as near zero."""
        return self.thresholds.near_zero

    @property
    def g_out(self) -> float:
        """Size of the gradient that the loss sends into the model, at the loudest of its outputs."""
        return self.statistics.loudest_output()[0]

    @functools.cached_property
    def paths(self) -> Paths:
        """The ways from nodes to the loss."""
        return Paths(self.flow, self._quieter(), measured=self.statistics.backprop == "tape")

    def _quieter(self) -> dict[int, float]:
        """For each output that a loss reads: how many powers of ten less it gets than the loudest one."""
        outputs = (output for output in self.statistics.outputs if output.touched and output.node != DATA)
        return {output.node: powers(output.g_out / self.g_out) if self.g_out else 0.0 for output in outputs}

    @functools.cached_property
    def loss_is_silent(self) -> bool:
        """Whether the loss sends no gradient into weights that it could send one to."""
        quiet = self.g_out <= self.near_zero.gradient_floor and self._knows_what_the_loss_sends()
        told = all(self.is_told(figures) for figures in self.sites.values() if figures.info.connected)
        return quiet and told and any(figures.info.connected for figures in self.weights.values())

    @functools.cached_property
    def suffering(self) -> frozenset[str]:
        """The layers that learn next to nothing, though the loss has something to say."""
        return self._suffering(zeros_count=True)

    @functools.cached_property
    def surely_suffering(self) -> frozenset[str]:
        """Those that still are without gradients of exactly 0, where few positions make these by chance."""
        return self._suffering(zeros_count=self.chance.is_enough(self.fewest_positions))

    def _suffering(self, *, zeros_count: bool) -> frozenset[str]:
        if self.g_out <= self.near_zero.gradient_floor:
            return frozenset()
        told = [f for f in self.weights.values() if not isinstance(f, SiteFigures) or self.is_told(f)]
        return suffering_layers(told, self.thresholds.near_zero_weights, zeros_count=zeros_count)

    @functools.cached_property
    def chance(self) -> Chance:
        """What units of this model do by chance."""
        units = sum(figures.units for figures in self._rectifying)
        return Chance(units, len(self._rectifying), self.thresholds.chance)

    @property
    def fewest_positions(self) -> float:
        """Of all layers with rectifying units; positions that read the same count once."""
        return min((figures.distinct_positions for figures in self._rectifying), default=math.inf)

    @functools.cached_property
    def _rectifying(self) -> list[SiteFigures]:
        atol = self.near_zero.slope_atol
        return [f for f in self.kernels if f.info.activation.rectifies(atol) and not f.info.logits]

    def is_told(self, figures: SiteFigures) -> bool:
        """Whether a weight's factors say what its gradient is.

        They don't where an inner tape took gradients that the loss is made of, and the terms do not add up.
        There, gradients do not depend on what is added to an output.
        """
        info = figures.info
        if self.flow.records[info.node].order == 1:
            return True
        if not info.connected:
            return not (info.role == "bias" and info.activation.linear)
        return not figures.residual > self.thresholds.residual_limit(info.dtype, figures.terms)

    def _knows_what_the_loss_sends(self) -> bool:
        """Whether it was measured, or estimated well enough to say that it is nothing."""
        if self.statistics.backprop == "tape":
            return True
        nodes = {output.node for output in self.statistics.outputs}
        trusts = [f.pinv_trust for f in self.sites.values() if f.info.activation_node in nodes]
        return min(trusts, default=0.0) >= self.thresholds.pinv_trust

    @functools.cached_property
    def learning_layers(self) -> frozenset[str]:
        """Layers of unknown kind with a weight that gets a live gradient."""
        asked = (f for f in self.whole_layers.values() if f.info.trainable and f.info.connected)
        return frozenset(f.info.layer for f in asked if f.near_zero_fraction <= self.thresholds.affected)

    @functools.cached_property
    def kernels(self) -> list[SiteFigures]:
        """The kernels that nodes have, in the order of the forward pass."""
        sites = (self.flow.site_at(node) for node in range(len(self.flow.records)))
        return [site for site in sites if site is not None]

    def biases_of(self, figures: SiteFigures) -> np.ndarray | None:
        """What the layer of a kernel adds to each of its units; None without a bias."""
        own = figures.info
        of_layer = (f for f in self.sites.values() if f.info.role == "bias" and f.info.node == own.node)
        biases = [f.statistics.kernel.reshape(-1) for f in of_layer if f.info.part == own.part]
        return next((bias for bias in biases if bias.size == figures.units), None)

    def shrinks(self, figures: SiteFigures) -> bool:
        """Whether a kernel is so small that signals shrink by it."""
        return figures.kernel_rms < self.thresholds.small_kernel * figures.healthy_weight

    @functools.cached_property
    def small_kernels(self) -> list[SiteFigures]:
        """The kernels that signals shrink by, input first."""
        return [site for site in self.kernels if self.shrinks(site)]

    @functools.cached_property
    def weakest_kernel(self) -> SiteFigures | None:
        """The smallest of these, against its scale."""
        return min(self.small_kernels, key=lambda site: site.kernel_rms / site.healthy_weight, default=None)

    @functools.cached_property
    def depths(self) -> dict[int, int]:
        """For each node with a kernel: how many kernels the signal has passed, from the data on."""
        depths: dict[int, int] = {}
        for site in self.kernels:
            before = self.flow.upstream_sites(site.info.node)
            depths[site.info.node] = 1 + max((depths[b.info.node] for b in before), default=0)
        return depths

    def is_near_zero(self, rms: float) -> bool:
        """Whether values of this size are near zero, as activations."""
        return rms <= self.near_zero.activation_limit

    def knows(self, layer: str) -> bool:
        """Whether a layer has a node."""
        return any(record.layer == layer for record in self.flow.records)

    def layer_of(self, node: int) -> str:
        """Name of a node's layer."""
        return self.flow.records[node].layer

    def output_rms(self, figures: SiteFigures) -> float:
        """Size of what a kernel's activation puts out."""
        return self.flow.records[figures.info.activation_node].output.rms

    def site_of_output(self, output: OutputStatistics) -> SiteFigures | None:
        """The kernel whose activation an output is; None where no known one makes it, as it is."""
        return None if output.node == DATA or output.changed else self.flow.site_of_activation(output.node)

    def is_output(self, layer: str) -> bool:
        """Whether a layer makes an output."""
        return any(o.node != DATA and self.layer_of(o.node) == layer for o in self.statistics.outputs)

    def output_layer(self) -> str:
        """The layer that makes the (first) output."""
        nodes = [output.node for output in self.statistics.outputs if output.node != DATA]
        return self.layer_of(nodes[0] if nodes else -1)
