"""How alike n samples are, one from each of n sets: tables and a contrastive loss that stay finite.

| symbol | shape  | meaning                                                           |
|--------|--------|-------------------------------------------------------------------|
| f_k    | (B, d) | features of set k = 1 … n, B samples                              |
| u_k    | (B, d) | the same, normalised: f / max(‖f‖, eps) per row                   |
| S      | (B,)*n | table: S[i_1, …, i_n], similarity of sample i_1 of set 1, … i_n of set n |
| m      |        | n(n − 1)/2, the number of pairs of sets                           |
| C_kl   | (B, B) | C_kl[i, j] = u_k[i] · u_l[j], cosines                             |
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import string
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from trainobs.errors import InvalidArgument

KINDS = ("einsum", "norm", "cosine", "distance")

_GIB = 2**30


def similarity_table(
    features: Sequence[Any],
    kind: str = "norm",
    *,
    normalize: bool = True,
    eps: float | None = None,
    max_bytes: int = _GIB,
) -> Any:
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
    sets, dtype = _checked_features("similarity_table", features)
    sets = _within_memory("similarity_table", sets, kind, max_bytes)
    return ops.cast(_table(sets, kind, normalize, _checked_eps(eps, dtype)), dtype)


def contrastive_loss(
    features: Sequence[Any],
    kind: str = "norm",
    *,
    temperature: Any = 0.07,
    normalize: bool = True,
    eps: float | None = None,
    max_bytes: int = _GIB,
) -> Any:
    """The symmetric contrastive loss of n sets; for n = 2 that of CLIP.

    Parameters
    ----------
    features, kind, normalize, eps
        As for `similarity_table`.
    temperature : float or scalar tensor, default 0.07
        What the similarities are divided by; a tensor or variable may be learned.
    max_bytes : int, default 2**30
        Largest memory of table, intermediates and gradients (``table_bytes(…, loss=True)``).

    Returns
    -------
    scalar tensor
        The loss, in float32, or in float64 where a set of features is; a mean, in nats. Independent
        features give about (n − 1) log B.

    Raises
    ------
    InvalidArgument
        As for `similarity_table`, or `temperature` is a number that is not positive and finite.

    Notes
    -----
    With logits Z = S/temperature: ``loss = 1/n Σ_k 1/B Σ_i (log Σ exp Z[…, i_k = i, …] − Z[i, i, …, i])``,
    the inner sum over all B^(n − 1) entries that share i on axis k. The table cannot be avoided: for no
    kind and n > 2 does the inner sum factorise into pairs.

    Examples
    --------
    >>> import numpy as np
    >>> same = np.eye(4, dtype="float32")
    >>> round(float(contrastive_loss([same, same], temperature=1.0)), 4)  # log(e + 3) − 1
    0.7437
    """
    sets, dtype = _checked_features("contrastive_loss", features)
    _checked_temperature("contrastive_loss", temperature)
    sets = _within_memory("contrastive_loss", sets, kind, max_bytes, loss=True)
    return _loss(_table(sets, kind, normalize, _checked_eps(eps, dtype)), temperature)


def table_loss(table: Any, temperature: Any = 0.07) -> Any:
    """The symmetric contrastive loss of a table of similarities.

    Parameters
    ----------
    table : tensor (B,)*n, n >= 2
        Similarities of floats, such as `similarity_table` returns. Entries (i, i, …, i) are the matches.
    temperature : float or scalar tensor, default 0.07
        What the similarities are divided by.

    Returns
    -------
    scalar tensor
        As of `contrastive_loss`, in float32 or float64.

    Raises
    ------
    InvalidArgument
        The table has fewer than two axes, axes of different sizes or no floats, or `temperature` is a
        number that is not positive and finite.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(table_loss(np.zeros((4, 4, 4), "float32"))), 4)  # log(4²)
    2.7726
    """
    table = ops.convert_to_tensor(table)
    dtype = keras.backend.standardize_dtype(table.dtype)
    sizes = {size for size in table.shape if size is not None}
    if len(table.shape) < 2 or len(sizes) > 1 or "float" not in dtype:
        raise InvalidArgument(
            "table_loss: `table` must hold floats and have n >= 2 axes of one size. "
            f"Received: shape {tuple(table.shape)}, dtype {dtype}. Make one with `similarity_table`."
        )
    _checked_temperature("table_loss", temperature)
    return _loss(ops.cast(table, _compute_dtype(dtype)), temperature)


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
    _checked_kind(kind)
    size = np.dtype(_compute_dtype(dtype)).itemsize
    tables = 9 if loss else 1 if kind == "einsum" else 2
    rows = (9 if loss else 2) * (2 if kind == "distance" else 1)
    pairs = {"einsum": 0, "norm": 1, "cosine": 3, "distance": 8}[kind] * (3 if loss else 1)
    total = tables * batch**sets + rows * sets * batch * width + pairs * math.comb(sets, 2) * batch**2
    if kind == "einsum":
        factors = [*range(2, sets - sets // 2 + 1), *range(2, sets // 2 + 1)]
        total += (4 if loss else 1) * sum(batch**h * width for h in factors)
    return size * total


def _table(sets: list[Any], kind: str, normalize: bool, eps: float) -> Any:
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


def _unit(rows: Any, eps: float) -> Any:
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


def _sum_of_products(sets: list[Any]) -> Any:
    """Σ_d Π_k u_k[i_k, d]: the products of either half of the sets, contracted over d."""
    half, letters = len(sets) - len(sets) // 2, string.ascii_letters[: len(sets)]
    left, right = _products(sets[:half]), _products(sets[half:])
    return ops.einsum(f"{letters[:half]}Z,{letters[half:]}Z->{letters}", left, right)


def _products(sets: list[Any]) -> Any:
    """Π_k u_k[i_k, d], shape (B, …, B, d)."""
    product = sets[0]
    for rows in sets[1:]:
        product = ops.expand_dims(product, -2) * rows
    return product


def _sum_over_pairs(sets: list[Any], pair: Callable[[Any, Any], Any]) -> Any:
    """Σ_{k<l} pair(k, l)[i_k, i_l]; each set more adds an axis, so only two arrays have B^n elements."""
    table = pair(sets[0], sets[1])
    for last in range(2, len(sets)):
        with_last = pair(sets[0], sets[last])  # (i_1, …, i_k, i_last)
        for k in range(1, last):
            with_last = ops.expand_dims(with_last, -2) + pair(sets[k], sets[last])
        table = ops.expand_dims(table, -1) + with_last
    return table


def _dots(a: Any, b: Any) -> Any:
    """a[i] · b[j], shape (B, B)."""
    return ops.matmul(a, ops.transpose(b))


def _log_similarity(a: Any, b: Any, eps: float) -> Any:
    """log of (1 + cosine)/2 in [eps, 1]; the cosine of equal rows may round to more than 1."""
    return ops.log(ops.clip((1 + _dots(a, b)) / 2, eps, 1.0))


def _distance(a: Any, b: Any, eps: float) -> Any:
    """sqrt(q + eps²) − eps, written without the difference; q from dot products in float64."""
    dtype = a.dtype
    a, b = ops.cast(a, "float64"), ops.cast(b, "float64")
    squares = ops.expand_dims(ops.sum(a * a, axis=-1), 1) + ops.sum(b * b, axis=-1)
    q = ops.maximum(squares - 2 * _dots(a, b), 0.0)
    return ops.cast(q / (ops.sqrt(q + eps**2) + eps), dtype)


def _loss(table: Any, temperature: Any) -> Any:
    """Mean over axes and samples of log Σ exp of what shares i on the axis, minus the match."""
    # A number stays one: ops.cast would read it as float32 first.
    is_number = isinstance(temperature, numbers.Real)
    logits = table / (float(temperature) if is_number else ops.cast(temperature, table.dtype))
    match = logits
    for _ in range(len(table.shape) - 1):
        match = ops.diagonal(match, axis1=-2, axis2=-1)
    sums = _log_sums(logits)
    return sum(ops.mean(axis - match) for axis in sums) / len(sums)


def _log_sums(logits: Any) -> list[Any]:
    """For each axis the logsumexp over all others, shape (B,).

    Sums of sums: one half of the axes is summed out for the other half, so two passes read B^n elements.
    """
    axes = len(logits.shape)
    if axes == 1:
        return [logits]
    half = axes // 2
    front = ops.logsumexp(logits, axis=tuple(range(half, axes)))
    back = ops.logsumexp(logits, axis=tuple(range(half)))
    return _log_sums(front) + _log_sums(back)


def _checked_features(owner: str, features: Any) -> tuple[list[Any], str]:
    """The sets in the dtype to compute in, and the dtype of the result."""
    if not isinstance(features, (list, tuple)) or len(features) < 2:
        got = f"{len(features)}" if isinstance(features, (list, tuple)) else type(features).__name__
        raise InvalidArgument(
            f"{owner}: `features` must be a list or tuple of at least two tensors (B, d). Received: {got}. "
            "Pass one tensor per set."
        )
    sets = [ops.convert_to_tensor(rows) for rows in features]
    shapes = [tuple(rows.shape) for rows in sets]
    dtypes = [keras.backend.standardize_dtype(rows.dtype) for rows in sets]
    known = [{shape[axis] for shape in shapes if len(shape) == 2} - {None} for axis in (0, 1)]
    two_axes = all(len(shape) == 2 for shape in shapes)
    if not (two_axes and len(known[0]) <= 1 and len(known[1]) == 1 and all("float" in d for d in dtypes)):
        raise InvalidArgument(
            f"{owner}: all features must be floats of one shape (B, d), d known. "
            f"Received: shapes {shapes}, dtypes {dtypes}. "
            "Flatten each sample, cast integers, and project all sets to one width."
        )
    dtype = keras.backend.result_type(*dtypes)
    return [ops.cast(rows, _compute_dtype(dtype)) for rows in sets], dtype


def _compute_dtype(dtype: str) -> str:
    """At least float32."""
    return str(keras.backend.result_type(dtype, "float32"))


def _checked_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidArgument(f"There is no kind of similarity {kind!r}. Choose one of {', '.join(KINDS)}.")


def _checked_eps(eps: float | None, dtype: str) -> float:
    """The default of the dtype, or a positive, finite number."""
    if eps is None:
        return 1e-3 if dtype == "float16" else 1e-6
    if not _positive(eps):
        raise InvalidArgument(
            f"similarity: `eps` must be a positive, finite number. Received: eps={eps!r}. "
            "The default is 1e-6, for float16 1e-3."
        )
    return float(eps)


def _checked_temperature(owner: str, temperature: Any) -> None:
    """Numbers are checked, tensors are not: their value may not be known yet."""
    if isinstance(temperature, (numbers.Number, str)) and not _positive(temperature):
        raise InvalidArgument(
            f"{owner}: `temperature` must be a positive, finite number, or a tensor. "
            f"Received: temperature={temperature!r}. The default is 0.07."
        )


def _positive(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and value > 0


def _within_memory(owner: str, sets: list[Any], kind: str, max_bytes: int, loss: bool = False) -> list[Any]:
    """The sets, if their table fits; with a batch size known at run time only, an assertion before them."""
    _checked_kind(kind)
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
