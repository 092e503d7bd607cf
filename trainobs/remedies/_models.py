"""Remedies that change a model: each makes a new one, and leaves the given one as it is.

All take a built model (functional or sequential, where layers are replaced) and return one with its
weights and, if it was compiled, its optimizer's settings, loss and loss weights; metrics are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from trainobs.capture import all_layers, maker_of, updating_optimizer
from trainobs.errors import InvalidArgument, ModelNotReady
from trainobs.remedies._layers import ActivationInPlaceOfSoftmax, Residual
from trainobs.remedies._surgery import Change, Layer, Model, layers_named, rebuilt

#: Activations that pass some gradient at negative inputs, in the order they are tried.
ACTIVATIONS = ("leaky_relu", "elu", "gelu", "silu", "mish", "selu")
_NORMALISATIONS = {"batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}
_ACTIVATION_LAYERS = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU,
)  # fmt: skip


def swap_activation(model: Model, to: str = "leaky_relu", *, layers: Iterable[str]) -> Model:
    """Give layers another activation function; kernels keep their values.

    Parameters
    ----------
    model : keras.Model
    to : str, default "leaky_relu"
        One of Keras' own.
    layers : iterable of str
        Names of layers with an `activation`, or of activation layers.

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If Keras has no such activation, or the model no such layer.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu", name="hidden")])
    >>> swap_activation(model, "gelu", layers=["hidden"]).get_layer("hidden").activation.__name__
    'gelu'
    """
    names = _checked(model, layers)
    try:
        function = keras.activations.get(to)
    except ValueError as error:
        raise InvalidArgument(f"Keras has no activation {to!r}. Try one of {ACTIVATIONS}.") from error

    def change(layer: Layer) -> Layer:
        return _with_activation(layer, function) if layer.name in names else layer

    return rebuilt(model, change)


def reinitialise(model: Model, *, layers: Iterable[str], kernel: str | None = None, seed: int = 0) -> Model:
    """Draw the weights of layers anew: kernels at random, biases and betas 0, gammas 1.

    Parameters
    ----------
    model : keras.Model
    layers : iterable of str
        Their names.
    kernel : str, optional
        Name of a Keras initialiser. Default: "glorot_uniform" before sigmoid, tanh and softmax,
        "lecun_normal" before selu, else "he_normal"; "orthogonal" for recurrent kernels.
    seed : int, default 0

    Returns
    -------
    keras.Model

    Notes
    -----
    He et al. (2015): Var(w) = 2/fan_in keeps a signal's size through ReLUs. Glorot & Bengio (2010):
    2/(fan_in + fan_out) for functions with slope 1 at 0. Klambauer et al. (2017): 1/fan_in for SELU.
    """
    names = _checked(model, layers)
    new = rebuilt(model)
    for layer in layers_named(new, names):
        for variable in layer.trainable_variables or layer.variables:
            draw = keras.initializers.get(_start_of(layer, variable, kernel))
            draw = type(draw).from_config(_reseeded(draw.get_config(), seed))
            variable.assign(draw(variable.shape, dtype=variable.dtype))
            seed += 1
    return new


def reinitialise_units(model: Model, units: Mapping[str, Any], *, seed: int = 0) -> Model:
    """Draw the incoming weights of some units of layers anew, and set their biases to 0.

    Parameters
    ----------
    model : keras.Model
    units : mapping of str to bool array of shape (j,)
        By the layer's name, which of its units: ``{"hidden": report.units("hidden")["dead"]}``.
    seed : int, default 0

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If there is no such layer, or it has another number of units.

    Notes
    -----
    What others learnt stays: ReDo (Sokar et al. 2023) recycles dormant units so.
    """
    _checked(model, units)
    fresh = reinitialise(model, layers=units, seed=seed)
    new = rebuilt(model)
    for name, mask in units.items():
        mask = np.asarray(mask, bool)
        for own, drawn in zip(layers_named(new, [name]), layers_named(fresh, [name]), strict=True):
            for variable, other in zip(own.trainable_variables, drawn.trainable_variables, strict=True):
                if variable.shape[-1] != mask.size:
                    raise InvalidArgument(
                        f"{variable.path} has {variable.shape[-1]} units in its last axis. Received a mask "
                        f"of {mask.size}. Use `reinitialise` for layers whose weights have other axes."
                    )
                variable.assign(np.where(mask, np.asarray(other), np.asarray(variable)))
    return new


def insert_normalisation(model: Model, kind: str = "batch", *, layers: Iterable[str]) -> Model:
    """Normalise the preactivations of layers: kernel, normalisation, activation.

    Parameters
    ----------
    model : keras.Model
    kind : {"batch", "layer"}, default "batch"
        `BatchNormalization` or `LayerNormalization`, over the last axis (the channels).
    layers : iterable of str
        Names of layers with a kernel.

    Returns
    -------
    keras.Model
        Each of these layers is now a block: itself without its activation, the normalisation, and the
        activation. Gammas are 1, betas 0.

    Notes
    -----
    Ioffe & Szegedy (2015), Ba et al. (2016): whatever the kernel's scale and the bias, preactivations
    have mean 0 and variance 1 at first, where ReLUs are half on and tanh is steep.
    """
    if kind not in _NORMALISATIONS:
        raise InvalidArgument(f"`kind` must be one of {tuple(_NORMALISATIONS)}. Received: {kind!r}.")
    names = _checked(model, layers)

    def change(layer: Layer) -> Layer:
        if layer.name not in names:
            return layer
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
        normalise = _NORMALISATIONS[kind](axis=axis, name=f"{layer.name}_normalised")
        given = getattr(layer, "activation", None)
        if given is None or given is keras.activations.linear:
            return keras.Sequential([layer, normalise], name=f"{layer.name}_block")
        activation = keras.layers.Activation(given, name=f"{layer.name}_activation")
        linear = _with_activation(layer, "linear")
        return keras.Sequential([linear, normalise, activation], name=f"{layer.name}_block")

    return rebuilt(model, change)


def wrap_residual(model: Model, *, layers: Iterable[str]) -> Model:
    """Add a skip connection around layers whose output has the shape of their input.

    Parameters
    ----------
    model : keras.Model
    layers : iterable of str
        Names; those whose shapes differ are left as they are.

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If there is no such layer, or none of them keeps its shape.
    """
    names = set(keeping_shape(model, _checked(model, layers)))
    if not names:
        raise InvalidArgument(f"None of these layers has an output of its input's shape: {list(layers)}.")
    return rebuilt(
        model, lambda layer: Residual(layer, name=f"{layer.name}_residual") if layer.name in names else layer
    )


def keeping_shape(model: Model, names: Iterable[str]) -> list[str]:
    """Which layers put out what has the shape of what they read."""
    found = []
    for layer in layers_named(model, names):
        try:
            read, made = layer.input.shape, layer.output.shape
        except (AttributeError, ValueError):  # called several times, or not by Keras
            continue
        if read == made:
            found.append(layer.name)
    return found


def fix_head(model: Model) -> Model:
    """Make the last activation and the loss fit each other.

    Returns
    -------
    keras.Model
        One softmax unit becomes a sigmoid, under binary crossentropy if the loss was a crossentropy.
        Where the loss is a crossentropy of probabilities, but the output gives none, the loss takes the
        output as logits (``from_logits=True``). Where it takes logits, or an earlier layer has made
        probabilities, the last activation goes. Under any other loss a bounded output becomes linear.

    Raises
    ------
    InvalidArgument
        If the model has several outputs, its last layer no activation, or nothing is to be fixed.
    """
    if len(model.outputs) != 1:
        raise InvalidArgument(f"`fix_head` takes models with one output. Received {len(model.outputs)}.")
    last = _last_layer(model)
    if not isinstance(last, keras.Layer):
        raise InvalidArgument(
            f"`fix_head` changes the layer that makes the output. Received a model whose output an "
            f"operation makes ({last.name})."
        )
    before = _activation_before(model, last)
    name, loss, units = _activation_name(last), model.loss, model.output_shape[-1]
    crossentropy = "crossentropy" in _loss_name(loss)
    logits = bool(getattr(loss, "from_logits", False))
    compiled: dict[str, Any] = {}
    if name == "softmax" and units == 1:
        to = "sigmoid"
        compiled = {"loss": "binary_crossentropy"} if crossentropy else {}
    elif name in _PROBABILITIES and (logits or before in _PROBABILITIES):
        to = "linear"
    elif crossentropy and not logits and name not in _PROBABILITIES:
        to, compiled = "linear", {"loss": _with_logits(loss)}
    elif not crossentropy and name != "linear":
        to = "linear"
    else:
        raise InvalidArgument(
            f"The output ({name}) and the loss ({_loss_name(loss)}) fit each other already."
        )
    return rebuilt(model, _head_with(last, to), **compiled)


_PROBABILITIES = ("sigmoid", "softmax")


def _head_with(last: Layer, to: str) -> Change:
    changed = last.name if _activation_name(last) != to else None
    return lambda layer: _with_activation(layer, to) if layer.name == changed else layer


def clip_gradients(model: Model, norm: float = 1.0) -> Model:
    """Scale gradients down to a global norm, where theirs is larger (Pascanu et al. 2013)."""
    return _with_optimizer(model, clipnorm=None, clipvalue=None, global_clipnorm=norm)


def lower_learning_rate(model: Model, by: float = 10.0) -> Model:
    """Divide the optimizer's learning rate, which must be a number, no schedule."""
    return _with_optimizer(model, learning_rate=_learning_rate(model) / by)


