"""What the record of a step lacks of its backward pass, worked out or estimated."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.linear_ops import sent_back
from trainobs.records import DATA, OPERATIONS, NodeRecord, SiteRecord, StepRecord, scalars_of
from trainobs.statistics._pseudo_inverse import BackpropEstimate, Key, key

Array = np.ndarray


def estimated(record: StepRecord, estimates: dict[Key, BackpropEstimate]) -> StepRecord:
    """The step with every backward quantity but dJ/dW replaced by its estimate."""
    sites = []
    for site in record.sites:
        estimate = estimates.get(key(site))
        if estimate is None and site.role != "kernel":
            continue  # a bias or a scale has no estimate of its own
        own = site.op.own_units
        arriving = None if estimate is None else own(estimate.output_gradient, site.preactivation.shape)
        passed = arriving
        if arriving is not None and site.consumers and not site.logits:
            passed = arriving * site.slope
        sites.append(dataclasses.replace(site, output_gradient=arriving, preactivation_gradient=passed))
    by_node = {site.activation_node: site for site in sites}
    outputs = []
    for output in record.outputs:
        maker = by_node.get(output.node)
        outputs.append(dataclasses.replace(output, gradient=None if maker is None else maker.output_gradient))
    nodes = _estimated_nodes(record, sites, estimates)
    return dataclasses.replace(record, sites=tuple(sites), outputs=tuple(outputs), nodes=nodes)


def measured_at_forks(record: StepRecord) -> tuple[NodeRecord, ...]:
    """Nodes with what kernels send back to an input that others read too: dJ/dZ ∘ᵀ W."""
    nodes, into_operations = list(record.nodes), dict[int, Array]()
    for site in record.sites:
        node, gradient = nodes[site.node], site.preactivation_gradient
        reads = node.producers[:1] != (DATA,) and node.input_gradients == (None,)
        if gradient is None or not reads or site.role != "kernel":
            continue
        sent = sent_back(site.op, site.kernel, gradient, site.input.shape)
        nodes[site.node] = dataclasses.replace(node, input_gradients=(scalars_of(sent),))
        if nodes[node.producers[0]].kind == OPERATIONS:  # read by one call, maybe by several gates of it
            into_operations[node.producers[0]] = into_operations.get(node.producers[0], 0.0) + sent
    for number, arriving in into_operations.items():
        nodes[number] = dataclasses.replace(nodes[number], output_gradient=scalars_of(arriving))
    return tuple(nodes)


def _estimated_nodes(
    record: StepRecord, sites: list[SiteRecord], estimates: dict[Key, BackpropEstimate]
) -> tuple[NodeRecord, ...]:
    arriving = {site.activation_node: scalars_of(site.output_gradient) for site in sites}
    sent = {site.node: scalars_of(estimates[key(site)].sent) for site in sites if key(site) in estimates}
    return tuple(
        dataclasses.replace(node, output_gradient=arriving.get(i), input_gradients=(sent.get(i),))
        for i, node in enumerate(record.nodes)
    )
