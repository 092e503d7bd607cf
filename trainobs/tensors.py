"""Between NumPy's arrays and TensorFlow's tensors, without copies where memory can be shared.

`tf.constant` and `Tensor.numpy` copy; for arrays as large as a batch of activations that takes as long
as summing them. What is shared must not be changed as long as either is in use.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import tensorflow as tf

#: An array of numbers, on either side.
Array: TypeAlias = np.ndarray | tf.Tensor


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
