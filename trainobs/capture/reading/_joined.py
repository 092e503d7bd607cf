"""Several records of one step as one: of graphs that ran one after the other, like so many passes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from trainobs.records import DATA, StepRecord


def joined(records: Sequence[StepRecord]) -> StepRecord:
    """One record of what several graphs did one after the other, like one of as many passes."""
    if len(records) == 1:
        return records[0]
    places = itertools.accumulate((len(record.nodes) for record in records), initial=0)
    losses = itertools.accumulate((_losses_of(record) for record in records), initial=0)
    moved = [_moved(*one) for one in zip(records, places, losses, strict=False)]
    whole = dataclasses.replace(
        records[-1],
        sites=tuple(site for record in moved for site in record.sites),
        nodes=tuple(node for record in moved for node in record.nodes),
        outputs=tuple(output for record in moved for output in record.outputs),
        weights=tuple(weight for record in moved for weight in record.weights),
    )
    return _where_differentiated(whole)


def _losses_of(record: StepRecord) -> int:
    """How many gradients of losses a record has."""
    return 1 + max((node.loss for node in record.nodes), default=-1)


def _moved(record: StepRecord, place: int, loss: int) -> StepRecord:
    """A record whose nodes and losses are numbered from these numbers on."""

    def at(number: int) -> int:
        return number if number == DATA else number + place

    replace = dataclasses.replace
    return replace(
        record,
        sites=tuple(
            replace(s, node=at(s.node), activation_node=at(s.activation_node), loss=s.loss + loss)
            for s in record.sites
        ),
        nodes=tuple(
            replace(n, producers=tuple(map(at, n.producers)), loss=n.loss + loss) for n in record.nodes
        ),
        outputs=tuple(replace(o, node=at(o.node)) for o in record.outputs),
        weights=tuple(replace(w, nodes=tuple(map(at, w.nodes))) for w in record.weights),
    )


def _where_differentiated(record: StepRecord) -> StepRecord:
    """Each weight where it has a gradient, and once; as a site if there is one."""
    known = {site.weight for site in record.sites if site.kernel_gradient is not None}
    known |= {weight.weight for weight in record.weights if weight.gradient is not None}
    sites = tuple(s for s in record.sites if s.kernel_gradient is not None or s.weight not in known)
    there = {site.weight for site in sites}
    others = [w for w in record.weights if w.gradient is not None or w.weight not in known]
    weights = {weight.weight: weight for weight in others if weight.weight not in there}
    return dataclasses.replace(record, sites=sites, weights=tuple(weights.values()))
