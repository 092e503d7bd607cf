"""Plans of calls whose kind is known: what their weights met, and what stands behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from trainobs.capture.layers import Probed, has_activation, is_normalisation, projects_keys
from trainobs.capture.reading._plan import CallPlan, CallTensors, WeightPlan
from trainobs.capture.reading._trace import LayerCall, StepTrace
from trainobs.capture.reading._traced_step import TracedStep
from trainobs.capture.reading._values import TensorRead


def plan_calls(step: TracedStep, selects: Callable[[keras.Layer], bool]) -> list[CallPlan]:
    """The calls of known kinds in every pass that they have a part in, but for those left out."""
    trace, partly_read = step.trace, _partly_read(step.trace)
    return [
        _Planned.of(step, index, in_pass).plan()
        for in_pass in trace.passes
        for index, call in enumerate(trace.calls)
        if _is_of(trace, call, in_pass) and selects(call.layer) and not partly_read & call.variables.keys()
    ]


def _is_of(trace: StepTrace, call: LayerCall, in_pass: int) -> bool:
    """Whether a call of known kind has a part in what a pass differentiated."""
    if call.kind is None or len(trace.passes) == 1:
        return call.kind is not None
    asked = bool(trace.variable_gradients[in_pass].keys() & call.variables.keys())
    return asked and any(own == in_pass for own, _ in call.output_gradients)


def _partly_read(trace: StepTrace) -> set[int]:
    """Ids of the variables some terms of whose gradient stay unread, so that no call explains it."""
    found: set[int] = set()
    for call in trace.calls:
        for in_pass, asked in trace.variable_gradients.items():
            if trace.is_unread(call.gradients_of_z, in_pass):
                found |= asked.keys() & call.variables.keys()
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Planned:
    """A call in one pass, and the chain of activations behind it.

    Attributes
    ----------
    chain : list of int
        The calls whose slopes make up those of this one; itself if it has an activation, or if there is none.
    own : bool
        Whether it has an activation itself.
    activations : tuple of Probed
    normalised : bool
        Whether a normalisation stands before the first of them.
    """

    step: TracedStep
    index: int
    in_pass: int
    chain: list[int]
    own: bool
    activations: tuple[Probed, ...]
    normalised: bool

    @classmethod
    def of(cls, step: TracedStep, index: int, in_pass: int) -> _Planned:
        calls, own = step.trace.calls, has_activation(step.trace.calls[index].layer)
        behind, normalised = ([], False) if own else step.wiring.activation_call(calls, index)
        chain = behind or [index]
        applied = chain if own or behind else []
        activations = tuple(step.activations[id(calls[i].layer)] for i in applied)
        return cls(step, index, in_pass, chain, own, activations, normalised)

    @property
    def call(self) -> LayerCall:
        return self.step.trace.calls[self.index]

    @property
    def last(self) -> LayerCall:
        """The call behind whose output the next layers begin."""
        return self.step.trace.calls[self.chain[-1]]

    @property
    def delivered(self) -> tf.Tensor | None:
        """The gradient that arrives behind the activation."""
        return self.last.output_gradients.get((self.in_pass, 0))

    @property
    def arriving(self) -> tf.Tensor | None:
        """dJ/dZ."""
        return self.call.gradients_of_z.get((self.in_pass, 0))

    @property
    def entering(self) -> tf.Tensor | None:
        """The gradient of what the last activation reads."""
        if self.chain[-1] == self.index:
            return self.arriving
        return self.step.trace.calls[self._maker(self.chain[-1])].output_gradients.get((self.in_pass, 0))

    @property
    def logits(self) -> bool:
        """Whether the loss read what the last activation reads."""
        unread = (self.in_pass, 0) in self.last.unused
        reached = self.delivered is None and self.entering is not None
        return bool(self.activations) and reached and not unread

    @property
    def opaque(self) -> bool:
        whats = [probed.activation for probed in self.activations]
        return not all(what.elementwise or what.name == "softmax" for what in whats)

    def _maker(self, node: int) -> int:
        """The call whose output an activation layer reads."""
        return self.step.wiring.producers[node][0][0]

    def plan(self) -> CallPlan:
        step, call, logits = self.step, self.call, self.logits
        assert call.kind is not None
        handed_over = self._handed_over()  # before anything else of the call is read
        return CallPlan(
            layer=call.layer,
            kind=call.kind,
            call=call.call,
            loss=step.trace.passes.index(self.in_pass),
            node=step.numbers[self.in_pass, self.index],
            activation_node=step.numbers[self.in_pass, self.chain[-1]],
            stages=len(call.stages),
            activations=self.activations,
            opaque=self.opaque,
            sloped=len(self.activations) - logits,
            logits=logits,
            normalised=self.normalised,
            projects_keys=projects_keys(call.inside, call.layer),
            consumers=self._consumers(),
            operands=self._operands(),
            weights=self._weights(),
            tensors=self._tensors(*handed_over),
        )

    def _operands(self) -> dict[str, TensorRead]:
        reads = ((name, self.step.reads.value(tensor)) for name, tensor in self.call.operands.items())
        return {name: read for name, read in reads if read is not None}

    def _weights(self) -> dict[str, WeightPlan]:
        """By their names of the kind: the call's weights and their gradients."""
        call = self.call
        assert call.kind is not None
        variables = {name: v for name, v in call.kind.variables(call.layer).items() if v is not None}
        return {
            name: self.step.weight(v, call.weights.get(name), self.in_pass) for name, v in variables.items()
        }

    def _handed_over(self) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Z, and what the activation behind the call reads, where the step hands them over anyway."""
        call, first = self.call, self.chain[0]
        own_input = first == self.index or self._maker(first) == self.index
        read = None if first == self.index else self.step.trace.calls[first].received[0]
        if read is not None and own_input and not self.step.reads.holds(read):
            read = None
        z = None if self.own or len(call.returned) != 1 else call.returned[0]
        return (read if z is not None and read is not None and own_input else z), read

    def _tensors(self, z: tf.Tensor | None, read: tf.Tensor | None) -> CallTensors[TensorRead]:
        """All else that is read of the call, in the order of the fields."""
        call, step, reads = self.call, self.step, self.step.reads
        assert call.kind is not None
        output = self.last.returned[0] if self.activations else None
        worked_out = not self.opaque and id(output) not in step.read_anyway
        entering = self.entering if self.logits or self.opaque else self.delivered
        return CallTensors(
            offset=reads.value(self._offset()) if self.normalised else None,
            preactivation=step.handed_over(z),
            activation_input=reads.value(read),
            returned=None if call.kind.reads_weights else reads.value(call.returned[0]),
            output=None if worked_out else reads.value(output),
            output_gradient=reads.gradient(entering),
            preactivation_gradient=reads.gradient(self.arriving),
            output_gradients=tuple(
                reads.gradient(call.output_gradients.get((self.in_pass, leaf))) for leaf in self._leaves()
            ),
        )

    def _leaves(self) -> range:
        """The outputs whose gradients are read one by one: of a call with several, or with stages."""
        several = len(self.call.returned) > 1 or bool(self.call.stages)
        return range(len(self.call.returned) if several else 0)

    def _offset(self) -> tf.Tensor | None:
        """What a normalisation between kernel and activation adds last: its beta."""
        consumers, offset = self.step.wiring.consumers, None
        node = consumers[self.index][0]
        while node != self.chain[0]:
            call = self.step.trace.calls[node]
            if is_normalisation(call.layer):
                offset = call.weights.get("beta")
            node = consumers[node][0]
        return offset

    def _consumers(self) -> tuple[str, ...]:
        calls = self.step.trace.calls
        readers = (calls[i] for i in self.step.wiring.next_sites(calls, self.chain[-1]))
        first = (next(iter(c.kind.variables(c.layer).values())) for c in readers if c.kind is not None)
        return tuple(dict.fromkeys(self.step.paths[id(variable)] for variable in first))
