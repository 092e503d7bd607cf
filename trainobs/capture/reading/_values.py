"""What stands in a plan where values go, and the values of one executed step that go there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import tensorflow as tf

from trainobs.records import Rows, Scalars
from trainobs.tensors import as_array

Array = np.ndarray
Value = TypeVar("Value", covariant=True)


class Read(Protocol[Value]):
    """Anything that a plan holds in place of a value."""

    def of(self, values: StepValues) -> Value:
        """The value, of one step."""


@dataclasses.dataclass(frozen=True)
class TensorRead:
    """The step's tensor of that position.

    It is taken times `factor`, and without the scale that mixed precision puts on the loss if it is
    `scaled`.
    """

    position: int
    factor: float = 1.0
    scaled: bool = False

    def of(self, values: StepValues) -> Array:
        return values.tensor(self)


@dataclasses.dataclass(frozen=True)
class RowsRead:
    """A gradient of some rows of a table: values, and the rows they belong to."""

    values: TensorRead
    rows: TensorRead

    def of(self, values: StepValues) -> Rows:
        return Rows.summed(values.tensor(self.rows), values.tensor(self.values))


@dataclasses.dataclass(frozen=True)
class ProductRead:
    """The product of some tensors."""

    factors: tuple[TensorRead, ...]

    def of(self, values: StepValues) -> Array:
        return functools.reduce(np.multiply, map(values.tensor, self.factors))


@dataclasses.dataclass(frozen=True)
class SumsRead:
    """Four sums over a tensor that is not read itself (see `records.Scalars`)."""

    sums: TensorRead
    factor: float
    scaled: bool

    def of(self, values: StepValues) -> Scalars:
        square_sum, *rest = map(float, values.tensor(self.sums))
        factor = self.factor * (values.unscale if self.scaled else 1.0)
        return Scalars(factor**2 * square_sum, *rest)


class StepValues:
    """What a step returned; what is not held as it came is made once.

    Parameters
    ----------
    returned : sequence of tensors
        In the order of their positions.
    loss_scale : TensorRead or None
        What the loss was scaled with.
    """

    def __init__(self, returned: Sequence[tf.Tensor], loss_scale: TensorRead | None) -> None:
        self._returned = [as_array(tensor) for tensor in returned]
        self._made: dict[TensorRead, Array] = {}
        self.unscale = 1.0 if loss_scale is None else 1.0 / float(self.tensor(loss_scale))

    def tensor(self, read: TensorRead) -> Array:
        """The values of a tensor."""
        array = self._returned[read.position]
        if read.factor == 1 and not read.scaled:
            return array
        if read not in self._made:
            product = array if read.factor == 1 else array * read.factor  # rounded as the step's was
            self._made[read] = np.asarray(product, np.float32) * self.unscale if read.scaled else product
        return self._made[read]

    def of(self, read: Read[Value] | None) -> Value | None:
        """What goes in place of a read; None for None."""
        return None if read is None else read.of(self)
