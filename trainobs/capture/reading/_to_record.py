"""From a plan and the values that a step returned to its record: what was not read is worked out here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture.layers import Call, Part
from trainobs.capture.reading._node_records import node_records
from trainobs.capture.reading._plan import CallPlan, OtherWeightPlan, OutputPlan, StepPlan, WeightPlan
from trainobs.capture.reading._units import Activated, filled, units_of
from trainobs.capture.reading._values import StepValues
from trainobs.records import OutputRecord, Rows, SiteRecord, StepRecord, WeightRecord

Array = np.ndarray


@np.errstate(invalid="ignore", over="ignore")  # NaN in, NaN out: a report says where they begin
def to_record(plan: StepPlan, returned: Sequence[tf.Tensor], step: int, epoch: int) -> StepRecord:
    """Make the record of one executed step.

    Parameters
    ----------
    plan : StepPlan
        Of the trace that was executed.
    returned : list of tensors
        What the step returned for the tensors of its plan.
    step, epoch : int
        Of the record.
    """
    values = StepValues(returned, plan.loss_scale)
    activated = Activated()
    weights = [_other_weight(other, values) for other in plan.weights]
    sites: list[SiteRecord] = []
    for call in plan.calls:
        met = {name: WeightValues.of(weight, values) for name, weight in call.weights.items()}
        found = _sites(call, met, values, activated)
        sites += found
        weights += [] if found else _unexplained(call, met)
    record = StepRecord(
        step=step,
        epoch=epoch,
        loss=_loss(plan, values),
        sites=tuple(sites),
        nodes=node_records(plan, sites, values),
        outputs=tuple(_output(output, values) for output in plan.outputs),
        weights=tuple(weights),
        idle=plan.idle,
    )
    _write_protect(record)
    return record


def _loss(plan: StepPlan, values: StepValues) -> float:
    """The loss; nan if the step showed none. `tape.gradient` adds up what is no scalar, and so do we."""
    parts = [float(np.sum(values.tensor(loss), dtype=np.float64)) for loss in plan.losses]
    return sum(parts) if parts else float("nan")


def _write_protect(record: StepRecord) -> None:
    """What was worked out here too: records are kept, and shared."""
    for part in (*record.sites, *record.outputs, *record.weights):
        for value in vars(part).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False


def nbytes(plan: StepPlan, returned: Sequence[tf.Tensor]) -> int:
    """Memory of the record: what was handed over, and what is worked out from it."""
    sizes = [int(tensor.shape.num_elements() or 0) * tensor.dtype.size for tensor in returned]
    widened = [
        sizes[place] * (max(4, returned[place].dtype.size) // returned[place].dtype.size - 1)
        for place in plan.scaled
    ]
    worked_out = [
        sizes[read.position] * (2 if call.tensors.output or not call.functions else 3)
        for call in plan.calls
        if (read := call.tensors.preactivation_gradient or call.tensors.output_gradient) is not None
    ]
    return sum(sizes) + sum(widened) + sum(worked_out)


@dataclasses.dataclass(frozen=True, eq=False)
class WeightValues:
    """A weight's plan, and the values that go in place of its reads."""

    plan: WeightPlan
    value: Array | None
    gradient: Array | Rows | None
    penalty: Array | None

    @classmethod
    def of(cls, plan: WeightPlan, values: StepValues) -> WeightValues:
        """Of one step."""
        gradient = None if plan.gradient is None else plan.gradient.of(values)
        return cls(plan, values.of(plan.value), gradient, values.of(plan.penalty))


# ---- sites ---------------------------------------------------------------------------------------


def _sites(
    plan: CallPlan, weights: dict[str, WeightValues], values: StepValues, activated: Activated
) -> list[SiteRecord]:
    """What each weight of a call met."""
    tensors = filled(plan.tensors, values)
    absent = dict.fromkeys(plan.kind.variables(plan.layer))
    call = Call(
        layer=plan.layer,
        operands={name: values.tensor(read) for name, read in plan.operands.items()},
        weights={**absent, **{name: weight.value for name, weight in weights.items()}},
        finish=functools.partial(units_of, plan, tensors, activated),
        output=tensors.returned,
        preactivation=tensors.preactivation,
        output_gradients=tensors.output_gradients,
    )
    return [_site(plan, weights, part) for part in plan.kind.parts(call)]


