"""Records of nodes: sums over what they put out, and over the gradients that come by."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from trainobs.capture.reading._plan import NodePlan, StepPlan
from trainobs.capture.reading._values import StepValues
from trainobs.records import DATA, NodeRecord, Scalars, SiteRecord, scalars_of, sums_of

_NOTHING = Scalars(0.0, 0.0, 0.0, 0.0)


def node_records(plan: StepPlan, sites: Sequence[SiteRecord], values: StepValues) -> tuple[NodeRecord, ...]:
    """All nodes of a step; `sites` hold what was not read of them."""
    arriving = [_arriving(node, values) for node in plan.nodes]
    for site in sites:  # known only behind the kernel, where the loss reads the logits or a call has stages
        if arriving[site.activation_node] is None and (site.logits or plan.nodes[site.node].stage):
            arriving[site.activation_node] = scalars_of(site.output_gradient)
    samples, outputs = values.of(plan.samples), _outputs(plan.nodes, sites)
    return tuple(
        NodeRecord(
            layer=node.layer,
            kind=node.kind,
            call=node.call,
            loss=node.loss,
            stage=node.stage,
            producers=node.producers,
            activation=node.activation,
            unread=node.unread,
            normalises=node.normalises,
            cuts_gradient=node.cuts_gradient,
            adds_loss=node.adds_loss,
            order=node.order,
            cut_at=node.cut_at,
            made_at=node.made_at,
            samples=0 if node.sample is None or samples is None else int(samples[node.sample]),
            output=outputs.get(number, _NOTHING),
            output_gradient=arriving[number],
            input_gradients=tuple(None if maker == DATA else arriving[maker] for maker in node.sole_makers),
        )
        for number, node in enumerate(plan.nodes)
    )


def _arriving(node: NodePlan, values: StepValues) -> Scalars | None:
    """Sums over what arrived at all outputs of a node."""
    found = [read.of(values) for read in node.output_gradients]
    parts = [part if isinstance(part, Scalars) else sums_of(part) for part in found]
    return functools.reduce(Scalars.__add__, parts) if parts else None


def _outputs(nodes: Sequence[NodePlan], sites: Sequence[SiteRecord]) -> dict[int, Scalars]:
    """Sums over what nodes put out, as far as sites hold it."""
    found: dict[int, Scalars] = {}
    seen: dict[int, Scalars] = {}

    def sums(values: np.ndarray) -> Scalars:
        return seen.setdefault(id(values), sums_of(values))

    for site in sites:
        (reads,) = nodes[site.node].producers[:1] or (DATA,)
        if reads != DATA and site.role == "kernel":
            found[reads] = sums(site.input)
        found[site.node] = sums(site.preactivation)
    return found | {site.activation_node: sums(site.output) for site in sites}
