"""What one train step hands over while it runs, still as tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

Tensor = Any


@dataclasses.dataclass(eq=False)
class LayerCall:
    """One call of a layer without sublayers.

    `received` and `returned` are the very tensors that layers pass to each other; the wiring is
    read from them. `input` is what a kernel meets: integers as floats, a sparse tensor made dense.
    Gradients are filled in when backprop comes by.
    """

    layer: Any
    call: int
    received: list[Tensor]
    input: Tensor | None = None
    returned: list[Tensor] = dataclasses.field(default_factory=list)
    output_gradient: Tensor | None = None
    kernel: Tensor | None = None
    bias: Tensor | None = None
    preactivation_gradient: Tensor | None = None


@dataclasses.dataclass(eq=False)
class ModelOutput:
    """One output leaf of the model, where the loss may meet it."""

    value: Tensor
    target: Tensor | None = None
    gradient: Tensor | None = None
    logits_gradient: Tensor | None = None


@dataclasses.dataclass(eq=False)
class StepTrace:
    """Everything one step hands over, in the order it happened.

    `graph` is the one the step itself is traced in: the bodies of loops have others.
    """

    graph: Any = None
    calls: list[LayerCall] = dataclasses.field(default_factory=list)
    outputs: list[ModelOutput] = dataclasses.field(default_factory=list)
    variable_gradients: dict[int, Tensor | None] = dataclasses.field(default_factory=dict)
    penalty_gradients: dict[int, Tensor | None] = dataclasses.field(default_factory=dict)
    loss: Tensor | None = None
    loss_scale: Tensor | None = None
    open_calls: list[LayerCall] = dataclasses.field(default_factory=list)

    def begin(self, layer: Any, received: list[Tensor]) -> LayerCall:
        """Open a call of `layer`."""
        earlier = sum(call.layer is layer for call in self.calls)
        call = LayerCall(layer, earlier, received)
        self.calls.append(call)
        self.open_calls.append(call)
        return call
