"""From the trace of a step to the list of tensors it returns, and what each of them is.

A traced step returns a flat list of tensors; the `Layout` made beside it says where each of them
belongs. Every tensor is listed once, however many fields hold it. `_filling` makes records of their
values.

Only tensors that the user's own step computes as results are read (see `_slots`): inputs of layers
with weights, outputs of activations, gradients. Z, what follows from it, and sums over values are
worked out when the record is filled.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture._keras_internals import all_layers
from trainobs.capture.layers import has_activation, is_attention, is_normalisation
from trainobs.capture.reading._reads import Slot, Slots, length_of
from trainobs.capture.reading._trace import LayerCall, StepTrace
from trainobs.capture.reading._wiring import wire
from trainobs.records import DATA, OPERATIONS

Function = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Owned:
    """A variable, and the innermost layer that holds it."""

    variable: Any
    layer: Any


class Layout:
    """Which returned tensor belongs where in a `StepRecord`.

    Parameters
    ----------
    trace : StepTrace
        A finished step.
    activations : dict of int to (Activation, callable)
        By id of the layer, its activation function and what it does.
    selects : callable
        Given a layer, whether its weights are recorded.
    losses : list of (str, bool)
        For each output of the model: name of its loss, and whether it expects logits.
    owned : list of Owned
        The model's trainable variables.

    Attributes
    ----------
    tensors : list
        What the step has to return.
    scaled : frozenset of int
        Places of tensors that are unscaled afterwards (see `Slots`).
    calls, nodes, outputs, weights : list of dict
        Fields of calls with known weights, of nodes, of outputs and of all other weights: values,
        or slots where values go.
    loss, loss_scale, samples : Slot or None
    """

    def __init__(
        self,
        trace: StepTrace,
        activations: dict[int, tuple[Activation, Function]],
        selects: Callable[[Any], bool],
        losses: list[tuple[str, bool]],
        owned: list[Owned],
    ) -> None:
        self._trace, self._activations, self._wiring = trace, activations, wire(trace)
        self._slots = Slots(trace.loss_scale)
        self.tensors = self._slots.tensors
        self.loss_scale = self._slots.loss_scale
        self.loss = (self._slots.gradient if trace.loss_is_scaled else self._slots.value)(trace.loss)
        self._read_anyway = {id(tensor) for call in trace.calls for tensor in call.operands.values()}
        self._read_anyway |= {id(output.value) for output in trace.outputs}
        self._numbers = self._numbered()
        self._paths = _unique_paths([*(own.variable for own in owned), *_variables_of(trace)])
        partly_read = self._partly_read()
        self.calls = [
            self._call(index, call, in_pass)
            for in_pass in trace.passes
            for index, call in enumerate(trace.calls)
            if self._is_of(call, in_pass) and selects(call.layer) and not partly_read & _own(call).keys()
        ]
        samples = [_samples(call) for call in trace.calls if call.returned]
        self.samples = self._slots.value(tf.stack(samples)) if samples else None
        self.nodes = [node for in_pass in trace.passes for node in self._pass_nodes(in_pass)]
        self.outputs = [
            self._output(node, output, in_pass)
            for in_pass in trace.passes
            for node, output in zip(self._wiring.output_nodes, trace.outputs, strict=True)
        ]
        for fields, (name, from_logits) in zip(self.outputs, losses * len(trace.passes), strict=False):
            fields |= {"loss_name": name, "from_logits": from_logits}
        self.weights = self._other_weights(owned, selects)
        self.scaled = frozenset(self._slots.scaled)
        for used_up in ("_trace", "_wiring", "_slots", "_read_anyway"):  # graph tensors
            delattr(self, used_up)

    # ---- nodes -------------------------------------------------------------------------------
    # A call is one node, or several where its kind has stages. Before it stands a node for each
    # input that operations which are no layers have made. Those before outputs come last.

    def _numbered(self) -> dict[tuple[int, int], int]:
        """Number of the last node of each call, in each pass."""
        found, count = {}, 0
        for in_pass in self._trace.passes:
            for index, call in enumerate(self._trace.calls):
                count += sum(self._wiring.changed[index]) + 1 + len(_stages(call))
                found[in_pass, index] = count - 1
            count += sum(map(bool, self._wiring.outputs_changed))
        return found

    def _is_of(self, call: LayerCall, in_pass: int) -> bool:
        """Whether a call of known kind has a part in what a pass differentiated."""
        if call.kind is None or len(self._trace.passes) == 1:
            return call.kind is not None
        asked = bool(self._trace.variable_gradients[in_pass].keys() & _own(call).keys())
        return asked and any(own == in_pass for own, _ in call.output_gradients)

    def _partly_read(self) -> set[int]:
        """Ids of the variables some terms of whose gradient stay unread, so that no call explains it."""
        found: set[int] = set()
        for call in self._trace.calls:
            kept = _of_preactivations(call)
            for in_pass, asked in self._trace.variable_gradients.items():
                if self._trace.is_unread(kept, in_pass):
                    found |= asked.keys() & _own(call).keys()
        return found

    def _pass_nodes(self, in_pass: int) -> list[dict[str, Any]]:
        calls, wiring = self._trace.calls, self._wiring
        found = [node for i, call in enumerate(calls) for node in self._call_nodes(i, call, in_pass)]
        for output, origin in zip(self._trace.outputs, wiring.outputs_changed, strict=True):
            if origin:
                arriving = output.gradients.get((in_pass, 0))
                node = self._operations("the output", origin, in_pass)
                found.append(
                    {**node, "output_gradient": None if arriving is None else [self._slots.sums(arriving)]}
                )
        return found

    def _call_nodes(self, index: int, call: LayerCall, in_pass: int) -> list[dict[str, Any]]:
        stages, last = _stages(call), self._numbers[in_pass, index]
        node = self._node(index, call, in_pass)
        before = [
            self._operations(call.layer.name, origin, in_pass, call)
            for origin, changed in zip(
                self._wiring.producers[index], self._wiring.changed[index], strict=True
            )
            if changed
        ]
        if not stages:
            return [*before, node]
        first = last - len(stages)
        sent = node["sole_makers"] if len(stages) == 1 else (DATA,) * len(node["sole_makers"])
        nothing = {"output_gradient": None, "activation": "", "unread": ""}
        made = [{**node, "stage": stage, **nothing, "sole_makers": sent} for stage in stages]
        inner = tuple(range(first, last))
        return [*before, *made, {**node, "producers": inner, "sole_makers": inner}]

    def _operations(
        self, reader: str, origin: tuple[int, ...], in_pass: int, call: LayerCall | None = None
    ) -> dict[str, Any]:
        """The node of what happens between layers: nothing is tapped there, so its output is not known."""
        attention = call is not None and call.inside is not None and is_attention(call.inside)
        return {
            "layer": call.inside.name if attention and call is not None else f"operations before {reader}",
            "kind": OPERATIONS,
            "call": 0 if call is None else call.call,
            "loss": self._trace.passes.index(in_pass),
            "stage": "attention scores" if attention else "",
            "producers": tuple(self._numbers[in_pass, p] for p in origin),
            "index": origin[0],
            "output_gradient": None,
            "activation": "",
            "unread": "",
            "sole_makers": tuple(self._sole_reader(p, in_pass) for p in origin),
        }

    def _sole_reader(self, maker: int, in_pass: int) -> int:
        """The node of a call that is read at one place only, DATA of any other."""
        wiring = self._wiring
        places = [
            (i, k) for i, origins in enumerate(wiring.producers) for k, o in enumerate(origins) if maker in o
        ]
        outputs = sum(
            maker in (*changed, node)
            for changed, node in zip(wiring.outputs_changed, wiring.output_nodes, strict=True)
        )
        return self._numbers[in_pass, maker] if len(places) + outputs == 1 else DATA

    def _node(self, index: int, call: LayerCall, in_pass: int) -> dict[str, Any]:
        gradients = _of_pass(call.output_gradients, in_pass)
        activation = self._activations.get(id(call.layer))
        return {
            "layer": call.layer.name,
            "kind": type(call.layer).__name__,
            "call": call.call,
            "loss": self._trace.passes.index(in_pass),
            "stage": "",
            "producers": self._producers(index, call, in_pass),
            "index": index if call.returned else None,
            "output_gradient": [self._slots.sums(gradient) for gradient in gradients.values()] or None,
            "activation": activation[0].name if activation else "",
            "unread": self._unread(call, in_pass),
            "sole_makers": tuple(
                self._sole_maker(index, origin, in_pass) for origin in self._wiring.producers[index]
            ),
        }

    def _unread(self, call: LayerCall, in_pass: int) -> str:
        """Why the gradient at a call's output was not read, if one came (see `NodeRecord`)."""
        if any(own == in_pass for own, _ in call.unused):
            return "unused"
        return "order" if self._trace.is_unread(call.output_gradients, in_pass) else ""

    def _producers(self, index: int, call: LayerCall, in_pass: int) -> tuple[int, ...]:
        """For each input the node it came from: a call's, or that of operations in between."""
        changed = self._wiring.changed[index]
        operations = itertools.count(self._numbers[in_pass, index] - len(_stages(call)) - sum(changed))
        return tuple(
            next(operations) if between else self._numbers[in_pass, origin[0]] if origin else DATA
            for origin, between in zip(self._wiring.producers[index], changed, strict=True)
        )

    def _sole_maker(self, node: int, origin: tuple[int, ...], in_pass: int) -> int:
        """The node whose whole gradient comes from this call; DATA where there is none.

        Only then is what the call sends back to this input known without a tap before it.
        """
        if len(origin) != 1 or (origin[0], node) not in self._wiring.direct:
            return DATA
        sole = self._wiring.consumers[origin[0]] == [node] and origin[0] not in self._wiring.output_nodes
        return self._numbers[in_pass, origin[0]] if sole else DATA

    # ---- calls of layers whose kind is known -------------------------------------------------

    def _call(self, index: int, call: LayerCall, in_pass: int) -> dict[str, Any]:
        calls, layer, kind = self._trace.calls, call.layer, call.kind
        assert kind is not None
        own = has_activation(layer)
        chain, normalised = ([index], False) if own else self._activation_chain(index)
        last, linear = calls[chain[-1]], chain == [index] and not own
        arriving = _of_preactivations(call).get((in_pass, 0))
        makers = call if chain[-1] == index else calls[self._maker(chain[-1])]
        entering = arriving if makers is call else makers.output_gradients.get((in_pass, 0))
        delivered = last.output_gradients.get((in_pass, 0))
        unread = (in_pass, 0) in last.unused
        logits = not linear and delivered is None and entering is not None and not unread
        functions = [] if linear else [self._activations[id(calls[i].layer)] for i in chain]
        opaque = not all(what.elementwise or what.name == "softmax" for what, _ in functions)
        returned = None if linear else last.returned[0]
        own_input = chain[0] == index or self._maker(chain[0]) == index
        read = None if chain[0] == index else calls[chain[0]].received[0]
        handed_over = read is not None and (not own_input or self._slots.holds(read))
        preactivation = None if own or len(call.returned) != 1 else call.returned[0]
        if preactivation is not None and handed_over and own_input:
            preactivation = read
        leaves = range(len(call.returned))
        return {
            "layer": layer,
            "kind": kind,
            "call": call.call,
            "node": self._numbers[in_pass, index],
            "loss": self._trace.passes.index(in_pass),
            "stages": len(_stages(call)),
            "activation_node": self._numbers[in_pass, chain[-1]],
            "described": [what for what, _ in functions],
            "functions": [] if opaque else functions,
            "sloped": len(functions) - logits,
            "logits": logits,
            "normalised": normalised,
            "consumers": self._consumers(chain[-1]),
            "operands": {name: self._slots.value(tensor) for name, tensor in call.operands.items()},
            "weights": self._weights(call, in_pass),
            "offset": self._slots.value(self._offset(index, chain)) if normalised else None,
            "preactivation": self._handed_over(preactivation),
            "activation_input": self._slots.value(read) if handed_over else None,
            "returned": self._slots.value(call.returned[0]) if not kind.reads_weights else None,
            "output": self._slots.value(returned) if opaque or id(returned) in self._read_anyway else None,
            "output_gradient": self._slots.gradient(entering if logits or opaque else delivered),
            "preactivation_gradient": self._slots.gradient(arriving),
            "output_gradients": [
                self._slots.gradient(call.output_gradients.get((in_pass, i)))
                for i in (leaves if len(leaves) > 1 or _stages(call) else ())
            ],
        }

    def _weights(self, call: LayerCall, in_pass: int) -> dict[str, dict[str, Any]]:
        """By their names of the kind: the call's weights and their gradients."""
        assert call.kind is not None
        variables = {name: v for name, v in call.kind.variables(call.layer).items() if v is not None}
        return {name: self._weight(v, call.weights.get(name), in_pass) for name, v in variables.items()}

    def _weight(self, variable: Any, value: Any, in_pass: int) -> dict[str, Any]:
        asked = any(id(variable) in found for found in self._trace.variable_gradients.values())
        return {
            "path": self._paths[id(variable)],
            "shape": tuple(variable.shape),
            "trainable": asked if self._trace.variable_gradients else bool(variable.trainable),
            "value": self._slots.value(value),
            "gradient": self._slots.weight_gradient(self._trace.gradient_of(id(variable), in_pass)),
            "penalty": self._slots.value(self._trace.penalty_gradients.get(id(variable))),
        }

    def _activation_chain(self, index: int) -> tuple[list[int], bool]:
        """The calls whose slopes make up those of a linear call, itself if there is no other."""
        found, normalised = self._wiring.activation_call(self._trace.calls, index)
        return found or [index], normalised

    def _maker(self, node: int) -> int:
        """The call whose output an activation layer reads."""
        return self._wiring.producers[node][0][0]

    def _offset(self, index: int, chain: list[int]) -> Any:
        """What a normalisation between kernel and activation adds last: its beta."""
        node, offset = self._wiring.consumers[index][0], None
        while node != chain[0]:
            call = self._trace.calls[node]
            if is_normalisation(call.layer):
                offset = call.weights.get("beta")
            node = self._wiring.consumers[node][0]
        return offset

    def _consumers(self, node: int) -> tuple[str, ...]:
        calls = self._trace.calls
        readers = (calls[i] for i in self._wiring.next_sites(calls, node))
        first = (next(iter(c.kind.variables(c.layer).values())) for c in readers if c.kind is not None)
        return tuple(dict.fromkeys(self._paths[id(variable)] for variable in first))

    # ---- all other weights, outputs ----------------------------------------------------------

    def _other_weights(self, owned: list[Owned], selects: Callable[[Any], bool]) -> list[dict[str, Any]]:
        """Trainable variables that no known call explains; none where backprop was not seen at all."""
        if not self._trace.variable_gradients:
            return []
        known = {fields["path"] for call in self.calls for fields in call["weights"].values()}
        found = []
        for own in owned:
            asked = [p for p, them in self._trace.variable_gradients.items() if id(own.variable) in them]
            if self._paths[id(own.variable)] in known or not selects(own.layer):
                continue
            in_pass = asked[0] if asked else self._trace.passes[0]
            nodes = [
                self._numbers[in_pass, index]
                for index, call in enumerate(self._trace.calls)
                if call.layer is own.layer
            ]
            fields = self._weight(own.variable, None, in_pass)
            found.append({"layer": own.layer, "nodes": tuple(nodes), **fields})
        return found

    def _output(self, node: int, output: Any, in_pass: int) -> dict[str, Any]:
        direct, behind = (found.get((in_pass, 0)) for found in (output.gradients, output.logits_gradients))
        logits = direct is None and behind is not None
        return {
            "node": DATA if node == DATA else self._numbers[in_pass, node],
            "value": self._slots.value(output.value),
            "target": self._slots.value(output.target),
            "sample_weight": self._slots.value(output.sample_weight),
            "mask": self._slots.value(output.mask),
            "gradient": self._slots.gradient(behind if logits else direct),
            "logits": logits,
        }

    def _handed_over(self, tensor: Any) -> Slot | None:
        """The slot of a tensor that is read anyway."""
        known = id(tensor) in self._read_anyway or self._slots.holds(tensor)
        return self._slots.value(tensor) if known else None


