"""A model made anew with some layers replaced: weights carried over, the original left as it is.

Layers are replaced one by one, each by something with the same inputs and outputs, so that functional
and sequential models, nested ones and shared layers keep their wiring.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import keras

from trainobs.capture import all_layers
from trainobs.errors import InvalidArgument, ModelNotReady

Model: TypeAlias = keras.Model
Layer: TypeAlias = keras.Layer
#: Makes of a layer's fresh copy what takes its place; the copy itself, if nothing changes.
Change: TypeAlias = Callable[[Layer], Layer]


def rebuilt(model: Model, change: Change | None = None, **compiled: object) -> Model:
    """Make a model anew.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, if layers are to be replaced; built.
    change : callable, optional
        Given the fresh copy of a layer, returns what takes its place.
    **compiled
        What `compile` is to be given in place of the model's own `optimizer`, `loss`, …

    Returns
    -------
    keras.Model
        With all weights whose layer is still there, and compiled if the model was.

    Raises
    ------
    InvalidArgument
        If the model's class lets no layer be replaced.
    ModelNotReady
        If the model has no weights yet.
    """
    if not model.built:
        raise ModelNotReady("A remedy needs the model's weights. Call the model on some data first.")
    if opens(model):
        new = _with_replaced_layers(model, change or (lambda fresh: fresh))
    elif change is None:
        new = _made_from_config(model)
    else:
        raise InvalidArgument(
            f"Only the layers of functional and sequential models can be replaced. Received: {model.name!r}, "
            f"a {type(model).__name__}. Change its code instead."
        )
    if model.compiled:
        compile_like(model, new, **compiled)
    return new


def opens(model: Model) -> bool:
    """Whether the model is made of layers that Keras knows the wiring of."""
    # functional models have operations; their class is not exported by Keras
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _with_replaced_layers(model: Model, change: Change) -> Model:
    copies: list[tuple[Layer, Layer]] = []

    def replaced(layer: Layer) -> Layer:
        fresh = type(layer).from_config(layer.get_config())
        if not isinstance(layer, keras.Layer):  # an operation between layers
            return fresh
        copies.append((layer, fresh))
        return change(fresh)

    with _without_compilation(model):
        new = keras.models.clone_model(model, clone_function=replaced, recursive=True)
    for layer, fresh in copies:
        carry_weights(layer, fresh)
    return new if type(new) is type(model) else _of_its_class(model, new)


@contextlib.contextmanager
def _without_compilation(model: Model) -> Iterator[None]:
    """Newer versions of Keras compile a clone from what can be serialised, and fail for losses that can't."""
    compiled = [
        part for part in (model, *all_layers(model)) if isinstance(part, keras.Model) and part.compiled
    ]
    for part in compiled:
        part.compiled = False
    try:
        yield
    finally:
        for part in compiled:
            part.compiled = True


def _of_its_class(model: Model, new: Model) -> Model:
    """The new layers in a model of the user's own class, whose `train_step` it keeps."""
    try:
        if isinstance(model, keras.Sequential):
            start = keras.Input(batch_shape=new.inputs[0].shape, dtype=new.inputs[0].dtype)
            return type(model)([start, *new.layers], name=model.name)
        return type(model)(new.inputs, new.outputs, name=model.name)
    except Exception as error:
        raise InvalidArgument(
            f"{type(model).__name__} can't be made anew of inputs and outputs: {error}. Remedies would leave "
            f"out what it does besides."
        ) from error


def _made_from_config(model: Model) -> Model:
    try:
        new = type(model).from_config(model.get_config())
        new.build_from_config(model.get_build_config())
    except Exception as error:
        raise InvalidArgument(
            f"{type(model).__name__} can't be made anew: {error}. Give it `get_config`, and a `build`."
        ) from error
    carry_weights(model, new)
    return new


def carry_weights(source: Layer, target: Layer) -> None:
    """Give a layer the weights of another one, if their shapes agree: it may not be built, or changed."""
    pairs = list(zip(source.variables, target.variables, strict=False))
    if len(source.variables) == len(target.variables) and all(a.shape == b.shape for a, b in pairs):
        for own, its in pairs:
            its.assign(own)


def layers_named(model: Model, names: Iterable[str]) -> list[Layer]:
    """The layers of a model that have one of these names, in any depth."""
    wanted = set(names)
    return [layer for layer in all_layers(model) if layer.name in wanted]


def checked_names(model: Model, names: Iterable[str]) -> set[str]:
    """Names of layers, if it is a list of names that the model's layers have."""
    if isinstance(names, str):
        raise InvalidArgument(f"`layers` takes a list of names. Received: {names!r}. Write [{names!r}].")
    wanted, known = set(names), {layer.name for layer in all_layers(model)}
    if not wanted or wanted - known:
        raise InvalidArgument(
            f"The model has no layers {sorted(wanted - known)}. It has {sorted(known)}."
            if wanted
            else "`layers` is empty. Name the layers to change."
        )
    return wanted


def compile_like(model: Model, new: Model, **given: object) -> None:
    """Compile a model as another one was, with a fresh optimizer of the same settings."""
    optimizer = model.optimizer
    own = {
        "optimizer": type(optimizer).from_config(optimizer.get_config()),
        "loss": model.loss,
        "loss_weights": loss_weights_of(model),
        "jit_compile": model.jit_compile,
        "run_eagerly": model.run_eagerly,
        "auto_scale_loss": False,  # the model's optimizer scales the loss already, if it is to
    }
    new.compile(**{**own, **given})
    new.optimizer.build(new.trainable_variables)  # else Keras can't load what it saves


def loss_weights_of(model: Model) -> float | list[float] | dict[str, float] | None:
    """What `compile` was given as `loss_weights`; None where the configuration can't be told."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # a loss that can't be serialised
        warnings.simplefilter("ignore")  # Keras warns of lambdas, but nothing is loaded from this one
        return model.get_compile_config().get("loss_weights")
    return None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, Python's generator, which Keras draws seeds from, is seeded; afterwards it is as it was."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
