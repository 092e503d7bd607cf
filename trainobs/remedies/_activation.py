"""Another activation function, and what activation a layer has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import keras

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, rebuilt
from trainobs.remedies._treatment import Treatment, listed

#: Activations that pass some gradient at negative inputs, in the order they are tried.
ACTIVATIONS = ("leaky_relu", "elu", "gelu", "silu", "mish", "selu")
_NAMED_BY_THEIR_CLASS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU)
_ACTIVATION_LAYERS = (keras.layers.Activation, *_NAMED_BY_THEIR_CLASS)


class SwapActivation(Remedy):
    """Gives the layers another activation function, one that passes some gradient everywhere."""

    name = "swap activation"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """Each activation in turn."""
        names = situation.activations()
        if names and not situation.is_recurrent():
            for to in ACTIVATIONS:
                changes = f"Gives {listed(names)} the activation {to}."
                yield Treatment.of_model(
                    mechanism, f"{self.name} ({to})", changes, swap_activation, to, layers=names
                )


def swap_activation(model: keras.Model, to: str = "leaky_relu", *, layers: Iterable[str]) -> keras.Model:
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
    names = checked_names(model, layers)
    try:
        function = keras.activations.get(to)
    except ValueError as error:
        raise InvalidArgument(f"Keras has no activation {to!r}. Try one of {ACTIVATIONS}.") from error

    def change(layer: keras.Layer) -> keras.Layer:
        return with_activation(layer, function) if layer.name in names else layer

    return rebuilt(model, change)


@keras.saving.register_keras_serializable(package="trainobs")
class ActivationInPlaceOfSoftmax(keras.layers.Activation):
    """An activation that is called as a `Softmax` layer is, with a mask, which it does not need."""

    def call(self, inputs: keras.KerasTensor, mask: object = None) -> keras.KerasTensor:
        """The activation of the inputs."""
        del mask
        return super().call(inputs)


def with_activation(layer: keras.Layer, to: str | Callable[..., object]) -> keras.Layer:
    """A fresh layer, given another activation before anything is built from it."""
    if isinstance(layer, keras.layers.Softmax):
        return ActivationInPlaceOfSoftmax(to, name=layer.name)
    if isinstance(layer, _ACTIVATION_LAYERS):
        return keras.layers.Activation(to, name=layer.name)
    # Keras has no type for layers with an activation
    if not hasattr(layer, "activation") or isinstance(layer, keras.layers.RNN):
        raise InvalidArgument(
            f"{layer.name!r} ({type(layer).__name__}) has no activation of its own that could be changed."
        )
    layer.activation = keras.activations.get(to)
    return layer


def activation_name(layer: keras.Layer) -> str:
    """Name of the activation that a layer has or is; "linear" for none."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, _NAMED_BY_THEIR_CLASS):
        return str(type(layer).__name__).lower()
    given = getattr(layer, "activation", None)  # Keras has no type for layers with one
    if given is None:
        return "linear"
    return str(getattr(given, "__name__", type(given).__name__))  # objects with `__call__` have no name


def is_only_an_activation(layer: keras.Layer) -> bool:
    """Whether all that a layer does is its activation."""
    return isinstance(layer, (*_ACTIVATION_LAYERS, keras.layers.Softmax))
