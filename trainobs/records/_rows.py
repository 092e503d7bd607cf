"""Gradients of tables: zero but for some rows."""

from __future__ import annotations

import dataclasses

import numpy as np

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A gradient that is zero outside of some rows of a table.

    Attributes
    ----------
    rows : int array of shape (u,)
        Their numbers, each once, in order.
    values : array of shape (u, j)
    """

    rows: Array
    values: Array

    @classmethod
    def summed(cls, rows: Array, values: Array) -> Rows:
        """The sum of a list of rows, in any order, in which one may stand several times."""
        unique, places = np.unique(rows, return_inverse=True)
        total = np.zeros((unique.size, *values.shape[1:]), np.float32)
        np.add.at(total, places.reshape(-1), values)
        return cls(unique, total)

    def at(self, rows: Array) -> Array:
        """The values of these rows; 0 where there are none."""
        values = np.zeros((rows.size, *self.values.shape[1:]), self.values.dtype)
        places = np.searchsorted(self.rows, rows).clip(max=max(self.rows.size - 1, 0))
        held = self.rows[places] == rows if self.rows.size else np.zeros(rows.size, bool)
        values[held] = self.values[places[held]]
        return values

    def dense(self, shape: tuple[int, ...]) -> Array:
        """The whole gradient."""
        whole = np.zeros(shape, self.values.dtype)
        whole[self.rows] = self.values
        return whole
