"""Remedies that change the data: each makes new arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from trainobs.errors import InvalidArgument

Arrays = Any


def standardise(x: Arrays, *, like: Arrays = None) -> Arrays:
    """Bring inputs to zero mean and unit variance, feature by feature.

    Parameters
    ----------
    x : array or structure of arrays of shape (samples, …, features)
        Arrays of integers (tokens) are left as they are.
    like : array or structure of arrays, optional
        The data whose mean and variance count, such as the training set. Default: `x`.

    Returns
    -------
    array or structure of float32 arrays
        Features are the last axis; all others are averaged over. Constant features become 0.

    Examples
    --------
    >>> standardise(np.array([[100.0, 3.0], [300.0, 3.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return keras.tree.map_structure(_standardised, x, x if like is None else like)


def _standardised(x: Any, like: Any) -> Any:
    values, given = np.asarray(x), np.asarray(like)
    if values.dtype.kind != "f":
        return x
    axes = tuple(range(given.ndim - 1))
    mean, deviation = given.mean(axis=axes, dtype=np.float64), given.std(axis=axes, dtype=np.float64)
    scaled = (values - mean) / np.where(deviation > 0, deviation, 1.0)
    return scaled.astype(np.float32)


def drop_non_finite(x: Arrays, y: Arrays) -> tuple[Arrays, Arrays]:
    """Leave out the samples that hold NaN or infinite values.

    Parameters
    ----------
    x, y : array or structure of arrays of shape (samples, …)

    Returns
    -------
    (array or structure, array or structure)

    Raises
    ------
    InvalidArgument
        If nothing is left.

    Examples
    --------
    >>> x, y = drop_non_finite(np.array([[1.0], [np.nan]]), np.array([0, 1]))
    >>> x.tolist(), y.tolist()
    ([[1.0]], [0])
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten((x, y))]
    finite = [_finite_rows(leaf) for leaf in leaves]
    kept = np.logical_and.reduce(finite)
    if not kept.any():
        raise InvalidArgument("Every sample holds NaN or infinite values: look at how the data is made.")
    return keras.tree.map_structure(lambda leaf: np.asarray(leaf)[kept], (x, y))


def _finite_rows(leaf: np.ndarray) -> np.ndarray:
    if leaf.dtype.kind != "f":
        return np.ones(len(leaf), bool)
    return np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
