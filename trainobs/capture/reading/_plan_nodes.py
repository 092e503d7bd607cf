"""Plans of nodes: the places that the gradient passes on its way back."""

from __future__ import annotations

import dataclasses
import itertools

from trainobs.capture.layers import can_cut_gradient, is_attention, normalises
from trainobs.capture.reading._plan import NodePlan
from trainobs.capture.reading._trace import LayerCall
from trainobs.capture.reading._traced_step import TracedStep
from trainobs.records import DATA, OPERATIONS, SCORES


def plan_nodes(step: TracedStep) -> list[NodePlan]:
    """All nodes, pass by pass: those of calls, then those before outputs."""
    return [node for in_pass in step.trace.passes for node in _of_pass(step, in_pass)]


def _of_pass(step: TracedStep, in_pass: int) -> list[NodePlan]:
    calls = range(len(step.trace.calls))
    return [
        *(node for index in calls for node in _of_call(step, index, in_pass)),
        *_before_outputs(step, in_pass),
    ]


def _before_outputs(step: TracedStep, in_pass: int) -> list[NodePlan]:
    found = []
    for output, origin in zip(step.trace.outputs, step.wiring.outputs_changed, strict=True):
        if origin:
            arriving = output.gradients.get((in_pass, 0))
            sums = () if arriving is None else (step.reads.sums(arriving),)
            node = _operations(step, origin, in_pass, "the output")
            found.append(dataclasses.replace(node, output_gradients=sums))
    return found


def _of_call(step: TracedStep, index: int, in_pass: int) -> list[NodePlan]:
    """The call's node behind those of its stages, behind those of operations between it and what it reads."""
    call, last = step.trace.calls[index], step.numbers[in_pass, index]
    node, stages = _last_of_call(step, index, in_pass), call.stages
    origins = zip(step.wiring.producers[index], step.wiring.changed[index], strict=True)
    between = [origin for origin, changed in origins if changed]
    before = [_operations(step, origin, in_pass, call.layer.name, call) for origin in between]
    if not stages:
        return [*before, node]
    inner = tuple(range(last - len(stages), last))
    return [
        *before,
        *(_stage(node, name, alone=len(stages) == 1) for name in stages),
        dataclasses.replace(node, producers=inner, sole_makers=inner),
    ]


def _stage(node: NodePlan, name: str, *, alone: bool) -> NodePlan:
    """A stage of a call, given the call's node."""
    sent = node.sole_makers if alone else (DATA,) * len(node.sole_makers)
    return dataclasses.replace(
        node, stage=name, output_gradients=(), activation="", unread="", sole_makers=sent
    )


def _operations(
    step: TracedStep, origin: tuple[int, ...], in_pass: int, reader: str, call: LayerCall | None = None
) -> NodePlan:
    """The node of what happens between layers: nothing is tapped there, so its output is not known."""
    attention = None if call is None or not is_attention(call.inside) else call.inside
    return NodePlan(
        layer=f"operations before {reader}" if attention is None else attention.name,
        kind=OPERATIONS,
        call=0 if call is None else call.call,
        loss=step.trace.passes.index(in_pass),
        stage="" if attention is None else SCORES,
        producers=tuple(step.numbers[in_pass, producer] for producer in origin),
        sample=step.sample_places[origin[0]],
        sole_makers=tuple(_sole_reader(step, maker, in_pass) for maker in origin),
    )


def _sole_reader(step: TracedStep, maker: int, in_pass: int) -> int:
    """The node of a call that is read at one place only, DATA of any other."""
    wiring = step.wiring
    places = sum(maker in origin for origins in wiring.producers for origin in origins)
    outputs = zip(wiring.outputs_changed, wiring.output_nodes, strict=True)
    places += sum(maker in (*changed, node) for changed, node in outputs)
    return step.numbers[in_pass, maker] if places == 1 else DATA


def _last_of_call(step: TracedStep, index: int, in_pass: int) -> NodePlan:
    call = step.trace.calls[index]
    arriving = [gradient for (own, _), gradient in call.output_gradients.items() if own == in_pass]
    applied = step.activations.get(id(call.layer))
    return NodePlan(
        layer=call.layer.name,
        kind=type(call.layer).__name__,
        call=call.call,
        loss=step.trace.passes.index(in_pass),
        producers=_producers(step, index, in_pass),
        sample=step.sample_places.get(index),
        output_gradients=tuple(map(step.reads.sums, arriving)),
        activation="" if applied is None else applied.activation.name,
        unread=_unread(step, call, in_pass),
        sole_makers=tuple(
            _sole_maker(step, index, origin, in_pass) for origin in step.wiring.producers[index]
        ),
        normalises=normalises(call.layer),
        cuts_gradient=can_cut_gradient(call.layer),
        order=step.trace.orders.get(in_pass, 1),
    )


def _unread(step: TracedStep, call: LayerCall, in_pass: int) -> str:
    """Why the gradient at a call's output was not read, if one came (see `NodeRecord`)."""
    if any(own == in_pass for own, _ in call.unused):
        return "unused"
    return "order" if step.trace.is_unread(call.output_gradients, in_pass) else ""


def _producers(step: TracedStep, index: int, in_pass: int) -> tuple[int, ...]:
    """For each input the node it came from: a call's, or that of operations in between."""
    changed = step.wiring.changed[index]
    first = step.numbers[in_pass, index] - len(step.trace.calls[index].stages) - sum(changed)
    operations = itertools.count(first)
    return tuple(
        next(operations) if between else step.numbers[in_pass, origin[0]] if origin else DATA
        for origin, between in zip(step.wiring.producers[index], changed, strict=True)
    )


def _sole_maker(step: TracedStep, node: int, origin: tuple[int, ...], in_pass: int) -> int:
    """The node whose whole gradient comes from this call; DATA where there is none.

    Only then is what the call sends back to this input known without a tap before it.
    """
    wiring = step.wiring
    if len(origin) != 1 or (origin[0], node) not in wiring.direct:
        return DATA
    sole = wiring.consumers[origin[0]] == [node] and origin[0] not in wiring.output_nodes
    return step.numbers[in_pass, origin[0]] if sole else DATA
