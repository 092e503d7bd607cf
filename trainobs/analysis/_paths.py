"""The ways from a node to the loss, and what the gradient loses on them.

From a node with one reader leads an `Edge`. From one with several leads a `Stretch`, up to the first
node that all of them lead to: it has a *branch* for each reader, and a gradient is lost on it only if it
is lost on every branch. Losses are powers of ten: 2 for a gain of 0.01.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping

from trainobs.analysis._flow import Flow
from trainobs.records import OPERATIONS

#: Where every way ends.
LOSS = -1


@dataclasses.dataclass(frozen=True)
class Edge:
    """The way back from a node, or the `LOSS`, to one that it reads."""

    reader: int
    maker: int


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The way from a node to where all its readers lead to, which is the same for all of them.

    Attributes
    ----------
    start, end : int
        Nodes; the end may be `LOSS`.
    branches : tuple of tuple of (Edge or Stretch)
        From the start on.
    """

    start: int
    end: int
    branches: tuple[tuple[Edge | Stretch, ...], ...]


Piece = Edge | Stretch


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is lost on a piece of the way, and which factor of its reader takes it.

    Attributes
    ----------
    powers : float
        Powers of ten; inf where nothing gets through.
    factor : {"slope", "kernel", "layer", "loss", "branches"}
    """

    powers: float
    factor: str


class Paths:
    """The ways through a flow.

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

    def to_loss(self, node: int) -> tuple[Piece, ...]:
        """The pieces of the way from a node to the loss, in their order; none if no way leads there."""
        return self._until(node, LOSS, self._pieces)

    def loss(self, piece: Piece) -> Loss:
        """What is lost on a piece: of several branches, on the one that loses least."""
        if isinstance(piece, Edge):
            return self._at(piece)
        return Loss(self._least[piece.start], "branches")

    def loudest(self, way: Iterable[Piece]) -> list[Edge]:
        """The edges of a way, on each stretch those of the (shortest) branch that loses least."""
        edges: list[Edge] = []
        todo = [*way][::-1]
        while todo:
            piece = todo.pop()
            if isinstance(piece, Edge):
                edges.append(piece)
            else:
                losses = [self._on(branch, self._least) for branch in piece.branches]
                least = min(range(len(losses)), key=lambda at: (losses[at], len(piece.branches[at])))
                todo += piece.branches[least][::-1]
        return edges

    @functools.cached_property
    def _least(self) -> dict[int, float]:
        """For each stretch, by its start: what is lost on it. From the loss on: inner ones come first."""
        least: dict[int, float] = {}
        for node, piece in self._pieces.items():
            if isinstance(piece, Stretch):
                least[node] = min(self._on(branch, least) for branch in piece.branches)
        return least

    def _on(self, way: Iterable[Piece], least: Mapping[int, float]) -> float:
        return sum(self._at(p).powers if isinstance(p, Edge) else least[p.start] for p in way)

    def _at(self, edge: Edge) -> Loss:
        if edge.reader == LOSS:
            return Loss(self._outputs.get(edge.maker, 0.0), "loss")
        flow, site = self._flow.nodes[edge.reader], self._flow.site_at(edge.reader)
        if site is None:
            owner = self._flow.site_of_activation(edge.reader)
            gain = self._flow.edge_gain(edge.reader, edge.maker)
            return Loss(powers(gain), "layer" if owner is None else "slope")
        slope = math.inf if site.off_fraction == 1.0 else powers(flow.slope_gain)
        kernel = math.inf if site.kernel_rms == 0 else powers(flow.kernel_gain)
        return Loss(slope, "slope") if slope >= kernel else Loss(kernel, "kernel")

    def _until(self, node: int, end: int, pieces: Mapping[int, Piece]) -> tuple[Piece, ...]:
        way: list[Piece] = []
        while node != end and node in self._meeting:
            way.append(pieces[node])
            node = self._meeting[node]
        return tuple(way)

    @functools.cached_property
    def _pieces(self) -> dict[int, Piece]:
        """For each node the piece that begins there, from the loss on."""
        begun: dict[int, Piece] = {}
        for node, readers in self._readers.items():
            end = self._meeting[node]
            branches = tuple(
                (Edge(reader, node), *(() if reader == LOSS else self._until(reader, end, begun)))
                for reader in readers
            )
            begun[node] = Stretch(node, end, branches) if len(readers) > 1 else Edge(end, node)
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


def powers(gain: float) -> float:
    """Powers of ten lost by a gain: inf for 0, 0 where nothing was measured."""
    if not math.isfinite(gain):
        return 0.0
    return math.inf if gain == 0 else -math.log10(gain)