def owned_weights(models: list[Any]) -> list[Owned]:
    """The trainable variables of models, each once, with the innermost layer that holds it."""
    layers = [layer for model in models for layer in (model, *all_layers(model))]
    owner: dict[int, Any] = {}
    for layer in sorted(layers, key=lambda layer: -len(layer.weights)):  # the smaller ones win
        owner |= {id(variable): layer for variable in layer.weights}
    trainable = {id(v): v for model in models for v in model.trainable_variables}
    return [Owned(variable, owner[number]) for number, variable in trainable.items()]


def _stages(call: LayerCall) -> tuple[str, ...]:
    return () if call.kind is None else call.kind.stages_of(call.layer)


def _of_pass(found: dict[tuple[int, int], Any], in_pass: int) -> dict[int, Any]:
    return {leaf: gradient for (own, leaf), gradient in found.items() if own == in_pass}


def _variables_of(trace: StepTrace) -> list[Any]:
    """The variables of all calls of known kinds."""
    return [variable for call in trace.calls for variable in _own(call).values()]


def _of_preactivations(call: LayerCall) -> dict[tuple[int, int], Any]:
    """The gradients dJ/dZ of a call: those of its output, unless it has an activation."""
    return call.preactivation_gradients if has_activation(call.layer) else call.output_gradients


def _own(call: LayerCall) -> dict[int, Any]:
    """By id: the variables of a call of known kind."""
    found = {} if call.kind is None else call.kind.variables(call.layer)
    return {id(variable): variable for variable in found.values() if variable is not None}


def _unique_paths(variables: list[Any]) -> dict[int, str]:
    """By id: paths, numbered where layers of one model have the same name."""
    given = {id(variable): variable.path for variable in variables}
    found: dict[int, str] = {}
    taken: set[str] = set()
    for key, path in given.items():
        (layer, _, name), number, unique = path.rpartition("/"), 0, path
        while unique in taken or (number and unique in given.values()):
            number += 1
            unique = f"{layer}_{number}/{name}"
        taken.add(unique)
        found[key] = unique
    return found


def _samples(call: LayerCall) -> Any:
    """Size of the batch, of a gradient or an input, which are read anyway; 0 where neither is: nothing
    that the record holds of such a node depends on it, and reading its output may change the training."""
    known = (*call.output_gradients.values(), *call.operands.values())
    tensor = next((tensor for tensor in known if isinstance(tensor, tf.Tensor)), None)
    return tf.constant(0) if tensor is None else length_of(tensor)
