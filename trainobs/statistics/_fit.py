"""How well predictions fit their targets, and how well the best constant prediction would.

| symbol | shape  | meaning                                                   |
|--------|--------|-----------------------------------------------------------|
| V      | (n, k) | predictions, k elements at each of n positions            |
| T      | (n, k) | targets; of sparse ones, 1 at the class and 0 elsewhere   |
| w      | (n,)   | what the loss is weighted with; 0 where a mask is         |
| m      | (k,)   | Σ w T / Σ w, the mean target                              |

The best constant prediction is the mean target, m, or for classes m / Σ m: its loss is the variance of the
targets or their entropy. A loss held against it is 1 − R² (1 − McFadden's pseudo-R² for crossentropies).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from trainobs.records import OutputRecord

Array = np.ndarray
SQUARED, BINARY = "mean_squared_error", "binary_crossentropy"
CLASSES, SPARSE = "categorical_crossentropy", "sparse_categorical_crossentropy"
#: Keras clips probabilities to [ε, 1 − ε].
EPSILON = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """Additive sums of predictions and targets under one of Keras' losses.

    Attributes
    ----------
    loss_name : str
        One of four: mean squared error, binary, categorical and sparse categorical crossentropy.
    weight : float
        Σ w.
    loss_sum : float
        Σ w · loss of the position.
    sums, squares : array of shape (k,)
        Σ w T and Σ w T².
    """

    loss_name: str
    weight: float
    loss_sum: float
    sums: Array
    squares: Array

    def __add__(self, other: Fit) -> Fit:
        return Fit(
            self.loss_name,
            self.weight + other.weight,
            self.loss_sum + other.loss_sum,
            self.sums + other.sums,
            self.squares + other.squares,
        )

    @property
    def loss(self) -> float:
        """The mean loss of the predictions, without penalties and the like; nan without any position."""
        return self.loss_sum / self.weight if self.weight else math.nan

    @property
    def constant_loss(self) -> float:
        """The mean loss of the best constant prediction."""
        return self._loss_of(self._mean) if self.weight else math.nan

    @property
    def uninformed_loss(self) -> float:
        """The mean loss of a prediction that knows nothing of the targets: zero, or all classes alike."""
        if self.loss_name == SQUARED:
            return float(np.mean(self.squares)) / self.weight if self.weight else math.nan
        alike = 0.5 if self.loss_name == BINARY else 1 / self.sums.size
        return self._loss_of(np.full(self.sums.size, alike)) if self.weight else math.nan

    @property
    def left(self) -> float:
        """What is left of the best constant's loss: 1 − R²; of the uninformed one where that is 0."""
        reference = self.constant_loss if self.constant_loss > 0 else self.uninformed_loss
        return self.loss / reference if reference > 0 else math.nan

    @property
    def _mean(self) -> Array:
        return self.sums / self.weight

    def _loss_of(self, constant: Array) -> float:
        """The mean loss of a constant prediction; of classes, up to its scale."""
        mean = self._mean
        if self.loss_name == SQUARED:
            second = self.squares / self.weight
            return float(np.mean(np.maximum(second - 2 * constant * mean + constant**2, 0.0)))
        if self.loss_name == BINARY:
            return float(np.mean(-_x_log(mean, constant) - _x_log(1 - mean, 1 - constant)))
        total = float(np.sum(constant))
        return float(-np.sum(_x_log(mean, constant / total))) if total else math.nan


def _x_log(x: Array, y: Array) -> Array:
    """x · log y, 0 where x is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0.0, x * np.log(y))


def fit_of(output: OutputRecord) -> Fit | None:
    """The sums of one output of one batch; None where targets and loss don't show them."""
    value, name = np.asarray(output.value), output.loss_name
    if output.own_loss or output.target is None or name not in (SQUARED, BINARY, CLASSES, SPARSE):
        return None
    value = value.reshape(*value.shape, 1) if value.ndim == 1 else value
    weights, targets = _weights(output, value.shape[:-1]), np.asarray(output.target)
    if weights is None or not value.size or targets.dtype.kind not in "fiub":
        return None
    rows = value.reshape(-1, value.shape[-1])
    if name == SPARSE:
        return _sparse_fit(output, rows, targets, weights)
    if targets.shape not in (value.shape, value.shape[:-1] if value.shape[-1] == 1 else value.shape):
        return None
    return _dense_fit(output, rows, targets.reshape(rows.shape).astype(np.float64), weights)


