"""TensorFlow, imported when it is first used, and the way between its tensors and NumPy's arrays.

What records and sums are made of can so be loaded where there is no TensorFlow: only computing with it needs
it. Between tensors and arrays no copy is made where memory can be shared: `tf.constant` and `Tensor.numpy`
copy, which takes as long as summing. What is shared must not be changed as long as either is in use.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, TypeAlias

import numpy as np


class _Later(types.ModuleType):
    """A module that is imported when something of it is first used."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = _Later("tensorflow")

__all__ = ["Array", "as_array", "as_tensor", "tf"]

#: An array of numbers, on either side.
Array: TypeAlias = "np.ndarray | tf.Tensor"


def as_tensor(array: Array) -> tf.Tensor:
    """A tensor of an array's values; it shares the array's memory where TensorFlow can use it as it is."""
    return tf.raw_ops.Identity(input=np.asarray(array))


def as_array(tensor: tf.Tensor) -> np.ndarray:
    """The values of a tensor, read-only where its memory can be shared; bfloat16 as float32."""
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # bfloat16 has no buffer format; GPU memory
        array = tensor.numpy()
        return np.asarray(array, np.float32) if array.dtype.kind == "V" else np.asarray(array)
