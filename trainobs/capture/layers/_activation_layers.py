"""Which layers are activations: what stands between a kernel and the next layer, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from trainobs.activations import Activation
from trainobs.capture.layers._probing import Function, describe_activation
from trainobs.capture.layers._registry import KINDS, check_layer_class
from trainobs.errors import InvalidArgument


class ActivationLayer(NamedTuple):
    """What is known of a class of activation layers: its name, and the function that such a layer applies."""

    name: str
    function: Callable[[keras.Layer], Function]


class Probed(NamedTuple):
    """An activation function: what it does to a gradient, and itself."""

    activation: Activation
    function: Function


def _own_call(layer: keras.Layer) -> Function:
    return layer.call


ACTIVATION_LAYERS: dict[type[keras.Layer], ActivationLayer] = {
    keras.layers.Activation: ActivationLayer("", lambda layer: layer.activation),
    keras.layers.ReLU: ActivationLayer("relu", _own_call),
    keras.layers.LeakyReLU: ActivationLayer("leaky_relu", _own_call),
    keras.layers.ELU: ActivationLayer("elu", _own_call),
    keras.layers.Softmax: ActivationLayer("softmax", _own_call),
}


def register_activation_layer(
    layer_class: type[keras.Layer], function: Callable[[keras.Layer], Function] | None = None
) -> None:
    """Tell trainobs that the layers of a class are activations.

    Such a layer has no weights and applies one function to each element. Where it stands right behind a
    layer with a kernel, it is that layer's activation: its slope and its range are probed, units it keeps
    near zero are found, and likelihoods are attributed to it.

    Parameters
    ----------
    layer_class : type
        A subclass of `keras.Layer`; its own subclasses are activations too.
    function : callable, optional
        Given a layer of the class, the function that it applies to a tensor. Default: its `call`.

    Raises
    ------
    InvalidArgument
        If `layer_class` is no class of layers, or one of layers with weights, or `function` can't be called.

    Examples
    --------
    >>> import keras
    >>> class Snake(keras.Layer):
    ...     def call(self, x):
    ...         return x + keras.ops.sin(x) ** 2
    >>> register_activation_layer(Snake)
    """
    check_layer_class(layer_class, "An activation layer")
    if any(cls in KINDS for cls in layer_class.__mro__):
        raise InvalidArgument(
            f"{layer_class.__name__} has weights, so it is no activation layer: those apply one function and "
            f"learn nothing. To say what its weights meet, use `register_layer_kind`."
        )
    if function is not None and not callable(function):
        raise InvalidArgument(
            f"`function` must be callable: given a layer of {layer_class.__name__}, it returns the function "
            f"that the layer applies. Received: {function!r}. Leave it out if that is the layer's `call`."
        )
    ACTIVATION_LAYERS[layer_class] = ActivationLayer(layer_class.__name__, function or _own_call)


def is_activation(layer: keras.Operation) -> bool:
    """Whether the layer is a weightless activation function."""
    return isinstance(layer, tuple(ACTIVATION_LAYERS))


def activation_of(layer: keras.Layer) -> Probed:
    """The activation of an activation layer or of a layer with a kernel; not to be called inside a graph."""
    known = _known(layer)
    function = (layer.activation if known is None else known.function(layer)) or keras.activations.linear
    name = known.name if known is not None else ""
    return Probed(describe_activation(function, layer.name, name), function)


def _known(layer: keras.Layer) -> ActivationLayer | None:
    """What is known of an activation layer: of the class that is closest to its own."""
    classes = (cls for cls in type(layer).__mro__ if cls in ACTIVATION_LAYERS)
    return next((ACTIVATION_LAYERS[cls] for cls in classes), None)