def _weights(output: OutputRecord, shape: tuple[int, ...]) -> Array | None:
    """w, flat; None if what was given has no weight for each position."""
    weights = np.ones(shape)
    for given in (output.sample_weight, output.mask):
        if given is not None:
            given = np.asarray(given, np.float64)
            given = given[..., 0] if given.ndim == len(shape) + 1 and given.shape[-1] == 1 else given
            if given.shape != shape[: given.ndim]:
                return None
            weights = weights * given.reshape(given.shape + (1,) * (len(shape) - given.ndim))
    return weights.reshape(-1)


def _dense_fit(output: OutputRecord, rows: Array, targets: Array, weights: Array) -> Fit:
    losses = _LOSSES[output.loss_name](rows, targets, output.from_logits and not output.logits)
    return Fit(
        output.loss_name,
        float(np.sum(weights)),
        float(weights @ np.nan_to_num(losses, nan=np.inf) if np.any(weights) else 0.0),
        weights @ targets,
        weights @ targets**2,
    )


def _sparse_fit(output: OutputRecord, rows: Array, targets: Array, weights: Array) -> Fit | None:
    """As of one-hot targets; a class that there is not (one to be ignored) does not count."""
    if targets.size != len(rows):
        return None
    classes, units = targets.reshape(-1).astype(np.int64), rows.shape[-1]
    known = (classes >= 0) & (classes < units)
    classes, weights, rows = classes[known], weights[known], rows[known]
    chosen = rows[np.arange(len(rows)), classes].astype(np.float64)
    if output.from_logits and not output.logits:
        losses = _log_sum_exp(rows) - chosen
    else:
        within = np.clip(rows, EPSILON, 1 - EPSILON)
        losses = np.log(np.sum(within, axis=-1, dtype=np.float64)) - np.log(
            np.clip(chosen, EPSILON, 1 - EPSILON)
        )
    counts = np.bincount(classes, weights, units)
    loss_sum = float(weights @ np.nan_to_num(losses, nan=np.inf)) if np.any(weights) else 0.0
    return Fit(output.loss_name, float(np.sum(weights)), loss_sum, counts, counts)


def _log_sum_exp(rows: Array) -> Array:
    top = np.max(rows, axis=-1, keepdims=True)
    shifted = np.exp(rows - top)
    return np.asarray(np.log(np.sum(shifted, axis=-1, dtype=np.float64)) + top[:, 0])


def _squared(rows: Array, targets: Array, logits: bool) -> Array:
    return np.asarray(np.mean((rows - targets) ** 2, axis=-1))


def _binary(rows: Array, targets: Array, logits: bool) -> Array:
    if logits:
        softplus = np.maximum(rows, 0) + np.log1p(np.exp(-np.abs(rows)))
        return np.asarray(np.mean(softplus - targets * rows, axis=-1))
    within = np.clip(rows.astype(np.float64), EPSILON, 1 - EPSILON)
    return np.asarray(-np.mean(targets * np.log(within) + (1 - targets) * np.log(1 - within), axis=-1))


def _classes(rows: Array, targets: Array, logits: bool) -> Array:
    if logits:
        return np.asarray(np.sum(targets, axis=-1) * _log_sum_exp(rows) - np.sum(targets * rows, axis=-1))
    shares = rows.astype(np.float64) / np.sum(rows, axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(-np.sum(targets * np.log(np.clip(shares, EPSILON, 1 - EPSILON)), axis=-1))


#: Keras' formulas, of predictions, targets, and whether the predictions are logits: a loss per position.
_LOSSES = {SQUARED: _squared, BINARY: _binary, CLASSES: _classes}