def warm_up(model: Model, steps: int = 100) -> Model:
    """Let the learning rate grow from 0 to its value over the first steps (Goyal et al. 2017)."""
    rate = _learning_rate(model)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, steps, end_learning_rate=rate)
    return _with_optimizer(model, learning_rate=schedule)


def scale_loss(model: Model) -> Model:
    """Scale the loss before the gradient is taken, so that half precision does not flush it to zero.

    Keras' `LossScaleOptimizer` finds the scale and takes it back (Micikevicius et al. 2018).
    """
    optimizer = _optimizer_of(model)
    inner = type(optimizer).from_config(optimizer.get_config())
    return rebuilt(model, optimizer=keras.optimizers.LossScaleOptimizer(inner))


def unfreeze(model: Model, *, layers: Iterable[str]) -> Model:
    """Train layers that were frozen."""
    names = _checked(model, layers)

    def change(layer: Layer) -> Layer:
        layer.trainable = layer.trainable or layer.name in names
        return layer

    return rebuilt(model, change)


# ---- what they share -----------------------------------------------------------------------------


def _checked(model: Model, names: Iterable[str]) -> set[str]:
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


def _with_activation(layer: Layer, to: Any) -> Layer:
    """A fresh layer, given another activation before anything is built from it."""
    if isinstance(layer, keras.layers.Softmax):
        return ActivationInPlaceOfSoftmax(to, name=layer.name)
    if isinstance(layer, _ACTIVATION_LAYERS):
        return keras.layers.Activation(to, name=layer.name)
    if not hasattr(layer, "activation") or isinstance(layer, keras.layers.RNN):
        raise InvalidArgument(
            f"{layer.name!r} ({type(layer).__name__}) has no activation of its own that could be changed."
        )
    layer.activation = keras.activations.get(to)
    return layer


