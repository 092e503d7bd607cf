"""From the trace of a step to its plan, and to the list of tensors that the step returns.

Every tensor is read once, however many fields hold it. Only tensors that the user's own step computes
as results are read (see `_reads`): inputs of layers with weights, outputs of activations, gradients. Z,
what follows from it, and sums over values are worked out when the record is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from trainobs.capture.layers import Probed
from trainobs.capture.reading._between import Between
from trainobs.capture.reading._plan import CallPlan, CompiledLoss, OtherWeightPlan, OutputPlan, StepPlan
from trainobs.capture.reading._plan_calls import plan_calls
from trainobs.capture.reading._plan_nodes import plan_nodes
from trainobs.capture.reading._terms import length_of
from trainobs.capture.reading._trace import LayerCall, ModelOutput, StepTrace
from trainobs.capture.reading._traced_step import OwnedWeight, TracedStep
from trainobs.capture.reading._values import TensorRead
from trainobs.records import DATA

Selects = Callable[[keras.Layer], bool]


def plan_step(
    trace: StepTrace,
    activations: Mapping[int, Probed],
    selects: Selects,
    losses: Sequence[CompiledLoss],
    owned: Sequence[OwnedWeight],
) -> tuple[StepPlan, list[tf.Tensor]]:
    """Plan what a step returns.

    Parameters
    ----------
    trace : StepTrace
        A finished step.
    activations : dict of int to Probed
        By id of the layer, its activation function.
    selects : callable
        Given a layer, whether its weights are recorded.
    losses : list of CompiledLoss
        For each output of the model.
    owned : list of OwnedWeight
        The model's trainable variables.

    Returns
    -------
    StepPlan, list of tensors
        The plan, and what the step has to return, in the order in which it was asked for.
    """
    step = TracedStep.of(trace, activations, [own.variable for own in owned])
    reads = step.reads
    read = reads.gradient if trace.loss_is_scaled else reads.value
    targets = tuple(loss for tensor in trace.losses if (loss := read(tensor)) is not None)
    calls = plan_calls(step, selects)
    plan = StepPlan(
        losses=targets,
        loss_scale=reads.loss_scale,
        calls=tuple(calls),
        samples=_samples(step),
        nodes=tuple(plan_nodes(step)),
        outputs=tuple(_outputs(step, losses)),
        weights=tuple(_other_weights(step, owned, selects, calls)),
        scaled=frozenset(reads.scaled),
        idle=trace.idle,
    )
    return plan, reads.tensors


def _samples(step: TracedStep) -> TensorRead | None:
    """The batch sizes of all calls that put something out."""
    sizes = [_batch_size(call) for call in step.trace.calls if call.returned]
    return step.reads.value(tf.stack(sizes)) if sizes else None


def _batch_size(call: LayerCall) -> tf.Tensor:
    """Size of the batch, of a gradient or an input, which are read anyway; 0 where neither is: nothing
    that the record holds of such a node depends on it, and reading its output may change the training."""
    known = (*call.output_gradients.values(), *call.operands.values())
    tensor = next((tensor for tensor in known if isinstance(tensor, tf.Tensor)), None)
    return tf.constant(0) if tensor is None else length_of(tensor)


def _outputs(step: TracedStep, losses: Sequence[CompiledLoss]) -> list[OutputPlan]:
    trace = step.trace
    places = [
        (in_pass, node, output)
        for in_pass in trace.passes
        for node, output in zip(step.wiring.output_nodes, trace.outputs, strict=True)
    ]
    described = itertools.chain([*losses] * len(trace.passes), itertools.repeat(CompiledLoss()))
    return [_output(step, *place, loss) for place, loss in zip(places, described, strict=False)]


def _output(step: TracedStep, in_pass: int, node: int, output: ModelOutput, loss: CompiledLoss) -> OutputPlan:
    direct, behind = (found.get((in_pass, 0)) for found in (output.gradients, output.logits_gradients))
    logits, reads = direct is None and behind is not None, step.reads
    value = reads.value(output.value)
    assert value is not None
    made = [leaf for call in step.trace.calls for leaf in call.returned]
    return OutputPlan(
        node=DATA if node == DATA else step.numbers[in_pass, node],
        logits=logits,
        loss=loss,
        value=value,
        target=reads.value(output.target),
        sample_weight=reads.value(output.sample_weight),
        mask=reads.value(output.mask),
        gradient=reads.gradient(behind if logits else direct),
        cut_at=None if direct is not None or logits else Between(step.trace.losses, [output.value]).cut(),
        changed=Between([output.value], made).changes(),
    )


def _other_weights(
    step: TracedStep, owned: Sequence[OwnedWeight], selects: Selects, calls: Sequence[CallPlan]
) -> list[OtherWeightPlan]:
    """Trainable variables that no known call explains; none where backprop was not seen at all."""
    if not step.trace.variable_gradients:
        return []
    known = {weight.path for call in calls for weight in call.weights.values()}
    unknown = [own for own in owned if step.paths[id(own.variable)] not in known and selects(own.layer)]
    return [_other_weight(step, own) for own in unknown]


def _other_weight(step: TracedStep, own: OwnedWeight) -> OtherWeightPlan:
    trace = step.trace
    asked = [p for p, found in trace.variable_gradients.items() if id(own.variable) in found]
    in_pass = asked[0] if asked else trace.passes[0]
    called = [index for index, call in enumerate(trace.calls) if call.layer is own.layer]
    nodes = tuple(step.numbers[in_pass, index] for index in called)
    all_zero = step.reads.value(trace.all_zero.get(id(own.variable)))
    return OtherWeightPlan(own.layer, nodes, step.weight(own.variable, None, in_pass), all_zero)
