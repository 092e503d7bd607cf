"""From the values that a step returned to its record: what was not read is worked out here."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from trainobs.activations import Activation
from trainobs.capture.layers import Call, Part, Units, slope_of
from trainobs.capture.reading._plan import Function, Layout
from trainobs.capture.reading._reads import ProductSlot, ScalarsSlot, Slot, SparseSlot
from trainobs.records import (
    DATA,
    NodeRecord,
    OutputRecord,
    Rows,
    Scalars,
    SiteRecord,
    StepRecord,
    WeightRecord,
    scalars_of,
    sums_of,
)
from trainobs.tensors import as_array, as_tensor

Array = np.ndarray
#: Output and slope, by what an activation reads and does.
Activated = dict[Any, tuple[Array, Array]]
_NOTHING = Scalars(0.0, 0.0, 0.0, 0.0)


@np.errstate(invalid="ignore", over="ignore")  # NaN in, NaN out: a report says where they begin
def fill(layout: Layout, values: list[Any], step: int, epoch: int) -> StepRecord:
    """Make the record of one executed step.

    Parameters
    ----------
    layout : Layout
        Of the trace that was executed.
    values : list of tensors
        What the step returned for ``layout.tensors``.
    step, epoch : int
        Of the record.
    """
    arrays = _Arrays(values, layout.loss_scale)
    loss = _filled(layout.loss, arrays)
    activated: Activated = {}
    sites: list[SiteRecord] = []
    weights = [_weight(_filled(fields, arrays)) for fields in layout.weights]
    for slots in layout.calls:
        fields = _filled(slots, arrays)
        found = _sites(fields, activated)
        sites += found
        weights += [] if found else _unexplained(fields)
    record = StepRecord(
        step=step,
        epoch=epoch,
        loss=float("nan") if loss is None else float(loss),
        sites=tuple(sites),
        nodes=_nodes(layout, sites, arrays),
        outputs=tuple(OutputRecord(**_filled(fields, arrays)) for fields in layout.outputs),
        weights=tuple(weights),
    )
    for part in (*record.sites, *record.outputs, *record.weights):
        _write_protect(part)
    return record


def _write_protect(record: Any) -> None:
    """What was worked out here too: records are kept, and shared."""
    for value in vars(record).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False


def nbytes(layout: Layout, values: list[Any]) -> int:
    """Memory of a filled record: what was handed over, and what is worked out from it."""
    sizes = [int(v.shape.num_elements() or 0) * v.dtype.size for v in values]
    widened = [
        sizes[place] * (max(4, values[place].dtype.size) // values[place].dtype.size - 1)
        for place in layout.scaled
    ]
    worked_out = [
        sizes[slot.position] * (2 if fields["output"] or not fields["functions"] else 3)
        for fields in layout.calls
        if (slot := fields["preactivation_gradient"] or fields["output_gradient"]) is not None
    ]
    return sum(sizes) + sum(widened) + sum(worked_out)


class _Arrays:
    """What a step returned, by slot; what is not held as it came is made once."""

    def __init__(self, values: list[Any], loss_scale: Slot | None) -> None:
        self._handed_over = [as_array(value) for value in values]
        self._made: dict[Slot, Array] = {}
        self.unscale = 1.0 if loss_scale is None else 1.0 / float(self[loss_scale])

    def __getitem__(self, slot: Slot) -> Array:
        array = self._handed_over[slot.position]
        if slot.factor == 1 and not slot.scaled:
            return array
        if slot not in self._made:
            product = array if slot.factor == 1 else array * slot.factor  # rounded as the step's was
            self._made[slot] = np.asarray(product, np.float32) * self.unscale if slot.scaled else product
        return self._made[slot]


def _filled(value: Any, arrays: _Arrays) -> Any:
    """A structure with the step's values in place of its slots."""
    if isinstance(value, Slot):
        return arrays[value]
    if isinstance(value, SparseSlot):
        return Rows.summed(_filled(value.rows, arrays), _filled(value.values, arrays))
    if isinstance(value, ProductSlot):
        return functools.reduce(np.multiply, (_filled(factor, arrays) for factor in value.factors))
    if isinstance(value, ScalarsSlot):
        square_sum, *rest = map(float, arrays[value.sums])
        factor = value.factor * (arrays.unscale if value.scaled else 1.0)
        return Scalars(factor**2 * square_sum, *rest)
    if isinstance(value, dict):
        return {name: _filled(item, arrays) for name, item in value.items()}
    return [_filled(item, arrays) for item in value] if isinstance(value, list) else value


