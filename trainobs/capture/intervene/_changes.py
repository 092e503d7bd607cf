"""Puts a counterfactual in place: what each of them changes of a model, and puts back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import all_layers, forget_mask
from trainobs.capture.inside import is_floating
from trainobs.capture.intervene._activations import standardising
from trainobs.capture.intervene._heads import reading_logits, under_squared_error
from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.capture.intervene._passing import handed_on, passed_on
from trainobs.capture.intervene._standardising import divided_by_rms, noise_like, shifted
from trainobs.capture.step import nodes_of, optimizers_of, replaced
from trainobs.counterfactuals import (
    AllCounted,
    AllStandardised,
    Counterfactual,
    FreshWeights,
    LeftOut,
    LogitsRead,
    NoisyInput,
    Ones,
    PassedOn,
    ScaledInput,
    ScaledLoss,
    ShiftedInput,
    SquaredError,
    StandardisedPreactivation,
)

#: For the length of a `with` block.
InPlace = contextlib.AbstractContextManager[object]


def in_place(model: keras.Model, changes: Iterable[Counterfactual]) -> InPlace:
    """All of these changes, for the length of a `with` block.

    Weights that are assigned stay as they are: `state_restored` puts them back.
    """
    stack = contextlib.ExitStack()
    for change in changes:
        stack.enter_context(_IN_PLACE[type(change)](model, change))
    return stack


def node_named(model: keras.Model, name: str) -> keras.Operation:
    """The one layer, or operation of a functional model, of this name."""
    found = [node for node in (*nodes_of(model), *all_layers(model)) if node.name == name]
    if len({id(node) for node in found}) != 1:
        raise NotInPlace(f"{name} is not one layer of the model")
    return found[0]


# ---- weights -------------------------------------------------------------------------------------


def _weight(model: keras.Model, path: str) -> keras.Variable:
    found = [variable for variable in model.variables if variable.path == path]
    if len(found) != 1:
        raise NotInPlace(f"{path} is not one weight of the model")
    return found[0]


def _fresh(model: keras.Model, change: FreshWeights) -> InPlace:
    for number, path in enumerate(change.weights):
        weight = _weight(model, path)
        drawn = tf.random.stateless_normal(weight.shape, seed=(3, number), stddev=change.rms)
        weight.assign(tf.cast(drawn, weight.dtype))
    return contextlib.nullcontext()


def _ones(model: keras.Model, change: Ones) -> InPlace:
    weight = _weight(model, change.weight)
    weight.assign(tf.ones(weight.shape, weight.dtype))
    return contextlib.nullcontext()


# ---- what a layer reads, and calls ---------------------------------------------------------------


def _reading(make: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[keras.Model, Counterfactual], InPlace]:
    """A change of all floating values that a layer reads."""

    def call(original: Callable[..., object], *args: object, **kwargs: object) -> object:
        given = keras.tree.map_structure(lambda t: make(t) if is_floating(t) else t, (args, kwargs))
        return original(*given[0], **given[1])

    def put(model: keras.Model, change: Counterfactual) -> InPlace:
        return replaced(node_named(model, change.layer), "call", call)  # type: ignore[attr-defined]

    return put


def _calling(call: Callable[..., object]) -> Callable[[keras.Model, Counterfactual], InPlace]:
    """Another call of a layer."""

    def put(model: keras.Model, change: Counterfactual) -> InPlace:
        return replaced(node_named(model, change.layer), "call", call)  # type: ignore[attr-defined]

    return put


# ---- preactivations ------------------------------------------------------------------------------


def _standardised(model: keras.Model, change: StandardisedPreactivation) -> InPlace:
    return standardising(node_named(model, change.layer), change.gates)


def _all_standardised(model: keras.Model, change: AllStandardised) -> InPlace:
    stack = contextlib.ExitStack()
    for name in change.layers:
        stack.enter_context(standardising(node_named(model, name)))
    return stack


# ---- the loss ------------------------------------------------------------------------------------


def _squared_error(model: keras.Model, change: SquaredError) -> InPlace:
    return under_squared_error(model, node_named(model, change.layer))


def _logits_read(model: keras.Model, change: LogitsRead) -> InPlace:
    return reading_logits(model, node_named(model, change.layer))


def _all_counted(model: keras.Model, change: AllCounted) -> InPlace:
    stack = contextlib.ExitStack()
    for layer in (model, *all_layers(model)):
        stack.enter_context(replaced(layer, "call", _without_mask))
    stack.enter_context(replaced(model, "compute_loss", _without_weights))
    return stack


def _without_mask(original: Callable[..., object], *args: object, **kwargs: object) -> object:
    given = {name: None if name == "mask" else value for name, value in kwargs.items()}
    return keras.tree.map_structure(forget_mask, original(*args, **given))


def _without_weights(original: Callable[..., object], *args: object, **kwargs: object) -> object:
    return original(*args[:3], **{**kwargs, "sample_weight": None})


@contextlib.contextmanager
def _scaled_loss(model: keras.Model, change: ScaledLoss) -> Iterator[None]:
    used: list[bool] = []

    def scaled(original: Callable[[tf.Tensor], tf.Tensor], loss: tf.Tensor) -> tf.Tensor:
        used.append(True)
        return original(loss * tf.cast(change.factor, loss.dtype))

    with contextlib.ExitStack() as stack:
        for optimizer in optimizers_of(model):
            stack.enter_context(replaced(optimizer, "scale_loss", scaled))
        yield
    if not used:
        raise NotInPlace("the train step does not let its optimizer scale the loss")


_IN_PLACE: dict[type[Counterfactual], Callable[..., InPlace]] = {
    StandardisedPreactivation: _standardised,
    AllStandardised: _all_standardised,
    FreshWeights: _fresh,
    Ones: _ones,
    ScaledInput: _reading(divided_by_rms),
    ShiftedInput: _reading(shifted),
    NoisyInput: _reading(noise_like),
    LeftOut: _calling(handed_on),
    PassedOn: _calling(passed_on),
    SquaredError: _squared_error,
    LogitsRead: _logits_read,
    AllCounted: _all_counted,
    ScaledLoss: _scaled_loss,
}
