"""The symmetric contrastive loss over a table: each sample is to find its match along every axis."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from trainobs.errors import InvalidArgument
from trainobs.similarity._checks import checked_eps, checked_features, checked_temperature, compute_dtype
from trainobs.similarity._memory import GIB, within_memory
from trainobs.similarity._tables import table_of

if TYPE_CHECKING:
    import tensorflow as tf


def contrastive_loss(
    features: Sequence[tf.Tensor | np.ndarray],
    kind: str = "norm",
    *,
    temperature: float | tf.Tensor = 0.07,
    normalize: bool = True,
    eps: float | None = None,
    max_bytes: int = GIB,
) -> tf.Tensor:
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
    sets, dtype = checked_features("contrastive_loss", features)
    checked_temperature("contrastive_loss", temperature)
    sets = within_memory("contrastive_loss", sets, kind, max_bytes, loss=True)
    return _loss(table_of(sets, kind, normalize, checked_eps(eps, dtype)), temperature)


def table_loss(table: tf.Tensor | np.ndarray, temperature: float | tf.Tensor = 0.07) -> tf.Tensor:
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
        See `contrastive_loss`, in float32 or float64.

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
            "table_loss: `table` must be of floats and have n >= 2 axes of one size. "
            f"Received: shape {tuple(table.shape)}, dtype {dtype}. Make one with `similarity_table`."
        )
    checked_temperature("table_loss", temperature)
    return _loss(ops.cast(table, compute_dtype(dtype)), temperature)


def _loss(table: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    """Mean over axes and samples of log Σ exp of what shares i on the axis, minus the match."""
    # A number stays one: ops.cast would read it as float32 first.
    is_number = isinstance(temperature, numbers.Real)
    logits = table / (float(temperature) if is_number else ops.cast(temperature, table.dtype))
    match = logits
    for _ in range(len(table.shape) - 1):
        match = ops.diagonal(match, axis1=-2, axis2=-1)
    sums = _log_sums(logits)
    return sum(ops.mean(axis - match) for axis in sums) / len(sums)


def _log_sums(logits: tf.Tensor) -> list[tf.Tensor]:
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