# ---- sites ---------------------------------------------------------------------------------------


def _sites(fields: dict[str, Any], activated: Activated) -> list[SiteRecord]:
    """What each weight of a call met."""
    finish = functools.partial(_finished, fields, activated)
    weights = {name: weight["value"] for name, weight in fields["weights"].items()}
    absent = dict.fromkeys(fields["kind"].variables(fields["layer"]))
    call = Call(
        layer=fields["layer"],
        operands=fields["operands"],
        weights={**absent, **weights},
        finish=finish,
        output=fields["returned"],
        preactivation=fields["preactivation"],
        output_gradients=tuple(fields["output_gradients"]),
    )
    return [_site(fields, part) for part in fields["kind"].parts(call)]


def _unexplained(fields: dict[str, Any]) -> list[WeightRecord]:
    """The weights of a call of which its kind, once it saw the values, could say nothing."""
    own = {"layer": fields["layer"], "nodes": (fields["node"],)}
    return [_weight({**own, **weight}) for weight in fields["weights"].values() if weight["trainable"]]


def _site(fields: dict[str, Any], part: Part) -> SiteRecord:
    layer, weight, units = fields["layer"], fields["weights"][part.weight], part.units
    inner = part.stage >= 0
    node = fields["node"] - fields["stages"] + part.stage if inner else fields["node"]
    readers = (fields["weights"][part.read_by]["path"],) if part.read_by else fields["consumers"]
    return SiteRecord(
        layer=layer.name,
        kind=type(layer).__name__,
        weight=weight["path"],
        role=part.role,
        part=part.name,
        steps=part.steps,
        shape=weight["shape"],
        call=fields["call"],
        loss=fields["loss"],
        node=node,
        activation_node=node if inner else fields["activation_node"],
        op=part.op,
        dtype=layer.compute_dtype,
        trainable=weight["trainable"],
        consumers=readers,
        bases=tuple(base.__name__ for base in type(layer).__mro__),
        input=part.input,
        rows=part.rows,
        kernel=_value(weight, part, units),
        bias=None if part.role in ("bias", "scale") else _bias(fields, inner),
        kernel_gradient=_part_of(weight["gradient"], part, weight["shape"]),
        penalty_gradient=_part_of(weight["penalty"], part, weight["shape"]),
        **{name: getattr(units, name) for name in _UNIT_FIELDS},
    )


_UNIT_FIELDS = (
    "activation",
    "preactivation",
    "activation_input",
    "output",
    "slope",
    "output_gradient",
    "preactivation_gradient",
    "logits",
    "normalised",
    "offset",
)


def _value(weight: dict[str, Any], part: Part, units: Units) -> Array:
    """The weight's values; of a table, those of the rows that were looked up."""
    if part.rows is None:
        return np.asarray(weight["value"][part.index])
    _, first = np.unique(part.input, return_index=True)
    return units.preactivation.reshape(-1, units.preactivation.shape[-1])[first]


def _bias(fields: dict[str, Any], inner: bool) -> Array | None:
    bias = fields["weights"].get("bias")
    return None if bias is None or inner else bias["value"]


def _part_of(gradient: Any, part: Part, shape: tuple[int, ...]) -> Array | None:
    if gradient is None:
        return None
    if part.rows is not None:
        return gradient.at(part.rows) if isinstance(gradient, Rows) else gradient[part.rows]
    dense = gradient.dense(shape) if isinstance(gradient, Rows) else gradient
    return np.asarray(dense[part.index])


def _finished(fields: dict[str, Any], activated: Activated, z: Array, offset: Array | None) -> Units:
    """What becomes of a call's last preactivation: its own activation, or that of the layers behind it."""
    described, functions = fields["described"], fields["functions"]
    read = z if fields["activation_input"] is None else fields["activation_input"]
    key = id(read), tuple(id(function) for _, function in functions), fields["sloped"]
    if key not in activated:  # a kernel and the normalisation behind it have one activation
        activated[key] = _activated(functions, fields["sloped"], read)
    worked_out, slope = activated[key]
    return Units(
        activation=_joined(described, fields["layer"].name),
        preactivation=z,
        activation_input=read,
        output=worked_out if fields["output"] is None else fields["output"],
        slope=slope,
        output_gradient=fields["output_gradient"],
        preactivation_gradient=fields["preactivation_gradient"],
        logits=fields["logits"],
        normalised=fields["normalised"],
        offset=fields["offset"] if fields["normalised"] else offset,
    )


