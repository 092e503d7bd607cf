"""Sums over one tensor."""

from __future__ import annotations

import dataclasses

import numpy as np

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Scalars:
    """Sums over one tensor: enough for its root mean square, zero fraction and health."""

    square_sum: float
    zeros: float
    non_finite: float
    size: float

    @property
    def rms(self) -> float:
        """Root mean square of the elements; nan for an empty tensor."""
        return float(np.sqrt(self.square_sum / self.size)) if self.size else float("nan")

    @property
    def zero_fraction(self) -> float:
        """Fraction of elements that are exactly 0."""
        return self.zeros / self.size if self.size else float("nan")

    def __add__(self, other: Scalars) -> Scalars:
        return Scalars(
            *(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )


def scalars_of(values: Array | None) -> Scalars | None:
    """`sums_of` an array; None for None."""
    return None if values is None else sums_of(values)


def sums_of(values: Array) -> Scalars:
    """The sums over an array, in float64 where float32 would lose squares."""
    flat, size = values.reshape(-1), values.size
    with np.errstate(over="ignore"):
        square_sum, non_finite = float(np.dot(flat, flat)) if values.dtype == np.float32 else 0.0, 0
    if not _SAFE_SQUARES[0] < square_sum < _SAFE_SQUARES[1]:  # or float32 lost the squares
        square_sum = float(np.einsum("i,i->", flat, flat, dtype=np.float64))
        non_finite = size - int(np.count_nonzero(np.isfinite(flat)))
    return Scalars(square_sum, float(np.count_nonzero(flat == 0)), float(non_finite), float(size))


#: A sum of squares in this range had none that overflowed, and loses none that count.
_SAFE_SQUARES = (1e-25, 1e30)
