"""Data of any kind as an iterable of batches ``(x, y, sample_weight)``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from trainobs.errors import InvalidArgument

#: Arrays in any structure, nested lists and dicts, as Keras takes them.
Arrays = object
Batch = tuple[Arrays, Arrays, Arrays]


class Batches:
    """Batches with, where it is known, their number.

    Parameters
    ----------
    x : array or structure of arrays, `tf.data.Dataset`, `keras.utils.PyDataset` or generator
    y : array or structure of arrays, optional
    batch_size : int
        For arrays.
    """

    def __init__(self, x: Arrays, y: Arrays, batch_size: int) -> None:
        self._x, self._y, self._batch_size = x, y, batch_size
        self._is_arrays = not (isinstance(x, (tf.data.Dataset, keras.utils.PyDataset, Iterator)))
        if self._is_arrays:
            self.length: int | None = math.ceil(_samples(x, y) / batch_size)
        else:
            self.length = _dataset_length(x, y)

    def __iter__(self) -> Iterator[Batch]:
        return self._slices() if self._is_arrays else self._unpacked()

    def _slices(self) -> Iterator[Batch]:
        for start in range(0, _samples(self._x, self._y), self._batch_size):
            window = slice(start, start + self._batch_size)
            yield _cut(self._x, window), _cut(self._y, window), None

    def _unpacked(self) -> Iterator[Batch]:
        for batch in self._batches():
            yield keras.utils.unpack_x_y_sample_weight(batch)

    def _batches(self) -> Iterable[object]:
        if isinstance(self._x, keras.utils.PyDataset):
            return (self._x[index] for index in range(self.length or 0))
        assert isinstance(self._x, Iterable)
        return self._x


def _cut(arrays: Arrays, window: slice) -> Arrays:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[window], arrays)


def _samples(x: Arrays, y: Arrays) -> int:
    lengths = {
        int(np.shape(leaf)[0]) for leaf in keras.tree.flatten((x, y)) if leaf is not None and np.ndim(leaf)
    }
    if len(lengths) != 1:
        raise InvalidArgument(
            f"x and y must be arrays of the same length. Received lengths {sorted(lengths)}. "
            f"Cut them to the same samples."
        )
    (length,) = lengths
    if length == 0:
        raise InvalidArgument("The data is empty: x has length 0. Pass at least one sample.")
    return length


def _dataset_length(x: Arrays, y: Arrays) -> int | None:
    if y is not None:
        raise InvalidArgument("A dataset has its own targets: call without `y`. Received both.")
    if isinstance(x, tf.data.Dataset):
        length = int(x.cardinality())
        if length == tf.data.INFINITE_CARDINALITY:
            raise InvalidArgument("The dataset never ends. Take some batches of it: `dataset.take(100)`.")
        return None if length < 0 else length
    if isinstance(x, keras.utils.PyDataset):
        return len(x)
    return None
