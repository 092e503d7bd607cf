"""From the trace of a step to its record.

A traced step returns a flat list of tensors; the `Layout` made beside it says where each of them
belongs. Every tensor is listed once, however many fields hold it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture import _sites
from trainobs.capture._trace import LayerCall, StepTrace
from trainobs.capture._wiring import wire
from trainobs.recording import NodeRecord, OutputRecord, Scalars, SiteRecord, StepRecord


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
    activations : dict of int to Activation
        By id of the layer, what its activation function does.
    selects : callable
        Given a layer, whether its site is recorded.
    losses : list of (str, bool)
        For each output of the model: name of its loss, and whether it expects logits.
    """

    def __init__(
        self,
        trace: StepTrace,
        activations: dict[int, Activation],
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
        self._sites = [
            self._site(index, call)
            for index, call in enumerate(trace.calls)
            if call.kernel is not None and selects(call.layer)
        ]
        self._nodes = [self._node(index, call) for index, call in enumerate(trace.calls)]
        self._outputs = [
            self._output(node, output)
            for node, output in zip(self._wiring.output_nodes, trace.outputs, strict=True)
        ]
        for fields, (name, from_logits) in zip(self._outputs, losses, strict=False):
            fields |= {"loss_name": name, "from_logits": from_logits}
        del self._trace, self._wiring, self._unscaled, self._unscale  # graph tensors stay no longer

    def record(self, values: list[Any], step: int, epoch: int) -> StepRecord:
        """Fill the tensors of one executed step in."""
        arrays = [to_numpy(value) for value in values]
        loss = self._fill(self._loss, arrays)
        return StepRecord(
            step=step,
            epoch=epoch,
            loss=float("nan") if loss is None else float(loss),
            sites=tuple(SiteRecord(**self._filled(fields, arrays)) for fields in self._sites),
            nodes=tuple(NodeRecord(**self._filled_node(fields, arrays)) for fields in self._nodes),
            outputs=tuple(OutputRecord(**self._filled(fields, arrays)) for fields in self._outputs),
        )

    # ---- while the step is traced ------------------------------------------------------------

    def _site(self, index: int, call: LayerCall) -> dict[str, Any]:
        calls, layer = self._trace.calls, call.layer
        chain, normalised = self._activation_chain(index, call)
        last = calls[chain[-1]]
        output = last.returned[0]
        logits = last.output_gradient is None and last.preactivation_gradient is not None
        slope = _chain_slope(calls, chain)
        output_gradient = last.preactivation_gradient if logits else last.output_gradient
        opaque = last.slope is not None and last.slope.shape.rank != output.shape.rank
        if logits or opaque:
            slope = tf.ones_like(_preactivation(last))
            output_gradient = _preactivation_gradient(last)
        variable = layer.kernel
        return {
            "layer": layer.name,
            "kind": type(layer).__name__,
            "weight": variable.path,
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
            "input": self._slot(call.received[0]),
            "kernel": self._slot(call.kernel),
            "bias": self._slot(call.bias),
            "offset": self._slot(self._offset(index, call, chain, normalised)),
            "preactivation": self._slot(_preactivation(call)),
            "activation_input": self._slot(_preactivation(calls[chain[0]])),
            "output": self._slot(output),
            "slope": self._slot(slope),
            "output_gradient": self._gradient_slot(output_gradient),
            "preactivation_gradient": self._gradient_slot(_preactivation_gradient(call)),
            "kernel_gradient": self._gradient_slot(self._trace.variable_gradients.get(id(variable))),
            "penalty_gradient": self._slot(self._trace.penalty_gradients.get(id(variable))),
        }

    def _describe(self, calls: list[LayerCall]) -> Activation:
        parts = [self._activations[id(call.layer)] for call in calls]
        if len(parts) == 1:
            return parts[0]
        return Activation(" → ".join(part.name for part in parts), parts[-1].layer)

    def _activation_chain(self, index: int, call: LayerCall) -> tuple[list[int], bool]:
        """The calls whose slopes make up the site's, the site itself if it has its own."""
        if not _sites.is_linear(call.layer):
            return [index], False
        found, normalised = self._wiring.activation_call(self._trace.calls, index)
        return found or [index], normalised

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
        output = call.returned[0] if call.returned else None
        return {
            "layer": call.layer.name,
            "kind": type(call.layer).__name__,
            "call": call.call,
            "producers": tuple(p for origin in self._wiring.producers[index] for p in origin or (-1,)),
            "samples": self._slot(None if output is None else _samples(output)),
            "output": self._slot(_scalars(output)),
            "output_gradient": self._scalars_slot(_arriving_gradient(call)),
            "input_gradients": tuple(
                self._scalars_slot(call.input_gradients.get(i)) for i in range(len(call.received))
            ),
        }

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

    def _scalars_slot(self, gradient: Any) -> Slot | None:
        slot = self._gradient_slot_tensor(gradient)
        return None if slot is None else self._slot(slot)

    def _gradient_slot_tensor(self, gradient: Any) -> Any:
        if gradient is None:
            return None
        key = ("scalars", id(gradient))
        if key not in self._unscaled:
            self._unscaled[key] = (_scalars(gradient, self._unscale), gradient)
        return self._unscaled[key][0]

    # ---- after the step has run --------------------------------------------------------------

    def _fill(self, value: Any, arrays: list[np.ndarray]) -> Any:
        return arrays[value.position] if isinstance(value, Slot) else value

    def _filled(self, fields: dict[str, Any], arrays: list[np.ndarray]) -> dict[str, Any]:
        return {name: self._fill(value, arrays) for name, value in fields.items()}

    def _filled_node(self, fields: dict[str, Any], arrays: list[np.ndarray]) -> dict[str, Any]:
        filled = self._filled(fields, arrays)
        filled["samples"] = int(filled["samples"] or 0)
        filled["output"] = _as_scalars(filled["output"]) or Scalars(0.0, 0.0, 0.0, 0.0)
        filled["output_gradient"] = _as_scalars(filled["output_gradient"])
        filled["input_gradients"] = tuple(
            _as_scalars(self._fill(value, arrays)) for value in fields["input_gradients"]
        )
        return filled


def to_numpy(tensor: Any) -> np.ndarray:
    """The tensor's values, without a copy where the buffer can be shared."""
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # bfloat16 has no buffer format; GPU memory
        array = tensor.numpy()
        return np.asarray(array, np.float32) if array.dtype.kind == "V" else np.asarray(array)


def _preactivation(call: LayerCall) -> Any:
    return call.returned[0] if call.preactivation is None else call.preactivation


def _preactivation_gradient(call: LayerCall) -> Any:
    return call.output_gradient if call.preactivation is None else call.preactivation_gradient


def _arriving_gradient(call: LayerCall) -> Any:
    """dJ/d(output), or dJ/dlogits where the loss reads those."""
    return call.preactivation_gradient if call.output_gradient is None else call.output_gradient


def _chain_slope(calls: list[LayerCall], chain: list[int]) -> Any:
    slope = None
    for index in chain:
        own = calls[index].slope
        if own is not None:
            slope = own if slope is None else slope * own
    return tf.ones_like(calls[chain[-1]].returned[0]) if slope is None else slope


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
