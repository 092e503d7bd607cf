"""Gradient flow: what arrives at every node, and what the node lets through.

A gradient's size is that of one sample: √(mean over samples of ‖N · dJ/d(output)‖²) / √K, N samples,
K elements of a position of the model's output. At that output it is g*, a reshape does not change
it, and gains (ratios of norms) multiply along a chain.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Iterator

import numpy as np

from trainobs.analysis._flow_node import FlowNode, name_of
from trainobs.analysis._site_figures import SiteFigures, ratio
from trainobs.records import DATA, OPERATIONS, NodeRecord, Scalars


class Flow:
    """The graph of nodes of a step, with their gains.

    Parameters
    ----------
    nodes : tuple of NodeRecord
        In the order of the forward pass.
    sites : dict of str to SiteFigures
        By path of the kernel's variable.
    elements : int
        K.
    """

    def __init__(self, nodes: tuple[NodeRecord, ...], sites: dict[str, SiteFigures], elements: int) -> None:
        self.records = nodes
        self._elements = elements
        self._upstream: dict[int, tuple[SiteFigures, ...]] = {}
        carrying = [figures for figures in sites.values() if figures.carries]
        self._sites = {figures.info.node: figures for figures in carrying}
        self._activation_of = {figures.info.activation_node: figures for figures in carrying}
        self._scales = {
            figures.info.node: figures for figures in sites.values() if figures.info.role == "scale"
        }
        self._recurrent = [figures for figures in sites.values() if figures.info.role == "recurrent"]
        self._shifts = {
            figures.info.node: figures
            for figures in sites.values()
            if figures.info.role == "bias" and figures.info.node not in self._sites
        }

    def site_at(self, node: int) -> SiteFigures | None:
        """The kernel whose layer is this node."""
        return self._sites.get(node)

    def site_of_activation(self, node: int) -> SiteFigures | None:
        """The kernel whose activation this node holds."""
        return self._activation_of.get(node)

    def owner_of(self, node: int) -> SiteFigures | None:
        """The kernel that a node has, or whose activation it holds."""
        return self.site_at(node) or self.site_of_activation(node)

    def scale_at(self, node: int) -> SiteFigures | None:
        """The scale (gamma, alpha) that this node multiplies with."""
        return self._scales.get(node)

    def shift_at(self, node: int) -> SiteFigures | None:
        """What a node without a kernel adds: beta of a normalisation."""
        return self._shifts.get(node)

    def gates(self, node: int) -> list[SiteFigures]:
        """The kernels of the stages that a call is made of, given its last node or one of them."""
        own = self.records[node]
        last = next((n for n in self.consumers[node] if own.stage and self.is_call_of(n, own)), node)
        stages = [p for p in self.records[last].producers if p != DATA and self.is_call_of(p, own)]
        return [site for p in stages if (site := self.site_at(p)) is not None]

    def recurrent_kernels(self, node: int) -> list[SiteFigures]:
        """What carries a recurrent layer's state from step to step, given the layer's last node."""
        stages = {node, *(gate.info.node for gate in self.gates(node))}
        return [site for site in self._recurrent if site.info.node in stages]

    def is_call_of(self, node: int, other: NodeRecord) -> bool:
        """Whether a node belongs to the same call as another."""
        own = self.records[node]
        return (own.layer, own.call, own.loss) == (other.layer, other.call, other.loss)

    def between(self, figures: SiteFigures) -> list[int]:
        """The nodes between a kernel and the activation that its units go through."""
        behind: list[int] = []
        node, last = figures.info.node, figures.info.activation_node
        while node != last and self.consumers[node]:
            node = self.consumers[node][0]
            behind.append(node)
        return behind[:-1]

    def is_normalised(self, node: int) -> bool:
        """Whether only normalisations read a node."""
        readers = self.consumers[node]
        return bool(readers) and all(map(self.normalises, readers))

    def normalises(self, node: int) -> bool:
        """Whether a node is a normalisation."""
        return self.records[node].normalises

    def end(self, node: int) -> int:
        """The last node that can be reached from one."""
        return self._ends[node]

    @functools.cached_property
    def _ends(self) -> list[int]:
        ends = list(range(len(self.records)))
        for node in reversed(ends[:]):
            ends[node] = max((ends[reader] for reader in self.consumers[node]), default=node)
        return ends

    @functools.cached_property
    def consumers(self) -> list[list[int]]:
        """For each node, the nodes that read its output."""
        readers: list[list[int]] = [[] for _ in self.records]
        for index, record in enumerate(self.records):
            for producer in dict.fromkeys(record.producers):
                if producer != DATA:
                    readers[producer].append(index)
        return readers

    @functools.cached_property
    def nodes(self) -> list[FlowNode]:
        """All nodes, in the order of the forward pass."""
        return [self._node(index, record) for index, record in enumerate(self.records)]

    def _node(self, index: int, record: NodeRecord) -> FlowNode:
        arriving, gain = record.output_gradient, self._gain(index, record)
        slope_gain, kernel_gain = self._gains_of_factors(index, record, gain)
        return FlowNode(
            index=index,
            name=name_of(record),
            layer=record.layer,
            kind=record.kind,
            gradient_rms=math.nan if arriving is None else self._size(arriving, record),
            gain=gain,
            slope_gain=slope_gain,
            kernel_gain=kernel_gain,
            zero=math.nan if arriving is None else arriving.zero_fraction,
            unread=arriving is None and bool(record.unread),
        )

    def _gain(self, index: int, record: NodeRecord) -> float:
        """Size of what a node sends back over the size of what arrives."""
        passed = self.passed_square(index)
        if passed is None:
            return math.nan
        if record.output_gradient is not None:
            return ratio(passed, record.output_gradient.square_sum)
        if record.unread == "unused":
            return 0.0  # what it sends back does not depend on what comes to it
        return math.nan

    def _gains_of_factors(self, index: int, record: NodeRecord, gain: float) -> tuple[float, float]:
        """The gain as that of the slopes and that of the kernel."""
        site = self.site_at(index)
        if site is None:
            return (gain if self.site_of_activation(index) is not None else math.nan), math.nan
        if site.info.activation_node != index:
            return 1.0, gain
        passed, z_norm = self.passed_square(index), record.samples * site.preactivation_gradient_norm
        return site.slope_gain, math.nan if passed is None else ratio(passed, z_norm**2)

    def kernel_gain(self, node: int) -> float:
        """‖dJ/d(input)‖ / ‖dJ/dZ‖ of the kernel of a node; nan where nothing was measured."""
        return self.nodes[node].kernel_gain

    def _size(self, gradient: Scalars, record: NodeRecord) -> float:
        return float(np.sqrt(gradient.square_sum / max(record.samples, 1) / self._elements))

    def passed_square(self, index: int) -> float | None:
        """‖N · dJ/d(inputs)‖² of what a node sends back; None where nothing was measured."""
        passed = [g.square_sum for g in self.records[index].input_gradients if g is not None]
        return float(np.sum(passed)) if passed else None

    def edge_gain(self, index: int, producer: int) -> float:
        """What a node passes on to one of its producers; the gain of the node where that is not known."""
        record = self.records[index]
        sent = [
            g.square_sum
            for p, g in zip(record.producers, record.input_gradients, strict=False)
            if p == producer and g is not None
        ]
        arriving = record.output_gradient
        if arriving is None and self._swallows(index, producer):
            return 0.0
        if not sent and self._gets_nothing(producer) and arriving is not None and arriving.square_sum:
            return 0.0  # whoever else reads the producer, nothing came from this node either
        if not sent or arriving is None:
            return self.nodes[index].gain
        return ratio(float(np.sum(sent)), arriving.square_sum)

    def _swallows(self, index: int, producer: int) -> bool:
        """Whether a node sends a producer zeros only, though a gradient comes to one that reads the node.

        Of a node that was not measured: what comes to it is not known.
        """
        record = self.records[index]
        sent = [g for p, g in zip(record.producers, record.input_gradients, strict=False) if p == producer]
        only_zeros = bool(sent) and all(g is not None and g.zeros == g.size for g in sent)
        arriving = (self.records[reader].output_gradient for reader in self.consumers[index])
        return only_zeros and any(g is not None and g.square_sum > 0 for g in arriving)

    def _gets_nothing(self, index: int) -> bool:
        """Whether the gradient that comes to a node, from all that read it, is exactly zero."""
        gradient = None if index == DATA else self.records[index].output_gradient
        return gradient is not None and gradient.zeros == gradient.size

    def upstream_sites(self, node: int) -> tuple[SiteFigures, ...]:
        """The kernels whose output this node reads, directly or through layers without a kernel."""
        if node not in self._upstream:
            self._upstream[node] = tuple(self._sites_before(node))
        return self._upstream[node]

    def _sites_before(self, node: int) -> Iterator[SiteFigures]:
        todo, seen = collections.deque(self.records[node].producers), {DATA}
        while todo:
            current = todo.popleft()
            if current in seen:
                continue
            seen.add(current)
            site = self.site_at(current)
            if site is not None:
                yield site
            else:
                todo.extend(self.records[current].producers)

    def reads_only(self, reader: int, node: int) -> bool:
        """Whether all that `reader` reads comes from `node`, through layers of one input each."""
        current = reader
        while current != node:
            producers = self.records[current].producers
            between = self.records[current].kind == OPERATIONS
            if len(producers) != 1 or producers[0] == DATA or between:
                return False
            current = producers[0]
        return True

    def reads_data(self, node: int) -> bool:
        """Whether no kernel stands between the data and this node."""
        return not self.upstream_sites(node)
