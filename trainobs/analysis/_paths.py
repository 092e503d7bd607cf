"""The ways from a node to the loss, and what the gradient loses on them.

From a node with one reader leads an `Edge`. From one with several leads a `Stretch`, up to the first
node that all of them lead to: it has a *branch* for each reader, and a gradient is lost on it only if it
is lost on every branch. Losses are powers of ten: 2 for a gain of 0.01.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

from trainobs.analysis._flow import Flow
from trainobs.analysis._site_figures import SiteFigures
from trainobs.analysis._ways import LOSS, Edge, Loss, Piece, Stretch, Way
from trainobs.records import OPERATIONS


class Paths:
    """The ways through a flow, each part of them made once.

    Parameters
    ----------
    flow : Flow
    outputs : mapping of int to float
        Of each node that a loss reads, how many powers of ten less it gets than the loudest of them.
    measured : bool
        Whether a node without a gradient is known to get none.
    """

    def __init__(self, flow: Flow, outputs: Mapping[int, float], *, measured: bool) -> None:
        self._flow, self._outputs, self._measured = flow, outputs, measured
        self._ways: dict[tuple[int, int], Way] = {}
        self._alone: dict[Piece, Way] = {}
        self._loudest: dict[tuple[Piece, int], Way] = {}

    def to_loss(self, node: int) -> Way | None:
        """The way from a node to the loss; None if no way leads there."""
        return self.between(node, LOSS)

    def between(self, node: int, end: int) -> Way | None:
        """The way from a node to one that all ways to the loss pass; None for no way at all."""
        return self._between(node, end, self._pieces)

    def loss(self, piece: Piece) -> Loss:
        """What is lost on a piece: of several branches, on the one that loses least."""
        if isinstance(piece, Edge):
            return self._at(piece)
        least = min(branch.net for branch in piece.branches)
        return Loss(least, "branches", least)

    def alone(self, piece: Piece) -> Way:
        """The way that a piece is by itself."""
        if piece not in self._alone:
            self._alone[piece] = Way(piece, self.loss(piece))
        return self._alone[piece]

    def loudest(self, way: Way) -> Way:
        """The edges of a way, on each stretch those of the (shortest) branch that loses least."""
        new: list[Piece] = []
        part: Way | None = way
        while part is not None and (part.piece, way.end) not in self._loudest:
            new.append(part.piece)
            part = self.between(_first_edge(part.piece).reader, way.end)
        behind = None if part is None else self._loudest[part.piece, way.end]
        for piece in reversed(new):
            edge = _first_edge(piece)
            behind = self._loudest[piece, way.end] = Way(edge, self._at(edge), behind)
        return self._loudest[way.piece, way.end]

    def _at(self, edge: Edge) -> Loss:
        if edge.reader == LOSS:
            lost = self._outputs.get(edge.maker, 0.0)
            return Loss(lost, "loss", lost)
        site = self._flow.site_at(edge.reader)
        if site is not None:
            return self._at_kernel(site)
        owner = self._flow.site_of_activation(edge.reader)
        lost = powers(self._flow.edge_gain(edge.reader, edge.maker))
        return Loss(lost, "layer" if owner is None else "slope", lost)

    def _at_kernel(self, site: SiteFigures) -> Loss:
        """At a kernel, with its activation if that is no node of its own: by both together."""
        node = self._flow.nodes[site.info.node]
        slope = math.inf if site.off_fraction == 1.0 else powers(node.slope_gain)
        kernel = math.inf if site.kernel_rms == 0 else powers(node.kernel_gain)
        factor, taken = ("slope", slope) if slope >= kernel else ("kernel", kernel)
        return Loss(slope + kernel, factor, taken)

    def _between(self, node: int, end: int, pieces: Mapping[int, Piece]) -> Way | None:
        new: list[int] = []
        while node != end and node in self._meeting and (node, end) not in self._ways:
            new.append(node)
            node = self._meeting[node]
        way = self._ways.get((node, end))
        for start in reversed(new):
            way = self._ways[start, end] = Way(pieces[start], self.loss(pieces[start]), way)
        return way

    @functools.cached_property
    def _pieces(self) -> dict[int, Piece]:
        """For each node the piece that begins there, from the loss on."""
        begun: dict[int, Piece] = {}
        for node, readers in self._readers.items():
            edges, end = [Edge(reader, node) for reader in readers], self._meeting[node]
            branches = (Way(edge, self._at(edge), self._between(edge.reader, end, begun)) for edge in edges)
            begun[node] = Stretch(node, end, tuple(branches)) if len(edges) > 1 else edges[0]
        return begun

    @functools.cached_property
    def _readers(self) -> dict[int, tuple[int, ...]]:
        """For each node, the readers by which the loss depends on it; at an output the loss itself is one.

        A node that nobody reads, though a gradient comes to it, is read by a loss that was not seen.
        """
        readers: dict[int, tuple[int, ...]] = {}
        for node in reversed(range(len(self._flow.records))):
            later = tuple(n for n in self._flow.consumers[node] if n in readers)
            here = (LOSS,) if node in self._outputs or not self._flow.consumers[node] else ()
            if (later or here) and self._gets_gradient(node, later):
                readers[node] = (*later, *here)
        return readers

    def _gets_gradient(self, node: int, readers: tuple[int, ...]) -> bool:
        """Whether backprop came to a node, as far as is known."""
        record = self._flow.records[node]
        unknown = record.kind == OPERATIONS or bool(record.unread) or not self._measured
        return record.output_gradient is not None or (unknown and bool(readers))

    @functools.cached_property
    def _meeting(self) -> dict[int, int]:
        """For each node, the first one that all ways to the loss pass: its immediate post-dominator."""
        meetings: dict[int, int] = {}
        for node, readers in self._readers.items():  # from the loss on
            meeting = readers[0]
            for reader in readers[1:]:
                meeting = self._common(meeting, reader, meetings)
            meetings[node] = meeting
        return meetings

    @staticmethod
    def _common(one: int, other: int, meetings: dict[int, int]) -> int:
        """The first node on both ways; those of later nodes are known."""
        while one != other:
            if one != LOSS and (other == LOSS or one < other):
                one = meetings[one]
            else:
                other = meetings[other]
        return one


def _first_edge(piece: Piece) -> Edge:
    """The edge itself; of a stretch, the first one of the (shortest) branch that loses least."""
    if isinstance(piece, Edge):
        return piece
    first = min(piece.branches, key=lambda branch: (branch.net, branch.length)).piece
    assert isinstance(first, Edge)
    return first


def powers(gain: float) -> float:
    """Powers of ten lost by a gain: inf for 0, 0 where nothing was measured."""
    if not math.isfinite(gain):
        return 0.0
    return math.inf if gain == 0 else -math.log10(gain)
