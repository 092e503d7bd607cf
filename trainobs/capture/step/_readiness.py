"""Whether a model can be captured, said before anything is traced."""

from __future__ import annotations

import keras

from trainobs.capture._keras_internals import all_layers
from trainobs.errors import InvalidArgument, ModelNotReady, UnsupportedBackend


def check_backend() -> None:
    """Refuse every Keras backend but TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UnsupportedBackend(
            f"trainobs reads gradients from tf.GradientTape and needs Keras on TensorFlow. "
            f"The active backend is {backend!r}. Set the environment variable "
            f"KERAS_BACKEND=tensorflow before Keras is imported."
        )


def check_model(model: object) -> None:
    """Refuse what is no compiled Keras model with a loss."""
    check_backend()
    if not isinstance(model, keras.Model):
        raise InvalidArgument(
            f"Expected a compiled `keras.Model`. Received: {model!r} (of type {type(model).__name__})."
        )
    if not model.compiled:
        raise ModelNotReady(
            f"The model {model.name!r} is not compiled, so it has no loss to differentiate. "
            f"Call `model.compile(optimizer=…, loss=…)` first."
        )


def check_weights(model: keras.Model) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Refuse a built model in which there is no weight to explain.

    Returns
    -------
    dict of str to (str, tuple of str)
        By path: name and classes of every layer with weights.
    """
    layers = [*all_layers(model), model]
    found = {layer.path: (layer.name, _bases(layer)) for layer in layers if layer.weights}
    if not found:
        kinds = sorted({type(layer).__name__ for layer in layers[:-1]})
        raise ModelNotReady(
            f"The model {model.name!r} has no weights, so it has no gradients to explain. "
            f"Its layers are: {', '.join(kinds) or 'none'}."
        )
    return found


def check_input_shape(model: keras.Model, x: object) -> None:
    """Refuse a batch that does not fit the inputs a functional model was built for, but for its size.

    A Sequential without an `Input` notes the size of the first batch it gets, and takes any other one.
    """
    expected = getattr(model, "inputs", None) or []
    received = keras.tree.flatten(x)
    if len(expected) != len(received):
        return  # Keras maps structures by name; it says itself what does not fit
    for spec, array in zip(expected, received, strict=True):
        shape = tuple(array.shape)
        given, wanted = _squeezed(shape, len(spec.shape)), _squeezed(spec.shape, len(shape))
        pairs = zip(wanted[1:], given[1:], strict=False)
        if len(given) != len(wanted) or not all(size in (None, found) for size, found in pairs):
            raise InvalidArgument(
                f"The input {spec.name!r} has the wrong shape. Expected {(None, *spec.shape[1:])} "
                f"(None: any). Received {shape}."
            )


def _squeezed(shape: tuple[int | None, ...], rank: int) -> tuple[int | None, ...]:
    """A shape of one axis too many without its last, if that is 1: Keras adds and drops it."""
    return shape[:-1] if len(shape) == rank + 1 and shape[-1] == 1 else shape


def _bases(layer: keras.Layer) -> tuple[str, ...]:
    return tuple(base.__name__ for base in type(layer).__mro__)
