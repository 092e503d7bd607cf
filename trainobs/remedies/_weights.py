"""What the weights of a layer are called, and which part of them belongs to some units."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from trainobs.errors import InvalidArgument


def own_name(variable: keras.Variable) -> str:
    """A variable's name without its layer's."""
    return str(variable.path).rsplit("/", 1)[-1]


def shifts_of(layer: keras.Layer) -> Iterator[keras.Variable]:
    """A layer's biases and betas."""
    return (variable for variable in layer.variables if own_name(variable).endswith(("bias", "beta")))


def units_of(variable: keras.Variable, mask: np.ndarray) -> np.ndarray:
    """Which units of a variable's last axis are meant.

    Raises
    ------
    InvalidArgument
        If it has another number of units.
    """
    units = np.asarray(mask, bool)
    if variable.shape[-1] != units.size:
        raise InvalidArgument(
            f"{variable.path} has a last axis of size {variable.shape[-1]}. Received a mask of size "
            f"{units.size}. Use `reinitialise` for layers whose weights have other axes."
        )
    return units
