"""The table of an embedding: which row a position takes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from trainobs.linear_ops._base import LinearOp, Shape
from trainobs.tensors import tf


@dataclasses.dataclass(frozen=True)
class LookupOp(LinearOp):
    """``Z[n, …, j] = table[input[n, …], j]``: a row's terms are the positions that look it up.

    Arrays shaped like the table have only the rows that were looked up; `rows_of` numbers them.

    Parameters
    ----------
    rows : int
        Number of rows of the whole table.
    """

    rows: int
    constant_input: ClassVar[bool] = True

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.gather(kernel, input)

    def healthy_weight(self, kernel_shape: Shape) -> float:
        return float("nan")

    @staticmethod
    def rows_of(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are looked up, in order, and the input with their places in that list."""
        rows, places = np.unique(ids, return_inverse=True)
        return rows, places.reshape(ids.shape)