def _site(plan: CallPlan, weights: dict[str, WeightValues], part: Part) -> SiteRecord:
    layer, weight, units = plan.layer, weights[part.weight], part.units
    inner = part.stage >= 0
    node = plan.node - plan.stages + part.stage if inner else plan.node
    return SiteRecord(
        layer=layer.name,
        kind=type(layer).__name__,
        weight=weight.plan.path,
        role=part.role,
        part=part.name,
        steps=part.steps,
        shape=weight.plan.shape,
        call=plan.call,
        loss=plan.loss,
        node=node,
        activation_node=node if inner else plan.activation_node,
        op=part.op,
        dtype=layer.compute_dtype,
        trainable=weight.plan.trainable,
        consumers=(weights[part.read_by].plan.path,) if part.read_by else plan.consumers,
        bases=_bases(layer),
        input=part.input,
        rows=part.rows,
        kernel=_value(weight, part),
        bias=_bias(weights, part),
        kernel_gradient=_part_of(weight.gradient, part, weight.plan.shape),
        penalty_gradient=_part_of(weight.penalty, part, weight.plan.shape),
        cancels=part.role == "bias" and (units.normalised or plan.projects_keys),
        activation=units.activation,
        preactivation=units.preactivation,
        activation_input=units.activation_input,
        output=units.output,
        slope=units.slope,
        output_gradient=units.output_gradient,
        preactivation_gradient=units.preactivation_gradient,
        logits=units.logits,
        normalised=units.normalised,
        offset=units.offset,
    )


def _bases(layer: keras.Layer) -> tuple[str, ...]:
    return tuple(base.__name__ for base in type(layer).__mro__)


def _value(weight: WeightValues, part: Part) -> Array:
    """The weight's values; of a table, those of the rows that were looked up."""
    if part.rows is None:
        assert weight.value is not None
        return np.asarray(weight.value[part.index])
    _, first = np.unique(part.input, return_index=True)
    found = part.units.preactivation
    return found.reshape(-1, found.shape[-1])[first]


def _bias(weights: dict[str, WeightValues], part: Part) -> Array | None:
    """What is added to the part's units by the layer's bias."""
    apart = part.role in ("bias", "scale") or part.stage >= 0
    return weights["bias"].value if "bias" in weights and not apart else None


def _part_of(gradient: Array | Rows | None, part: Part, shape: tuple[int, ...]) -> Array | None:
    if gradient is None:
        return None
    if part.rows is not None:
        return gradient.at(part.rows) if isinstance(gradient, Rows) else gradient[part.rows]
    dense = gradient.dense(shape) if isinstance(gradient, Rows) else gradient
    return np.asarray(dense[part.index])


# ---- outputs and other weights -------------------------------------------------------------------


def _output(plan: OutputPlan, values: StepValues) -> OutputRecord:
    return OutputRecord(
        node=plan.node,
        value=values.tensor(plan.value),
        target=values.of(plan.target),
        gradient=values.of(plan.gradient),
        logits=plan.logits,
        loss_name=plan.loss.loss_name,
        from_logits=plan.loss.from_logits,
        own_loss=plan.loss.own_loss,
        cut_at=plan.cut_at,
        changed=plan.changed,
        sample_weight=values.of(plan.sample_weight),
        mask=values.of(plan.mask),
    )


def _unexplained(plan: CallPlan, weights: dict[str, WeightValues]) -> list[WeightRecord]:
    """The weights of a call of which its kind, once it saw the values, could say nothing."""
    asked = [weight for weight in weights.values() if weight.plan.trainable]
    return [_weight(plan.layer, (plan.node,), weight) for weight in asked]


def _other_weight(plan: OtherWeightPlan, values: StepValues) -> WeightRecord:
    record = _weight(plan.layer, plan.nodes, WeightValues.of(plan.weight, values))
    all_zero = values.of(plan.all_zero)
    return dataclasses.replace(record, is_zero=all_zero is not None and bool(all_zero))


def _weight(layer: keras.Layer, nodes: tuple[int, ...], weight: WeightValues) -> WeightRecord:
    gradient, shape = weight.gradient, weight.plan.shape
    return WeightRecord(
        layer=layer.name,
        kind=type(layer).__name__,
        weight=weight.plan.path,
        shape=shape,
        nodes=nodes,
        trainable=weight.plan.trainable,
        dtype=layer.compute_dtype,
        bases=_bases(layer),
        gradient=gradient.dense(shape) if isinstance(gradient, Rows) else gradient,
        penalty_gradient=weight.penalty,
    )
