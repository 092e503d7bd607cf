"""How much memory a table takes, and a guard that refuses one that takes too much."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from trainobs.errors import InvalidArgument
from trainobs.similarity._checks import KINDS, checked_kind, compute_dtype

#: Of tables, unless told otherwise.
GIB = 2**30


def table_bytes(
    kind: str, sets: int, batch: int, width: int, *, dtype: str = "float32", loss: bool = False
) -> int:
    """Memory that a table and its intermediates take, in bytes.

    Parameters
    ----------
    kind : {"norm", "einsum", "cosine", "distance"}
        The measure.
    sets, batch, width : int
        n, B and d.
    dtype : str, default "float32"
        Of the features; half precision counts as float32, in which it is computed.
    loss : bool, default False
        Count what `contrastive_loss` and its gradient need, instead of the table alone.

    Returns
    -------
    int
        The bytes, an upper estimate for eager execution; XLA needs less where it fuses.

    Raises
    ------
    InvalidArgument
        There is no such kind.

    Notes
    -----
    In elements, first without and then with the loss and its gradient:

    * tables, B^n each: 2 (a sum and its addend; "einsum" 1), with the loss 9;
    * rows, n·B·d: 2, with the loss 9; "distance", which has them in float64 too, twice that;
    * pair tables, n(n − 1)/2 of B² each: 1 in "norm", 3 in "cosine", 8 in "distance"; with the loss 3
      times as many;
    * products in "einsum", of the first ⌈n/2⌉ and the last ⌊n/2⌋ sets: ``Σ_h B^h d`` from h = 2 on for
      either; with the loss 4 times as many.

    The factors were measured on a CPU as growth of the process.

    Examples
    --------
    >>> table_bytes("norm", sets=6, batch=32, width=512) // 2**30
    8
    """
    checked_kind(kind)
    size = np.dtype(compute_dtype(dtype)).itemsize
    tables = 9 if loss else 1 if kind == "einsum" else 2
    rows = (9 if loss else 2) * (2 if kind == "distance" else 1)
    pairs = {"einsum": 0, "norm": 1, "cosine": 3, "distance": 8}[kind] * (3 if loss else 1)
    total = tables * batch**sets + rows * sets * batch * width + pairs * math.comb(sets, 2) * batch**2
    if kind == "einsum":
        factors = [*range(2, sets - sets // 2 + 1), *range(2, sets // 2 + 1)]
        total += (4 if loss else 1) * sum(batch**h * width for h in factors)
    return size * total


def within_memory(
    owner: str, sets: list[tf.Tensor], kind: str, max_bytes: int, loss: bool = False
) -> list[tf.Tensor]:
    """The sets, if their table fits; if the batch size is known at run time only, behind an assertion."""
    checked_kind(kind)
    batches = [ops.shape(rows)[0] for rows in sets]
    known = [batch for batch in batches if isinstance(batch, int)]
    unknown = [batch for batch in batches if tf.is_tensor(batch)]
    width = next(rows.shape[1] for rows in sets if rows.shape[1] is not None)
    need = _Need(owner, kind, len(sets), width, keras.backend.standardize_dtype(sets[0].dtype), loss)
    if known and need.bytes(known[0]) > max_bytes:
        raise InvalidArgument(need.message(known[0], max_bytes))
    if not unknown:
        return sets
    text = need.message(None, max_bytes)
    checks = [tf.debugging.assert_less_equal(b, need.largest(max_bytes), message=text) for b in unknown]
    same = f"{owner}: all features must have one batch size."
    checks += [tf.debugging.assert_equal(b, batches[0], message=same) for b in batches]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return [tf.identity(rows) for rows in sets]


@dataclasses.dataclass(frozen=True)
class _Need:
    """The memory of one call, as a function of the batch size."""

    owner: str
    kind: str
    sets: int
    width: int
    dtype: str
    loss: bool

    def bytes(self, batch: int, kind: str | None = None) -> int:
        """Bytes of a batch, also for another kind."""
        return table_bytes(kind or self.kind, self.sets, batch, self.width, dtype=self.dtype, loss=self.loss)

    def largest(self, max_bytes: int, kind: str | None = None) -> int:
        """The largest batch that fits, 0 if none does; by bisection, as the bytes grow with the batch."""
        batch = 0
        for power in reversed(range(31)):
            if self.bytes(batch + 2**power, kind) <= max_bytes:
                batch += 2**power
        return batch

    def message(self, batch: int | None, max_bytes: int) -> str:
        """What does not fit, and what would."""
        size = f"B={batch} needs {self.bytes(batch):,} bytes" if batch else "B known at run time only"
        fits = {kind: self.largest(max_bytes, kind) for kind in KINDS}
        here = [kind for kind in KINDS if batch and fits[kind] >= batch]
        other = f"At this B kind={' or '.join(map(repr, here))} fits. " if here else ""
        sizes = ", ".join(f"{kind} {most}" for kind, most in fits.items())
        return (
            f"{self.owner}: kind={self.kind!r} with n={self.sets}, d={self.width}, {size}; "
            f"max_bytes is {max_bytes:,}. {other}Largest B that fits for this n: {sizes}. "
            "Take fewer samples or sets, or raise `max_bytes`."
        )
