"""What one train step hands over while it runs, still as tensors.

A step may call `tape.gradient` several times (a generator and its discriminator, a penalty on
gradients). Each such call is a *pass*, numbered from 0, and every gradient is kept with its pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from trainobs.capture._kinds import Kind

Tensor = Any


@dataclasses.dataclass(eq=False)
class LayerCall:
    """One call of a layer without sublayers.

    `received` and `returned` are the very tensors that layers pass to each other; the wiring is
    read from them. `inside` is the innermost layer that it is a part of. `operands` and `weights` are
    what the layer's kind asks for. Gradients are filled in when backprop comes by, by pass and leaf.
    """

    layer: Any
    call: int
    kind: Kind | None
    received: list[Tensor]
    inside: Any = None
    operands: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    weights: dict[str, Tensor | None] = dataclasses.field(default_factory=dict)
    returned: list[Tensor] = dataclasses.field(default_factory=list)
    output_gradients: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)
    preactivation_gradients: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)

    @property
    def carries(self) -> bool:
        """Whether signals pass through a kernel of this call."""
        return self.kind is not None and self.kind.carries


@dataclasses.dataclass(eq=False)
class ModelOutput:
    """One output leaf of the model, where the loss may meet it; gradients by pass."""

    value: Tensor
    target: Tensor | None = None
    sample_weight: Tensor | None = None
    mask: Tensor | None = None
    gradients: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)
    logits_gradients: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class StepTrace:
    """Everything one step hands over, in the order it happened.

    `graph` is the one the step itself is traced in: the bodies of loops have others.
    `variable_gradients` has, by pass, the gradient of each variable that was differentiated.
    """

    graph: Any = None
    calls: list[LayerCall] = dataclasses.field(default_factory=list)
    outputs: list[ModelOutput] = dataclasses.field(default_factory=list)
    variable_gradients: dict[int, dict[int, Tensor | None]] = dataclasses.field(default_factory=dict)
    penalty_gradients: dict[int, Tensor | None] = dataclasses.field(default_factory=dict)
    loss: Tensor | None = None
    loss_scale: Tensor | None = None
    loss_is_scaled: bool = False
    open_composites: list[Any] = dataclasses.field(default_factory=list)
    open_calls: list[LayerCall] = dataclasses.field(default_factory=list)
    current_pass: int = 0

    def begin(self, layer: Any, kind: Kind | None, received: list[Tensor]) -> LayerCall:
        """Open a call of `layer`."""
        earlier = sum(call.layer is layer for call in self.calls)
        inside = self.open_composites[-1] if self.open_composites else None
        call = LayerCall(layer, earlier, kind, received, inside)
        self.calls.append(call)
        self.open_calls.append(call)
        return call

    @property
    def passes(self) -> list[int]:
        """The passes that differentiated weights; the first one if there was none."""
        return sorted(self.variable_gradients) or [0]

    def end_pass(self, in_pass: int, requested: Iterable[Tensor]) -> None:
        """Forget gradients of a pass that nothing it was requested depends on; make the others dense.

        A tape differentiates past the frozen layers too. The graph drops what nobody reads, so
        training never computes it, and reading it may change the rest by rounding.
        """
        symbolic = [t for t in tf.nest.flatten(requested, expand_composites=True) if tf.is_symbolic_tensor(t)]
        needed = _ancestors(symbolic)
        kept = [c.output_gradients for c in self.calls] + [c.preactivation_gradients for c in self.calls]
        kept += [o.gradients for o in self.outputs] + [o.logits_gradients for o in self.outputs]
        for gradients in kept:
            for key in [key for key in gradients if key[0] == in_pass]:
                gradient = gradients.pop(key)
                sparse = isinstance(gradient, tf.IndexedSlices)  # somebody picked rows of an output
                made = gradient.values if sparse else gradient
                if not (symbolic and tf.is_symbolic_tensor(made)) or made.op in needed:
                    gradients[key] = tf.convert_to_tensor(gradient) if sparse else gradient

    def gradient_of(self, variable: int, in_pass: int) -> Tensor | None:
        """Gradient of a variable, by its id."""
        return self.variable_gradients.get(in_pass, {}).get(variable)


def _ancestors(tensors: list[Tensor]) -> set[Any]:
    """All operations that tensors of a graph depend on."""
    found: set[Any] = set()
    todo = [tensor.op for tensor in tensors]
    while todo:
        operation = todo.pop()
        if operation not in found:
            found.add(operation)
            todo.extend(tensor.op for tensor in operation.inputs)
    return found
