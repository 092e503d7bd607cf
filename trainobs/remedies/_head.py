"""The last activation and the loss, made to fit each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

import keras

from trainobs.capture import maker_of
from trainobs.errors import InvalidArgument
from trainobs.mechanisms import AppliedTwice, Mechanism, OutputMismatch
from trainobs.remedies._activation import activation_name, is_only_an_activation, with_activation
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import opens, rebuilt
from trainobs.remedies._treatment import Treatment

Loss: TypeAlias = "str | keras.losses.Loss | Callable[..., object]"
_PROBABILITIES = ("sigmoid", "softmax")
_LOSSES = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}


class FixHead(Remedy):
    """Changes the last activation, the loss, or both, so that they fit each other and the targets."""

    name = "fix the head"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """The change for the rule that the diagnosis saw broken."""
        changes = (
            "Changes the last activation, the loss, or both, so that they fit each other and the targets."
        )
        if isinstance(mechanism, OutputMismatch):
            yield Treatment.of_model(mechanism, self.name, changes, fix_head, **_as_seen(mechanism))
        elif isinstance(mechanism, AppliedTwice):
            yield Treatment.of_model(mechanism, self.name, changes, fix_head, rule="twice")


def _as_seen(mechanism: OutputMismatch) -> dict[str, object]:
    """The rule that the diagnosis saw broken, and what it saw of the targets where that decides."""
    seen: dict[str, object] = {"rule": mechanism.rule}
    if mechanism.rule in ("single", "classes", "sigmoid") and mechanism.targets not in ("", "binary"):
        seen["targets"] = mechanism.targets
    if mechanism.rule in ("single", "classes") and mechanism.targets == "classes":
        seen["units"] = mechanism.classes
    return seen


def fix_head(
    model: keras.Model, *, rule: str | None = None, targets: str = "binary", units: int | None = None
) -> keras.Model:
    """Make the last activation and the loss fit each other.

    Parameters
    ----------
    model : keras.Model
    rule : {"single", "classes", "twice", "clipped", "cut", "range", "sigmoid", "logits"}, optional
        What does not fit: softmax, or a crossentropy over classes, over one unit; numbers of classes on one
        unit; probabilities made twice, or given where the loss takes logits; a loss of probabilities that
        clips an output which gives none, or most wrong predictions; targets outside of the activation's
        range; a sigmoid under a crossentropy over classes; an activation on logits. Default: what model and
        loss alone show: "single", "twice", "clipped" or "range".
    targets : {"binary", "classes", "several", "real"}, default "binary"
        What the targets are: of one class or the other, numbers of classes, several classes at once, or any
        numbers.
    units : int, optional
        How many classes there are, where one unit is to become so many.

    Returns
    -------
    keras.Model
        One softmax unit becomes a sigmoid, under binary crossentropy if the loss was a crossentropy; linear
        under the mean squared error if targets are any numbers; as many softmax units as there are classes,
        under sparse categorical crossentropy, if they are numbers of classes. A sigmoid under a crossentropy
        over classes becomes a softmax, or the loss binary, where several classes are right at once.
        Where the loss is a crossentropy of probabilities, but the output gives none, the loss takes the
        output as logits (``from_logits=True``). Where it takes logits, or an earlier layer has made
        probabilities, the last activation goes. Under any other loss a bounded output becomes linear.

    Raises
    ------
    InvalidArgument
        If the model has several outputs, its last layer has no activation, or there is nothing to fix.
    """
    head = _Head.of(model)
    rule = rule or head.broken_rule()
    if rule not in _FIXES:
        raise InvalidArgument(f"`rule` must be one of {tuple(_FIXES)}. Received: {rule!r}.")
    if targets not in _TARGETS:
        raise InvalidArgument(f"`targets` must be one of {_TARGETS}. Received: {targets!r}.")
    if units is not None:
        return _with_classes(model, head, units)
    to, loss = _FIXES[rule](head, targets)
    compiled = {} if loss is head.loss else {"loss": loss}
    changed = head.layer.name if head.activation != to else None
    return rebuilt(
        model, lambda layer: with_activation(layer, to) if layer.name == changed else layer, **compiled
    )


def _with_classes(model: keras.Model, head: _Head, units: int) -> keras.Model:
    """A softmax unit for each class in place of one unit, under a loss that takes their numbers."""
    if not isinstance(units, int) or units < 2:
        raise InvalidArgument(f"`units` must be at least 2, a unit for each class. Received: {units!r}.")
    if not isinstance(head.layer, keras.layers.Dense):
        raise InvalidArgument(
            f"Only a Dense layer can be given other units. Received: {head.layer.name!r}, a "
            f"{type(head.layer).__name__}. Change the model's code instead."
        )

    def widened(layer: keras.Layer) -> keras.Layer:
        if layer.name != head.layer.name:
            return layer
        layer.units = units
        return with_activation(layer, "softmax")

    return rebuilt(model, widened, loss="sparse_categorical_crossentropy")


@dataclasses.dataclass(frozen=True)
class _Head:
    """The end of a model with one output.

    `activation` and `before` are names: of what the last layer does, and of what is done right before it,
    where it does nothing else.
    """

    layer: keras.Layer
    activation: str
    before: str
    units: int
    loss: Loss

    @classmethod
    def of(cls, model: keras.Model) -> _Head:
        if len(model.outputs) != 1:
            raise InvalidArgument(f"`fix_head` takes models with one output. Received {len(model.outputs)}.")
        last = _last_layer(model)
        if not isinstance(last, keras.Layer):
            raise InvalidArgument(
                f"`fix_head` changes the layer that makes the output. Received a model whose output an "
                f"operation makes ({last.name})."
            )
        before = activation_name(maker_of(last.input)) if is_only_an_activation(last) else "linear"
        (loss,) = keras.tree.flatten(model.loss)[:1] or [""]  # of one output, it may be given in a list
        return cls(last, activation_name(last), before, model.output_shape[-1], loss)

    @property
    def loss_name(self) -> str:
        """Keras' name of the loss, or the function's own."""
        if isinstance(self.loss, str):
            return self.loss
        if isinstance(self.loss, keras.losses.Loss):
            return str(self.loss.name or "")
        return str(getattr(self.loss, "__name__", ""))  # a partial function has no name

    @property
    def is_crossentropy(self) -> bool:
        """Whether the loss is one, of probabilities or logits."""
        return "crossentropy" in self.loss_name

    @property
    def takes_logits(self) -> bool:
        """Whether the loss expects logits."""
        return bool(getattr(self.loss, "from_logits", False))  # only losses of probabilities have it

    @property
    def makes_probabilities(self) -> bool:
        """Whether the last activation does."""
        return self.activation in _PROBABILITIES

    def broken_rule(self) -> str:
        """What does not fit, as far as it shows without data."""
        if self.activation == "softmax" and self.units == 1:
            return "single"
        if self.makes_probabilities and (self.takes_logits or self.before in _PROBABILITIES):
            return "twice"
        if self.is_crossentropy and not self.takes_logits and not self.makes_probabilities:
            return "clipped"
        if not self.is_crossentropy and self.activation != "linear":
            return "range"
        raise InvalidArgument(
            f"The output ({self.activation}) and the loss ({self.loss_name}) fit each other already."
        )

    def with_logits(self) -> Loss:
        """The loss, as a crossentropy that takes logits."""
        if isinstance(self.loss, keras.losses.Loss):
            return type(self.loss).from_config({**self.loss.get_config(), "from_logits": True})
        if self.loss_name not in _LOSSES:
            raise InvalidArgument(f"`fix_head` knows the losses {tuple(_LOSSES)}. Received: {self.loss!r}.")
        return _LOSSES[self.loss_name](from_logits=True)


def _fix_single(head: _Head, targets: str) -> tuple[str, Loss]:
    if targets == "classes":
        raise InvalidArgument("How many classes are there? Pass `units`, a unit for each class.")
    if targets == "real":
        return "linear", "mean_squared_error" if head.is_crossentropy else head.loss
    return "sigmoid", "binary_crossentropy" if head.is_crossentropy else head.loss


def _fix_twice(head: _Head, targets: str) -> tuple[str, Loss]:
    return "linear", head.loss


def _fix_clipped(head: _Head, targets: str) -> tuple[str, Loss]:
    return "linear", head.with_logits()


def _fix_range(head: _Head, targets: str) -> tuple[str, Loss]:
    if not head.is_crossentropy:
        return "linear", head.loss
    if not (head.makes_probabilities or head.takes_logits):
        return _fix_clipped(head, targets)
    raise InvalidArgument(
        f"Under {head.loss_name} no output fits targets outside of [0, 1]: scale the targets, or take "
        f"another loss."
    )


def _fix_sigmoid(head: _Head, targets: str) -> tuple[str, Loss]:
    return ("sigmoid", "binary_crossentropy") if targets == "several" else ("softmax", head.loss)


_TARGETS = ("binary", "classes", "several", "real")
#: What each broken rule asks for: the name of the last activation, and the loss.
_FIXES: dict[str, Callable[[_Head, str], tuple[str, Loss]]] = {
    "single": _fix_single,
    "classes": _fix_single,
    "twice": _fix_twice,
    "clipped": _fix_clipped,
    "cut": _fix_clipped,
    "range": _fix_range,
    "sigmoid": _fix_sigmoid,
    "logits": _fix_twice,
}


def _last_layer(model: keras.Model) -> keras.Layer | keras.Operation:
    """What makes the model's only output, inside of nested models too."""
    last = maker_of(model.outputs[0])
    return _last_layer(last) if isinstance(last, keras.Model) and opens(last) else last
