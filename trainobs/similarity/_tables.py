"""The table of similarities of n samples, one from each of n sets, in four kinds."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from trainobs.errors import InvalidArgument
from trainobs.similarity._checks import checked_eps, checked_features
from trainobs.similarity._memory import GIB, within_memory

if TYPE_CHECKING:
    import tensorflow as tf


def similarity_table(
    features: Sequence[tf.Tensor | np.ndarray],
    kind: str = "norm",
    *,
    normalize: bool = True,
    eps: float | None = None,
    max_bytes: int = GIB,
) -> tf.Tensor:
    """The similarity of every combination of samples, one from each of n sets.

    Parameters
    ----------
    features : sequence of n >= 2 tensors (B, d)
        Floats, all of one shape. Row i of every set belongs to the same thing.
    kind : {"norm", "einsum", "cosine", "distance"}, default "norm"
        The measure; see Notes.
    normalize : bool, default True
        Divide each row by its norm first. False takes the rows as they are (then products of large entries
        overflow as they do in any product); the kind "cosine" needs True.
    eps : float, optional
        Floor of the norms; floor of (1 + cosine)/2 in "cosine"; rounding of the distance at 0 in "distance".
        Default 1e-6; 1e-3 for float16, so that gradients up to 1/eps stay below its largest number, 65504.
    max_bytes : int, default 2**30
        Largest memory that table and intermediates (`table_bytes`) may take.

    Returns
    -------
    tensor (B,)*n
        The table, in the features' dtype. Half precision is computed in float32 and cast back.

    Raises
    ------
    InvalidArgument
        An argument cannot work, or the table needs more than `max_bytes`: the message says how much, and
        which batch size and kinds fit.

    Notes
    -----
    With m = n(n − 1)/2 pairs k < l and cosines C_kl[i, j] = u_k[i] · u_l[j]:

    * "einsum": ``sum over d of prod over k of u_k[i_k, d]``. In [−1, 1]; for vectors whose entries are
      all of size 1/√d it is of size d^(1 − n/2), so choose the temperature accordingly. No factor undoes
      this, as one-hot vectors have products of size 1.
    * "norm": ``(‖Σ u_k‖² − Σ ‖u_k‖²) / (n(n − 1))``, which is the mean of the C_kl of the m pairs and is
      computed as such. In [−1/(n − 1), 1].
    * "cosine": geometric mean of p = max((1 + C_kl)/2, eps) over the pairs, as exp of the mean log p. In
      [eps, 1].
    * "distance": minus the mean over the pairs of ``sqrt(q + eps²) − eps``, q = ‖u_k[i] − u_l[j]‖²: the
      Euclidean distance up to eps, 0 and with gradient 0 at equal vectors. q = ‖u‖² + ‖v‖² − 2 u·v cancels
      there, so it is computed in float64. In [−2, 0].

    For n = 2, "einsum" and "norm" are the matrix of cosines.

    The norm is taken of x / max|x|: entries of 1e30 do not overflow. A row whose largest entry is below the
    dtype's smallest normal number counts as zero: it becomes a zero row, with gradient 0.

    Where the batch size is unknown while tracing, memory is checked at run time by an assertion that XLA
    (``jit_compile=True``) leaves out; for a symbolic Keras tensor of unknown batch size it is not checked.

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021 (n = 2).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.eye(2, dtype="float32"), np.array([[3, 0], [1, 1]], "float32")
    >>> np.asarray(similarity_table([x, y])).round(2).tolist()
    [[1.0, 0.7099999785423279], [0.0, 0.7099999785423279]]
    >>> similarity_table([x, y, x], "cosine").shape
    TensorShape([2, 2, 2])
    """
    sets, dtype = checked_features("similarity_table", features)
    sets = within_memory("similarity_table", sets, kind, max_bytes)
    return ops.cast(table_of(sets, kind, normalize, checked_eps(eps, dtype)), dtype)


def table_of(sets: list[tf.Tensor], kind: str, normalize: bool, eps: float) -> tf.Tensor:
    """The table (B,)*n in the dtype of `sets`."""
    if kind == "cosine" and not normalize:
        raise InvalidArgument(
            'similarity_table: kind="cosine" is defined for normalised features only. '
            'Received: normalize=False. Leave it at True, or use kind="norm".'
        )
    if normalize:
        sets = [_unit(rows, eps) for rows in sets]
    if kind == "einsum":
        return _sum_of_products(sets)
    pairs = math.comb(len(sets), 2)
    if kind == "norm":
        return _sum_over_pairs(sets, lambda a, b: _dots(a, b) / pairs)
    if kind == "cosine":
        return ops.exp(_sum_over_pairs(sets, lambda a, b: _log_similarity(a, b, eps) / pairs))
    return _sum_over_pairs(sets, lambda a, b: -_distance(a, b, eps) / pairs)


def _unit(rows: tf.Tensor, eps: float) -> tf.Tensor:
    """x / max(‖x‖, eps) per row; zero rows stay zero and pass no gradient.

    The result does not depend on the scale that is divided out first, so no gradient passes through it.
    """
    largest = ops.stop_gradient(ops.max(ops.abs(rows), axis=-1, keepdims=True))
    is_zero = largest < float(np.finfo(keras.backend.standardize_dtype(rows.dtype)).tiny)
    scale = ops.where(is_zero, ops.ones_like(largest), largest)
    # Rows of zeros are replaced before the root, whose slope there is infinite, and again behind it.
    scaled = ops.where(is_zero, ops.ones_like(rows), rows / scale)
    norm = ops.sqrt(ops.sum(ops.square(scaled), axis=-1, keepdims=True))
    return ops.where(is_zero, ops.zeros_like(rows), scaled / ops.maximum(norm, eps / scale))


def _sum_of_products(sets: list[tf.Tensor]) -> tf.Tensor:
    """Σ_d Π_k u_k[i_k, d]: the products of either half of the sets, contracted over d."""
    half, letters = len(sets) - len(sets) // 2, string.ascii_letters[: len(sets)]
    left, right = _products(sets[:half]), _products(sets[half:])
    return ops.einsum(f"{letters[:half]}Z,{letters[half:]}Z->{letters}", left, right)


def _products(sets: list[tf.Tensor]) -> tf.Tensor:
    """Π_k u_k[i_k, d], shape (B, …, B, d)."""
    product = sets[0]
    for rows in sets[1:]:
        product = ops.expand_dims(product, -2) * rows
    return product


def _sum_over_pairs(sets: list[tf.Tensor], pair: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Σ_{k<l} pair(k, l)[i_k, i_l]; each set more adds an axis, so only two arrays have B^n elements."""
    table = pair(sets[0], sets[1])
    for last in range(2, len(sets)):
        with_last = pair(sets[0], sets[last])  # (i_1, …, i_k, i_last)
        for k in range(1, last):
            with_last = ops.expand_dims(with_last, -2) + pair(sets[k], sets[last])
        table = ops.expand_dims(table, -1) + with_last
    return table


def _dots(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a[i] · b[j], shape (B, B)."""
    return ops.matmul(a, ops.transpose(b))


def _log_similarity(a: tf.Tensor, b: tf.Tensor, eps: float) -> tf.Tensor:
    """log of (1 + cosine)/2 in [eps, 1]; the cosine of equal rows may round to more than 1."""
    return ops.log(ops.clip((1 + _dots(a, b)) / 2, eps, 1.0))


def _distance(a: tf.Tensor, b: tf.Tensor, eps: float) -> tf.Tensor:
    """sqrt(q + eps²) − eps, written without the difference; q from dot products in float64."""
    dtype = a.dtype
    a, b = ops.cast(a, "float64"), ops.cast(b, "float64")
    squares = ops.expand_dims(ops.sum(a * a, axis=-1), 1) + ops.sum(b * b, axis=-1)
    q = ops.maximum(squares - 2 * _dots(a, b), 0.0)
    return ops.cast(q / (ops.sqrt(q + eps**2) + eps), dtype)