def _activation_name(layer: Layer) -> str:
    """Name of the activation that a layer has or is; "linear" for none."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, _ACTIVATION_LAYERS[1:]):
        return str(type(layer).__name__).lower()
    given = getattr(layer, "activation", None)
    return "linear" if given is None else str(getattr(given, "__name__", type(given).__name__))


def _last_layer(model: Model) -> Layer:
    """The layer that makes the model's only output, inside of nested models too."""
    last = maker_of(model.outputs[0])
    return _last_layer(last) if hasattr(last, "outputs") else last


def _activation_before(model: Model, last: Layer) -> str:
    """Name of the activation of what the last layer reads, if that is all it does."""
    if not isinstance(last, (*_ACTIVATION_LAYERS, keras.layers.Softmax)):
        return "linear"
    before = maker_of(last.input)
    return _activation_name(before)


def _loss_name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name)


_LOSSES = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}


def _with_logits(loss: Any) -> Any:
    """A crossentropy that takes logits."""
    if isinstance(loss, keras.losses.Loss):
        return type(loss).from_config({**loss.get_config(), "from_logits": True})
    name = _loss_name(loss)
    if name not in _LOSSES:
        raise InvalidArgument(f"`fix_head` knows the losses {tuple(_LOSSES)}. Received: {loss!r}.")
    return _LOSSES[name](from_logits=True)


def _learning_rate(model: Model) -> float:
    rate = updating_optimizer(_optimizer_of(model)).get_config().get("learning_rate")
    if not isinstance(rate, (int, float, np.floating)):
        raise InvalidArgument(f"The learning rate is a schedule: change that. Received: {rate!r}.")
    return float(rate)


def _with_optimizer(model: Model, **config: Any) -> Model:
    optimizer = _optimizer_of(model)
    inner = updating_optimizer(optimizer)
    changed = type(inner).from_config({**inner.get_config(), **config})
    if inner is not optimizer:
        serialised = keras.optimizers.serialize(changed)
        changed = type(optimizer).from_config({**optimizer.get_config(), "inner_optimizer": serialised})
    return rebuilt(model, optimizer=changed)


def _optimizer_of(model: Model) -> Any:
    if not model.compiled:
        raise ModelNotReady("The model is not compiled: it has no optimizer to change.")
    return model.optimizer


def _start_of(layer: Layer, variable: Any, kernel: str | None) -> str:
    name = variable.path.rsplit("/", 1)[-1]
    if name.endswith("gamma"):
        return "ones"
    if name.endswith(("bias", "beta", "alpha")) or len(variable.shape) < 2:
        return "zeros"
    if name.endswith("embeddings"):
        return "uniform"
    if name.endswith("recurrent_kernel"):
        return "orthogonal"
    return kernel or _usual_start(_activation_name(layer))


def _usual_start(activation: str) -> str:
    if activation in ("sigmoid", "tanh", "softmax", "hard_sigmoid", "softsign"):
        return "glorot_uniform"
    return "lecun_normal" if activation == "selu" else "he_normal"


def _reseeded(config: dict[str, Any], seed: int) -> dict[str, Any]:
    return {**config, "seed": seed} if "seed" in config else config
