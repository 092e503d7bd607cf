"""Data without broken samples, and data of unit scale: each remedy makes new arrays."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._treatment import Arrays, Treatment


class StandardiseInputs(Remedy):
    """Brings every feature to zero mean and unit variance."""

    name = "standardise inputs"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """All inputs."""
        changes = "Brings every feature to zero mean and unit variance."
        call = "x = remedies.standardise(x)"
        yield Treatment.of_data(mechanism, self.name, changes, call, lambda x, y: (standardise(x), y))


class StandardiseTargets(Remedy):
    """Brings every target to zero mean and unit variance, where targets are numbers."""

    name = "standardise targets"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """All targets."""
        changes = "Brings every target to zero mean and unit variance."
        call = "y = remedies.standardise(y)"
        yield Treatment.of_data(
            mechanism, self.name, changes, call, lambda x, y: (x, _standardised_targets(y))
        )


class DropBrokenSamples(Remedy):
    """Leaves out the samples with NaN or infinite values."""

    name = "drop broken samples"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """Samples whose inputs or targets are broken."""
        changes = "Leaves out the samples with NaN or infinite values."
        call = "x, y = remedies.drop_non_finite(x, y)"
        yield Treatment.of_data(mechanism, self.name, changes, call, drop_non_finite)


def standardise(x: Arrays, *, like: Arrays | None = None) -> Arrays:
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


def _standardised(x: npt.ArrayLike, like: npt.ArrayLike) -> npt.ArrayLike:
    values, given = np.asarray(x), np.asarray(like)
    if values.dtype.kind != "f":
        return x
    axes = tuple(range(given.ndim - 1))
    mean, deviation = given.mean(axis=axes, dtype=np.float64), given.std(axis=axes, dtype=np.float64)
    scaled = (values - mean) / np.where(deviation > 0, deviation, 1.0)
    return scaled.astype(np.float32)


def _standardised_targets(y: Arrays) -> Arrays:
    if not all(np.asarray(leaf).dtype.kind == "f" for leaf in keras.tree.flatten(y)):
        raise InvalidArgument("The targets are classes, not numbers: they have no scale.")
    return standardise(y)


def drop_non_finite(x: Arrays, y: Arrays) -> tuple[Arrays, Arrays]:
    """Leave out the samples with NaN or infinite values.

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
    kept = np.logical_and.reduce([_finite_rows(leaf) for leaf in leaves])
    if not kept.any():
        raise InvalidArgument("Every sample contains NaN or infinite values: look at how the data is made.")
    return keras.tree.map_structure(lambda leaf: np.asarray(leaf)[kept], (x, y))


def _finite_rows(leaf: np.ndarray) -> np.ndarray:
    if leaf.dtype.kind != "f":
        return np.ones(len(leaf), bool)
    return np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
