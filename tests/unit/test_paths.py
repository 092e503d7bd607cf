"""The ways to the loss, against every path of small random graphs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainobs.analysis._flow import Flow
from trainobs.analysis._paths import LOSS, Edge, Paths, powers
from trainobs.records import NodeRecord, Scalars


def sums(square_sum):
    """Of a tensor with this sum of squares."""
    return Scalars(square_sum, 0.0, 0.0, 4.0)


def record(makers, sent, arriving=1.0, **fields):
    """A node that reads `makers`, and sends them gradients with these sums of squares."""
    given = {"call": 0, "samples": 1, "output": sums(1.0), "output_gradient": arriving and sums(arriving)}
    named = {"layer": "some", "kind": "Layer", "loss": 0, "stage": ""}
    return NodeRecord(
        **(named | given | fields), producers=tuple(makers), input_gradients=tuple(map(sums, sent))
    )


@st.composite
def graphs(draw):
    """Nodes whose readers come later; all but the last are read by one of them or by the loss."""
    size = draw(st.integers(2, 8))
    readers = [draw(st.sets(st.integers(n + 1, size - 1), min_size=1, max_size=3)) for n in range(size - 1)]
    makers = [[m for m in range(n) if n in readers[m]] for n in range(size)]
    sent = [[10.0 ** draw(st.integers(-8, 1)) for _ in own] for own in makers]
    outputs = {size - 1: 0.0} | {
        node: float(draw(st.integers(0, 4))) for node in draw(st.sets(st.integers(0, size - 1), max_size=2))
    }
    return Flow(tuple(record(m, s) for m, s in zip(makers, sent, strict=True)), {}, 1), outputs


def paths(flow, outputs, node):
    """All paths from a node to the loss, as lists of edges."""
    if node in outputs:
        yield [Edge(LOSS, node)]
    for reader in flow.consumers[node]:
        yield from ([Edge(reader, node), *rest] for rest in paths(flow, outputs, reader))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_against_all_paths(graph):
    """Pieces end where all paths meet; the least that is lost on any path is what the loudest one loses."""
    flow, outputs = graph
    ways = Paths(flow, outputs, measured=True)
    for node in range(len(flow.records)):
        every = list(paths(flow, outputs, node))
        common = set.intersection(*({edge.reader for edge in path} for path in every))
        pieces = ways.to_loss(node)
        ends = [piece.reader if isinstance(piece, Edge) else piece.end for piece in pieces]
        assert set(ends) == common
        assert ends == sorted(ends, key=lambda end: math.inf if end == LOSS else end)
        lost = [sum(ways.loss(edge).powers for edge in path) for path in every]
        loudest = list(ways.loudest(pieces))
        assert loudest in every
        assert sum(ways.loss(edge).powers for edge in loudest) == pytest.approx(min(lost))
        assert sum(ways.loss(piece).powers for piece in pieces) == pytest.approx(min(lost))


def test_no_way_leads_through_what_gets_no_gradient():
    """A reader that backprop never came to is no branch; one that was not read may be."""
    for unread, readers in (("", [2]), ("order", [1, 2])):
        nodes = (
            record([], []),
            record([0], [1.0], arriving=None, unread=unread),
            record([0], [1.0]),
            record([1, 2], [1.0, 1.0]),
        )
        (piece, *_) = Paths(Flow(nodes, {}, 1), {3: 0.0}, measured=True).to_loss(0)
        branches = [piece] if isinstance(piece, Edge) else [branch.piece for branch in piece.branches]
        assert [edge.reader for edge in branches] == readers


def test_many_forks_in_a_row():
    """Two readers at each of 400 nodes: as many pieces, not 2 to the power of them."""
    nodes = [record([], [])]
    for fork in range(0, 1200, 3):
        nodes += [record([fork], [1e-2]), record([fork], [1e-3]), record([fork + 1, fork + 2], [1.0, 1.0])]
    ways = Paths(Flow(tuple(nodes), {}, 1), {1200: 0.0}, measured=True)
    pieces = ways.to_loss(0)
    assert len(pieces) == 401
    assert sum(ways.loss(piece).powers for piece in pieces) == pytest.approx(400)


@pytest.mark.parametrize(("gain", "lost"), [(0.01, 2.0), (0.0, math.inf), (math.nan, 0.0), (10.0, -1.0)])
def test_powers(gain, lost):
    """Powers of ten; a gain that is not known loses nothing."""
    assert powers(gain) == lost


def test_everything_reads_everything() -> None:
    """150 nodes that each read all before them: as many stretches within each other."""
    nodes = [record(range(n), [1e-1] * n) for n in range(150)]
    ways = Paths(Flow(tuple(nodes), {}, 1), {149: 0.0}, measured=True)
    stretch = ways.to_loss(0).piece
    assert len(stretch.branches) == 149 and stretch.end == 149
    assert list(ways.loudest(ways.to_loss(0))) == [Edge(149, 0), Edge(LOSS, 149)]
    assert ways.loss(stretch).powers == pytest.approx(0.5)
