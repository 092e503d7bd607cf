"""What one train step hands over while it runs, still as tensors.

A step may call `tape.gradient` several times (a generator and its discriminator, a penalty on
gradients). Each such call is a *pass*, numbered from 0, and every gradient is kept with its pass.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from trainobs.capture.layers import Kind, has_activation
from trainobs.capture.reading._unread import ancestors, reordering, unneeded

#: Gradients by pass and by leaf of what is put out.
Gradients = dict[tuple[int, int], tf.Tensor]


@dataclasses.dataclass(eq=False)
class LayerCall:
    """One call of a layer without sublayers.

    `received` and `returned` are the very tensors that layers pass to each other; the wiring is
    read from them. `inside` is the innermost layer that it is a part of. `operands` and `weights` are
    what the layer's kind asks for. Gradients are filled in when backprop comes by, by pass and leaf;
    `unused` says where one came that the step then does without.
    """

    layer: keras.Operation
    call: int
    kind: Kind | None
    received: list[tf.Tensor]
    inside: keras.Layer | None = None
    operands: dict[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    weights: dict[str, tf.Tensor | None] = dataclasses.field(default_factory=dict)
    returned: list[tf.Tensor] = dataclasses.field(default_factory=list)
    output_gradients: Gradients = dataclasses.field(default_factory=dict)
    preactivation_gradients: Gradients = dataclasses.field(default_factory=dict)
    unused: set[tuple[int, int]] = dataclasses.field(default_factory=set)

    @property
    def carries(self) -> bool:
        """Whether signals pass through a kernel of this call."""
        return self.kind is not None and self.kind.carries

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the nodes that come before the call's last one."""
        return () if self.kind is None else self.kind.stages_of(self.layer)

    @property
    def variables(self) -> dict[int, keras.Variable]:
        """By id: the variables of a call of known kind."""
        found = {} if self.kind is None else self.kind.variables(self.layer)
        return {id(variable): variable for variable in found.values() if variable is not None}

    @property
    def gradients_of_z(self) -> Gradients:
        """The gradients dJ/dZ of the call: those of its output, unless it has an activation."""
        return self.preactivation_gradients if has_activation(self.layer) else self.output_gradients


