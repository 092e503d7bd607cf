"""From the trace of a step to its record.

A traced step returns a flat list of tensors; the `Layout` made beside it says where each of them
belongs. Every tensor is listed once, however many fields hold it.

Only tensors that the user's own step computes as results are read: inputs of kernels, outputs of
activations, gradients. Reading what TensorFlow's graph optimizer may fuse away (a preactivation in
front of tanh, say) would keep it from fusing, and change the training by rounding. So Z, what
follows from it, and sums over values are worked out when the record is filled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture import _sites
from trainobs.capture._taps import slope_of
from trainobs.capture._trace import LayerCall, StepTrace
from trainobs.capture._wiring import wire
from trainobs.recording import NodeRecord, OutputRecord, Scalars, SiteRecord, StepRecord, scalars_of

DATA = -1
Function = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Slot:
    """Stands in a layout where the step's tensor of that position goes."""

    position: int


class Layout:
    """Which returned tensor belongs where in a `StepRecord`.

    Parameters
    ----------
    trace : StepTrace
        A finished step.
    activations : dict of int to (Activation, callable)
        By id of the layer, its activation function and what it does.
    selects : callable
        Given a layer, whether its site is recorded.
    losses : list of (str, bool)
        For each output of the model: name of its loss, and whether it expects logits.
    """

    def __init__(
        self,
        trace: StepTrace,
        activations: dict[int, tuple[Activation, Function]],
        selects: Any,
        losses: list[tuple[str, bool]],
    ) -> None:
        self._trace = trace
        self._activations = activations
        self._wiring = wire(trace)
        self.tensors: list[Any] = []
        self._positions: dict[int, int] = {}
        self._unscale = None if trace.loss_scale is None else 1.0 / trace.loss_scale
        self._unscaled: dict[Any, Any] = {}
        self._loss = self._slot(trace.loss)
        inputs = [call.input for call in trace.calls if call.kernel is not None]
        self._read_anyway = {id(tensor) for tensor in (*inputs, *(output.value for output in trace.outputs))}
        self._sites = [
            self._site(index, call)
            for index, call in enumerate(trace.calls)
            if call.kernel is not None and selects(call.layer)
        ]
        samples = [_samples(call.returned[0]) for call in trace.calls if call.returned]
        self._samples = self._slot(tf.stack(samples)) if samples else None
        self._nodes = [self._node(index, call) for index, call in enumerate(trace.calls)]
        self._outputs = [
            self._output(node, output)
            for node, output in zip(self._wiring.output_nodes, trace.outputs, strict=True)
        ]
        for fields, (name, from_logits) in zip(self._outputs, losses, strict=False):
            fields |= {"loss_name": name, "from_logits": from_logits}
        del self._trace, self._wiring, self._unscaled, self._unscale, self._read_anyway  # graph tensors

    def record(self, values: list[Any], step: int, epoch: int) -> StepRecord:
        """Fill the tensors of one executed step in."""
        arrays = [to_numpy(value) for value in values]
        loss = self._fill(self._loss, arrays)
        sites = [_completed(self._filled(fields, arrays)) for fields in self._sites]
        return StepRecord(
            step=step,
            epoch=epoch,
            loss=float("nan") if loss is None else float(loss),
            sites=tuple(sites),
            nodes=self._filled_nodes(sites, arrays),
            outputs=tuple(OutputRecord(**self._filled(fields, arrays)) for fields in self._outputs),
        )

    def nbytes(self, values: list[Any]) -> int:
        """Memory of a filled record: what was handed over, and what is worked out from it."""
        sizes = [int(v.shape.num_elements() or 0) * v.dtype.size for v in values]
        worked_out = [
            sizes[slot.position] * (2 if fields["output"] or not fields["functions"] else 3)
            for fields in self._sites
            if (slot := fields["preactivation_gradient"] or fields["output_gradient"]) is not None
        ]
        return sum(sizes) + sum(worked_out)

    # ---- while the step is traced ------------------------------------------------------------

    def _site(self, index: int, call: LayerCall) -> dict[str, Any]:
        calls, layer = self._trace.calls, call.layer
        chain, normalised = self._activation_chain(index, call)
        last = calls[chain[-1]]
        linear = chain == [index] and _sites.is_linear(layer)
        arriving = call.output_gradient if _sites.is_linear(layer) else call.preactivation_gradient
        entering = arriving if chain[-1] == index else calls[self._maker(chain[-1])].output_gradient
        logits = not linear and last.output_gradient is None and entering is not None
        functions = [self._activations[id(calls[i].layer)] for i in chain]
        opaque = not all(what.elementwise or what.name == "softmax" for what, _ in functions)
        functions = [] if linear or opaque else functions
        returned = None if linear else last.returned[0]
        own_input = chain[0] == index or self._maker(chain[0]) == index
        variable = layer.kernel
        return {
            "layer": layer.name,
            "kind": type(layer).__name__,
            "weight": variable.path,
            "bases": tuple(base.__name__ for base in type(layer).__mro__),
            "call": call.call,
            "node": index,
            "activation_node": chain[-1],
            "op": _sites.linear_op(layer),
            "dtype": layer.compute_dtype,
            "activation": self._describe([calls[i] for i in chain]),
            "trainable": id(variable) in self._trace.variable_gradients or bool(variable.trainable),
            "logits": logits,
            "normalised": normalised,
            "consumers": self._consumers(chain[-1]),
            "input": self._slot(call.input),
            "kernel": self._slot(call.kernel),
            "bias": self._slot(call.bias),
            "offset": self._slot(self._offset(index, call, chain, normalised)),
            "activation_input": None if own_input else self._slot(calls[chain[0]].received[0]),
            "output": self._slot(returned) if opaque or id(returned) in self._read_anyway else None,
            "functions": functions,
            "sloped": len(functions) - logits,
            "output_gradient": self._gradient_slot(entering if logits or opaque else last.output_gradient),
            "preactivation_gradient": self._gradient_slot(arriving),
            "kernel_gradient": self._gradient_slot(self._trace.variable_gradients.get(id(variable))),
            "penalty_gradient": self._slot(self._trace.penalty_gradients.get(id(variable))),
        }

    def _describe(self, calls: list[LayerCall]) -> Activation:
        parts = [self._activations[id(call.layer)][0] for call in calls]
        if len(parts) == 1:
            return parts[0]
        return Activation(" → ".join(part.name for part in parts), parts[-1].layer)

    def _activation_chain(self, index: int, call: LayerCall) -> tuple[list[int], bool]:
        """The calls whose slopes make up the site's, the site itself if it has its own."""
        if not _sites.is_linear(call.layer):
            return [index], False
        found, normalised = self._wiring.activation_call(self._trace.calls, index)
        return found or [index], normalised

    def _maker(self, node: int) -> int:
        """The call whose output an activation layer reads."""
        return self._wiring.producers[node][0][0]

    def _offset(self, index: int, call: LayerCall, chain: list[int], normalised: bool) -> Any:
        """What is added last before the activation: the bias, or a normalisation's beta."""
        if not normalised:
            return call.bias
        node, offset = self._wiring.consumers[index][0], None
        while node != chain[0]:
            layer = self._trace.calls[node].layer
            if _sites.is_normalisation(layer):
                offset = None if layer.beta is None else tf.convert_to_tensor(layer.beta)
            node = self._wiring.consumers[node][0]
        return offset

    def _consumers(self, node: int) -> tuple[str, ...]:
        calls = self._trace.calls
        paths = (calls[i].layer.kernel.path for i in self._wiring.next_sites(calls, node))
        return tuple(dict.fromkeys(paths))

    def _node(self, index: int, call: LayerCall) -> dict[str, Any]:
        origins = self._wiring.producers[index]
        held = self._is_held(call.output_gradient)
        sent = self._gradient_slot if held else self._scalars_slot
        return {
            "layer": call.layer.name,
            "kind": type(call.layer).__name__,
            "call": call.call,
            "producers": tuple(p for origin in origins for p in origin or (DATA,)),
            "returns": bool(call.returned),
            "held": held,
            "output_gradient": sent(call.output_gradient),
            "sole_makers": tuple(self._sole_maker(index, origin) for origin in origins),
        }

    def _sole_maker(self, node: int, origin: tuple[int, ...]) -> int:
        """The call whose whole gradient comes from this node; DATA where there is none.

        Only then is what the node sends back to this input known without a tap before it.
        """
        if len(origin) != 1 or (origin[0], node) not in self._wiring.direct:
            return DATA
        sole = self._wiring.consumers[origin[0]] == [node] and origin[0] not in self._wiring.output_nodes
        return origin[0] if sole else DATA

    def _output(self, node: int, output: Any) -> dict[str, Any]:
        logits = output.gradient is None and output.logits_gradient is not None
        gradient = output.logits_gradient if logits else output.gradient
        return {
            "node": node,
            "value": self._slot(output.value),
            "target": self._slot(output.target),
            "gradient": self._gradient_slot(gradient),
            "logits": logits,
        }

    def _slot(self, tensor: Any) -> Slot | None:
        if tensor is None:
            return None
        if id(tensor) not in self._positions:
            self._positions[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return Slot(self._positions[id(tensor)])

    def _gradient_slot(self, tensor: Any) -> Slot | None:
        """Like `_slot`, without the scale that mixed precision puts on the loss."""
        if tensor is None:
            return None
        if id(tensor) not in self._unscaled:
            dense = tf.convert_to_tensor(tensor)
            if self._unscale is not None:
                dense = tf.cast(dense, tf.float32) * self._unscale
            self._unscaled[id(tensor)] = (dense, tensor)  # keeps the id taken
        return self._slot(self._unscaled[id(tensor)][0])

    def _is_held(self, gradient: Any) -> bool:
        """Whether a site holds the whole gradient, so that its sums can wait."""
        return gradient is not None and id(gradient) in self._unscaled

    def _scalars_slot(self, gradient: Any) -> Slot | None:
        """Like `_gradient_slot`, but only the sums."""
        if gradient is None:
            return None
        key = ("scalars", id(gradient))
        if key not in self._unscaled:
            self._unscaled[key] = (_scalars(gradient, self._unscale), gradient)
        return self._slot(self._unscaled[key][0])

    # ---- after the step has run --------------------------------------------------------------

    def _fill(self, value: Any, arrays: list[np.ndarray]) -> Any:
        return arrays[value.position] if isinstance(value, Slot) else value

    def _filled(self, fields: dict[str, Any], arrays: list[np.ndarray]) -> dict[str, Any]:
        return {name: self._fill(value, arrays) for name, value in fields.items()}

    def _filled_nodes(self, sites: list[SiteRecord], arrays: list[np.ndarray]) -> tuple[NodeRecord, ...]:
        filled = [self._filled(fields, arrays) for fields in self._nodes]
        arriving = [
            (scalars_of if fields["held"] else _as_scalars)(fields["output_gradient"]) for fields in filled
        ]
        samples = iter(self._fill(self._samples, arrays) if self._samples else ())
        for site in sites:  # where the loss reads the logits the gradient arrives behind the kernel
            if site.logits and arriving[site.activation_node] is None:
                arriving[site.activation_node] = scalars_of(site.output_gradient)
        outputs = self._output_scalars(sites)
        return tuple(
            NodeRecord(
                **{name: fields[name] for name in ("layer", "kind", "call", "producers")},
                samples=int(next(samples)) if fields["returns"] else 0,
                output=outputs.get(index, Scalars(0.0, 0.0, 0.0, 0.0)),
                output_gradient=arriving[index],
                input_gradients=tuple(None if m == DATA else arriving[m] for m in fields["sole_makers"]),
            )
            for index, fields in enumerate(filled)
        )

    def _output_scalars(self, sites: list[SiteRecord]) -> dict[int, Scalars]:
        """Sums over what nodes put out, as far as sites hold it."""
        found: dict[int, Scalars] = {}
        for site in sites:
            (reads,) = self._nodes[site.node]["producers"][:1] or (DATA,)
            if reads != DATA:
                found[reads] = _known(site.input)
            found[site.node] = _known(site.preactivation)
        return found | {site.activation_node: _known(site.output) for site in sites}


def _known(values: np.ndarray) -> Scalars:
    found = scalars_of(values)
    assert found is not None
    return found


def _completed(fields: dict[str, Any]) -> SiteRecord:
    """Work out what was not read from the step: Z = input ∘ kernel + bias, and what equals it."""
    op, given = fields["op"], tf.constant(fields["input"])
    z = op.apply(op.channels_last(given), tf.constant(fields["kernel"], given.dtype))
    if fields["bias"] is not None:
        z += tf.cast(fields["bias"], z.dtype)
    preactivation = to_numpy(op.from_channels_last(z))
    read = preactivation if fields["activation_input"] is None else fields["activation_input"]
    worked_out, slope = _activated(fields.pop("functions"), fields.pop("sloped"), read)
    output = worked_out if fields["output"] is None else fields["output"]
    own = {"preactivation": preactivation, "activation_input": read, "output": output, "slope": slope}
    return SiteRecord(**{**fields, **own})


def _activated(
    functions: list[tuple[Activation, Function]], sloped: int, read: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A and φ' at every element: the product of the slopes of the first `sloped` functions of a chain."""
    if not functions:
        return read, np.ones_like(read)
    values = tf.constant(read)
    product = tf.ones_like(values)
    for position, (what, function) in enumerate(functions):
        values, own = slope_of(function, values)
        if position < sloped:
            product *= values * (1 - values) if what.name == "softmax" else own
    return to_numpy(values), to_numpy(product)


def to_numpy(tensor: Any) -> np.ndarray:
    """The tensor's values, without a copy where the buffer can be shared."""
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # bfloat16 has no buffer format; GPU memory
        array = tensor.numpy()
        return np.asarray(array, np.float32) if array.dtype.kind == "V" else np.asarray(array)


def _samples(tensor: Any) -> Any:
    return tf.shape(tensor)[0] if tensor.shape.rank else tf.constant(1)


def _scalars(tensor: Any, unscale: Any = None) -> Any:
    """Square sum, zeros, non-finite values and size of a tensor, as one vector."""
    if tensor is None or not tensor.dtype.is_floating:
        return None
    values = tf.cast(tf.convert_to_tensor(tensor), tf.float32)
    if unscale is not None:
        values *= unscale
    return tf.stack(
        [
            tf.reduce_sum(values * values),
            tf.reduce_sum(tf.cast(values == 0, tf.float32)),
            tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.float32)),
            tf.cast(tf.size(values), tf.float32),
        ]
    )


def _as_scalars(vector: Any) -> Scalars | None:
    return None if vector is None else Scalars(*map(float, vector))
