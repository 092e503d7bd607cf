"""What every part of a plan is made from: a finished trace, and what is read of it so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import all_layers
from trainobs.capture.layers import Probed
from trainobs.capture.reading._plan import WeightPlan
from trainobs.capture.reading._reads import Reads
from trainobs.capture.reading._trace import StepTrace
from trainobs.capture.reading._values import TensorRead
from trainobs.capture.reading._wiring import Wiring, wire


@dataclasses.dataclass(frozen=True, eq=False)
class OwnedWeight:
    """A variable, and the innermost layer that holds it."""

    variable: keras.Variable
    layer: keras.Layer


@dataclasses.dataclass(frozen=True, eq=False)
class TracedStep:
    """A finished trace, for as long as its plan is made.

    Attributes
    ----------
    trace : StepTrace
    wiring : Wiring
    activations : dict of int to Probed
        By id of the layer.
    reads : Reads
        What is read of the step; grows in the order in which its plan is made.
    read_anyway : frozenset of int
        Ids of the tensors that kinds ask for, and of the predictions.
    numbers : dict of (int, int) to int
        By pass and position of a call, the number of its last node.
    sample_places : dict of int to int
        By position of a call that put something out, where its batch size stands.
    paths : dict of int to str
        By id of the variable.
    """

    trace: StepTrace
    wiring: Wiring
    activations: Mapping[int, Probed]
    reads: Reads
    read_anyway: frozenset[int]
    numbers: Mapping[tuple[int, int], int]
    sample_places: Mapping[int, int]
    paths: Mapping[int, str]

    @classmethod
    def of(
        cls, trace: StepTrace, activations: Mapping[int, Probed], variables: Iterable[keras.Variable]
    ) -> TracedStep:
        """Of a trace; `variables` come first where paths have to be told apart."""
        wiring = wire(trace)
        operands = (tensor for call in trace.calls for tensor in call.operands.values())
        predictions = (output.value for output in trace.outputs)
        returning = (index for index, call in enumerate(trace.calls) if call.returned)
        called = (variable for call in trace.calls for variable in call.variables.values())
        return cls(
            trace=trace,
            wiring=wiring,
            activations=activations,
            reads=Reads(trace.loss_scale),
            read_anyway=frozenset(id(tensor) for tensor in (*operands, *predictions)),
            numbers=_numbered(trace, wiring),
            sample_places={index: place for place, index in enumerate(returning)},
            paths=_unique_paths([*variables, *called]),
        )

    def handed_over(self, tensor: tf.Tensor | None) -> TensorRead | None:
        """How to read a tensor that is read anyway."""
        known = id(tensor) in self.read_anyway or self.reads.holds(tensor)
        return self.reads.value(tensor) if known else None

    def weight(self, variable: keras.Variable, value: tf.Tensor | None, in_pass: int) -> WeightPlan:
        """The plan of a variable and its gradient."""
        gradients = self.trace.variable_gradients
        asked = any(id(variable) in found for found in gradients.values())
        return WeightPlan(
            path=self.paths[id(variable)],
            shape=tuple(variable.shape),
            trainable=asked if gradients else bool(variable.trainable),
            value=self.reads.value(value),
            gradient=self.reads.weight_gradient(self.trace.gradient_of(id(variable), in_pass)),
            penalty=self.reads.value(self.trace.penalty_gradients.get(id(variable))),
        )


def _numbered(trace: StepTrace, wiring: Wiring) -> dict[tuple[int, int], int]:
    """Number of the last node of each call, in each pass.

    A call is one node, or several where its kind has stages. Before it stands a node for each input
    that operations which are no layers have made. Those before outputs come last.
    """
    found, count = {}, 0
    for in_pass in trace.passes:
        for index, call in enumerate(trace.calls):
            count += sum(wiring.changed[index]) + 1 + len(call.stages)
            found[in_pass, index] = count - 1
        count += sum(map(bool, wiring.outputs_changed))
    return found


def owned_weights(models: list[keras.Model]) -> list[OwnedWeight]:
    """The trainable variables of models, each once, with the innermost layer that holds it."""
    layers = [layer for model in models for layer in (model, *all_layers(model))]
    owner: dict[int, keras.Layer] = {}
    for layer in sorted(layers, key=lambda layer: -len(layer.weights)):  # the smaller ones win
        owner |= {id(variable): layer for variable in layer.weights}
    trainable = {id(v): v for model in models for v in model.trainable_variables}
    return [OwnedWeight(variable, owner[number]) for number, variable in trainable.items()]


def _unique_paths(variables: list[keras.Variable]) -> dict[int, str]:
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