def _joined(described: list[Activation], layer: str) -> Activation:
    if not described:
        return Activation("linear", layer, (1.0,))
    if len(described) == 1:
        return described[0]
    return Activation(" → ".join(part.name for part in described), described[-1].layer)


def _activated(functions: list[tuple[Activation, Function]], sloped: int, read: Array) -> tuple[Array, Array]:
    """A and φ' at every element: the product of the slopes of the first `sloped` functions of a chain."""
    if not functions:
        return read, _ones(read)
    values, product = as_tensor(read), None
    for position, (what, function) in enumerate(functions):
        values, own = slope_of(function, values)
        if position < sloped:
            own = values * (1 - values) if what.name == "softmax" else own
            product = own if product is None else product * own
    return as_array(values), _ones(read) if product is None else as_array(product)


def _ones(like: Array) -> Array:
    """Ones that take no memory."""
    return np.broadcast_to(np.ones((), like.dtype), like.shape)


# ---- nodes and other weights ---------------------------------------------------------------------

_NODE_FIELDS = ("layer", "kind", "call", "loss", "stage", "producers", "activation", "unread")


def _nodes(layout: Layout, sites: list[SiteRecord], arrays: _Arrays) -> tuple[NodeRecord, ...]:
    filled = [_filled(fields, arrays) for fields in layout.nodes]
    arriving = [_summed(fields["output_gradient"]) for fields in filled]
    for site in sites:  # known only behind the kernel, where the loss reads the logits or a call has stages
        if arriving[site.activation_node] is None and (site.logits or filled[site.node]["stage"]):
            arriving[site.activation_node] = scalars_of(site.output_gradient)
    samples = _filled(layout.samples, arrays)
    numbers = [fields["index"] for fields in filled if fields["index"] is not None]
    place = {index: position for position, index in enumerate(dict.fromkeys(numbers))}
    outputs = _output_scalars(filled, sites)
    return tuple(
        NodeRecord(
            **{name: fields[name] for name in _NODE_FIELDS},
            samples=0 if fields["index"] is None else int(samples[place[fields["index"]]]),
            output=outputs.get(number, _NOTHING),
            output_gradient=arriving[number],
            input_gradients=tuple(None if m == DATA else arriving[m] for m in fields["sole_makers"]),
        )
        for number, fields in enumerate(filled)
    )


def _summed(gradients: list[Any] | None) -> Scalars | None:
    """Sums over what arrived at all outputs of a node."""
    if gradients is None:
        return None
    parts = [part if isinstance(part, Scalars) else sums_of(part) for part in gradients]
    return functools.reduce(lambda a, b: a + b, parts)


def _output_scalars(filled: list[dict[str, Any]], sites: list[SiteRecord]) -> dict[int, Scalars]:
    """Sums over what nodes put out, as far as sites hold it."""
    found: dict[int, Scalars] = {}
    seen: dict[int, Scalars] = {}

    def sums(values: Array) -> Scalars:
        return seen.setdefault(id(values), sums_of(values))

    for site in sites:
        (reads,) = filled[site.node]["producers"][:1] or (DATA,)
        if reads != DATA and site.role == "kernel":
            found[reads] = sums(site.input)
        found[site.node] = sums(site.preactivation)
    return found | {site.activation_node: sums(site.output) for site in sites}


def _weight(fields: dict[str, Any]) -> WeightRecord:
    layer, gradient = fields["layer"], fields["gradient"]
    return WeightRecord(
        layer=layer.name,
        kind=type(layer).__name__,
        weight=fields["path"],
        shape=fields["shape"],
        nodes=fields["nodes"],
        trainable=fields["trainable"],
        dtype=layer.compute_dtype,
        bases=tuple(base.__name__ for base in type(layer).__mro__),
        gradient=gradient.dense(fields["shape"]) if isinstance(gradient, Rows) else gradient,
        penalty_gradient=fields["penalty"],
    )
