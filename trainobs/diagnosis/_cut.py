"""Where a gradient that the tape returned None for comes to an end."""

from __future__ import annotations

import collections

from trainobs.analysis import Case, WholeLayerFigures
from trainobs.diagnosis._origin import Origin, at_its_layer
from trainobs.mechanisms import Disconnected


def where_layer_is_cut(case: Case, figures: WholeLayerFigures) -> Origin:
    """Of a weight of a layer of unknown kind: inside of the layer, if a gradient came to it, or behind it."""
    info = figures.info
    if not info.nodes:
        return Origin(Disconnected(info.layer, "unseen"))
    if any(_arrived(case, node) for node in info.nodes):
        return Origin(Disconnected(info.layer, "inside"))
    return where_cut(case, info.nodes[-1])


def where_cut(case: Case, start: int) -> Origin:
    """The nearest node, from one towards the loss, that a gradient came to: the cut is before it."""
    todo: collections.deque[tuple[int, tuple[int, ...]]] = collections.deque([(start, ())])
    seen = set()
    while todo:
        node, between = todo.popleft()
        if node in seen:
            continue
        seen.add(node)
        for reader in case.flow.consumers[node]:
            if _arrived(case, reader):
                return at_its_layer(_cut_before(case, between, reader))
            has_kernel = case.flow.site_at(reader) is not None or bool(case.flow.gates(reader))
            todo.append((reader, () if has_kernel else (*between, reader)))
    return Origin(Disconnected.before_the_loss(case, case.flow.end(start)), ("no path to the loss",))


def _arrived(case: Case, node: int) -> bool:
    """Whether a gradient came to a node; to a stage of a call, whether one came to the call."""
    record = case.flow.records[node]
    last = [n for n in case.flow.consumers[node] if record.stage and case.flow.is_call_of(n, record)]
    if last:
        return any(_arrived(case, n) for n in last)
    return record.output_gradient is not None or bool(record.unread)


def _cut_before(case: Case, between: tuple[int, ...], reader: int) -> Disconnected:
    """Name the layer that lets no gradient through: one comes to `reader`, but none to `between`."""
    known = [node for node in (*between, reader) if case.flow.records[node].cut_at is not None]
    if known:  # the last: a gradient arrives there
        return Disconnected.within(case, known[-1])
    if case.flow.records[reader].cuts_gradient:
        return Disconnected.within(case, reader)
    suspects = [node for node in between if case.flow.records[node].cuts_gradient]
    if not suspects and len(between) == 1:
        suspects = [between[0]]
    if suspects and case.flow.records[suspects[0]].made_at is not None:
        return Disconnected.within(case, suspects[0])
    if suspects:
        return Disconnected(case.layer_of(suspects[0]), "layer", case.layer_of(reader))
    passes = bool(between) or case.flow.site_at(reader) is not None  # a kernel hands it on
    return Disconnected(case.layer_of(reader), "before" if passes else "node")
