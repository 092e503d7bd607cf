"""What a case is: a model, its data, and what is wrong with it, known because we did it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

SAMPLES = 256  # that are explained, unless a case says more

Finding = tuple[str, str]  # cause, layer


@dataclasses.dataclass
class Planted:
    """A model with a fault, or without one.

    Attributes
    ----------
    model : keras.Model
    x, y : array or structure of arrays
    faults : tuple of (cause, layer)
        What has to be found; nothing in a healthy model.
    consequences : frozenset of (cause, layer)
        What else is true of it, and may be found too.
    fit : dict
        Arguments of `fit` besides; then a recorded step is explained instead of the batch.
    samples : int
        How many are explained.
    """

    model: keras.Model
    x: Any
    y: Any
    faults: tuple[Finding, ...] = ()
    consequences: frozenset[Finding] = frozenset()
    fit: dict[str, Any] | None = None
    samples: int = SAMPLES


@dataclasses.dataclass(frozen=True)
class Case:
    """A named way to plant a fault; `fault` is "healthy" if there is none."""

    fault: str
    network: str
    make: Callable[[], Planted]

    @property
    def name(self) -> str:
        """Fault and network."""
        return f"{self.fault}: {self.network}"


def fitted(model: keras.Model, x: Any, y: Any, epochs: int = 2, **options: Any) -> keras.Model:
    """The model, trained for some epochs."""
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, **options)
    return model


def shift_bias(model: keras.Model, name: str, by: float, part: float = 1.0) -> None:
    """Add to (the first) biases of a layer, or of the normalisation behind it."""
    layer = model.get_layer(name)
    bias = layer.bias if getattr(layer, "bias", None) is not None else _normalisation_of(model, name).beta
    values = bias.numpy()
    values[: round(part * values.size)] += by
    bias.assign(values)


def _normalisation_of(model: keras.Model, name: str) -> Any:
    return model.get_layer(name.replace("h", "norm"))


def scale_kernel(model: keras.Model, name: str, by: float) -> None:
    """Multiply the kernel of a layer."""
    kernel = model.get_layer(name).kernel
    kernel.assign(by * kernel)


def set_kernel(model: keras.Model, name: str, value: float) -> None:
    """Make all elements of a kernel the same."""
    kernel = model.get_layer(name).kernel
    kernel.assign(np.full(kernel.shape, value, "float32"))


def activity(model: keras.Model, name: str, x: Any) -> np.ndarray:
    """What a layer puts out, as (positions, units), computed by Keras alone."""
    layer = model.get_layer(name)
    values = keras.Model(model.input, layer.output).predict(x, verbose=0)
    return np.asarray(values).reshape(-1, values.shape[-1])