@dataclasses.dataclass(eq=False)
class ModelOutput:
    """One output leaf of the model, where the loss may meet it; gradients by pass.

    `handed_on` is what the user gets of `value`: the same, or an equal tensor of its own.
    """

    value: tf.Tensor
    target: tf.Tensor | None = None
    sample_weight: tf.Tensor | None = None
    mask: tf.Tensor | None = None
    gradients: Gradients = dataclasses.field(default_factory=dict)
    logits_gradients: Gradients = dataclasses.field(default_factory=dict)
    unused: set[tuple[int, int]] = dataclasses.field(default_factory=set)
    handed_on: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A tensor whose gradient is asked for, and where it is kept: by pass, at a leaf."""

    tensor: tf.Tensor
    gradients: Gradients
    leaf: int = 0

    def keep(self, in_pass: int, gradient: tf.Tensor | None) -> None:
        """Keep the gradient of a pass, if there is one."""
        if gradient is not None:
            self.gradients[in_pass, self.leaf] = gradient


_Place = tuple[LayerCall | ModelOutput, Gradients, tuple[int, int]]


@dataclasses.dataclass(eq=False)
class StepTrace:
    """Everything one step hands over, in the order it happened.

    `graph` is the one the step itself is traced in: the bodies of loops have others.
    `all_zero` says, by id, of weights that no known kind explains, whether they were zero before the step.
    `losses` adds up to the loss: what the step's last gradient of weights is of, or what its `compute_loss`
    has returned. `variable_gradients` has, by pass, the gradient of each variable that was differentiated.
    `unread` says which of the gradients below came, but must stay unread, lest sums be added in another
    order.
    `asked` are the tensors whose gradients each pass is asked for.
    `casts` has, by id of what a layer's input was cast to (without a graph), that input; both, so that the id
    stays taken.
    `idle` counts the gradients that were asked for no weights at all.
    `taken` are gradients of something else than weights, with their order; `orders` has that of passes (see
    `NodeRecord.order`).
    """

    graph: tf.Graph | None = None
    calls: list[LayerCall] = dataclasses.field(default_factory=list)
    outputs: list[ModelOutput] = dataclasses.field(default_factory=list)
    variable_gradients: dict[int, dict[int, tf.Tensor | None]] = dataclasses.field(default_factory=dict)
    penalty_gradients: dict[int, tf.Tensor | None] = dataclasses.field(default_factory=dict)
    all_zero: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)
    losses: list[tf.Tensor] = dataclasses.field(default_factory=list)
    loss_scale: tf.Tensor | None = None
    loss_is_scaled: bool = False
    open_composites: list[keras.Layer] = dataclasses.field(default_factory=list)
    open_calls: list[LayerCall] = dataclasses.field(default_factory=list)
    current_pass: int = 0
    idle: int = 0
    taken: list[tuple[list[tf.Tensor], int]] = dataclasses.field(default_factory=list)
    orders: dict[int, int] = dataclasses.field(default_factory=dict)
    unread: list[tuple[Gradients, tuple[int, int]]] = dataclasses.field(default_factory=list)
    asked: list[Asked] = dataclasses.field(default_factory=list)
    casts: dict[int, tuple[object, object]] = dataclasses.field(default_factory=dict)

    def ask(self, tensor: tf.Tensor, gradients: Gradients, leaf: int = 0) -> None:
        """Ask each pass to come for the gradient of a tensor, and keep it there."""
        self.asked.append(Asked(tensor, gradients, leaf))

    def begin(self, layer: keras.Operation, kind: Kind | None, received: list[tf.Tensor]) -> LayerCall:
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

    def keep_target(self, target: object) -> None:
        """Keep what the user called `tape.gradient` on: its sum is the loss that the gradients belong to."""
        self.losses = [tensor for tensor in tf.nest.flatten(target) if tf.is_tensor(tensor)]
        self.loss_is_scaled = self.loss_scale is not None

    def end_pass(self, in_pass: int, requested: Iterable[tf.Tensor], *, training: bool) -> None:
        """Make the gradients of a pass dense; forget those that a training step leaves unread."""
        if training:
            for holder, _, key in self._forget(in_pass, functools.partial(unneeded, requested=requested)):
                holder.unused.add(key)
            self.unread += [(gradients, key) for _, gradients, key in self._forget(in_pass, reordering)]
        for _, gradients, key in self._kept(in_pass):  # sparse where rows of an output were picked
            gradients[key] = tf.convert_to_tensor(gradients[key])

    def take(self, found: object, order: int, *, of_weights: bool) -> None:
        """Note gradients that a loss may be made of; those of weights (an inner update's) count once.

        Without a graph it is not known whether what comes depends on those of weights: mostly, it does not.
        """
        tensors = [t for t in tf.nest.flatten(found, expand_composites=True) if tf.is_tensor(t)]
        if not of_weights:
            self.taken.append((tensors, order))
        elif all(map(tf.is_symbolic_tensor, tensors)):
            self.taken.append((tensors, 1))
        else:
            self.taken = []

    def order_of(self, target: object) -> int:
        """Of which order the gradient of a target is; without a graph, at most the second is known."""
        targets = [tensor for tensor in tf.nest.flatten(target) if tf.is_tensor(tensor)]
        if not all(map(tf.is_symbolic_tensor, targets)):
            return 2 if self.taken else 1
        behind = ancestors(targets) if self.taken else set()
        orders = (order for found, order in self.taken if any(tensor.op in behind for tensor in found))
        return 1 + max(orders, default=0)

    def is_unread(self, gradients: Gradients, in_pass: int) -> bool:
        """Whether any of these gradients, a field of a call or output, had to stay unread in a pass."""
        return any(found is gradients and key[0] == in_pass for found, key in self.unread)

    def _forget(self, in_pass: int, left_unread: Callable[[list[tf.Tensor]], list[bool]]) -> list[_Place]:
        kept = list(self._kept(in_pass))
        values = [getattr(gradients[key], "values", gradients[key]) for _, gradients, key in kept]
        dropped = [place for place, unread in zip(kept, left_unread(values), strict=True) if unread]
        for _, gradients, key in dropped:
            del gradients[key]
        return dropped

    def _kept(self, in_pass: int) -> Iterator[_Place]:
        """Who holds a gradient of a pass, in which of its fields, and where there."""
        fields: list[tuple[LayerCall | ModelOutput, Gradients]] = []
        for call in self.calls:
            fields += [(call, call.output_gradients), (call, call.preactivation_gradients)]
        for output in self.outputs:
            fields += [(output, output.gradients), (output, output.logits_gradients)]
        by_field = {id(gradients): (holder, gradients) for holder, gradients in fields}  # some are shared
        for holder, gradients in by_field.values():
            yield from [(holder, gradients, key) for key in gradients if key[0] == in_pass]

    def gradient_of(self, variable: int, in_pass: int) -> tf.Tensor | None:
        """Gradient of a variable, by its id."""
        return self.variable_gradients.get(in_pass, {}).get(variable)
