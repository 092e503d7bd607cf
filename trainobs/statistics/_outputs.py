"""Where the loss meets the model: additive statistics of the outputs."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from trainobs.records import OutputRecord, Place
from trainobs.statistics._fit import EPSILON, Fit, fit_of

Array = np.ndarray
#: A probability is wrong if it is nearer to the other class than to its own.
_WRONG = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class OutputStatistics:
    """Where the loss meets the model; gradients per position (n · dJ/dy).

    Attributes
    ----------
    fit : Fit or None
        How well predictions fit their targets; None where that is not known.
    whole_targets : bool
        Whether all targets are whole numbers.
    target_sq, target_size : float
        Sum of the squares of the targets, and their number.
    most_at_once : float
        Largest sum of the targets of one position: of classes, how many it belongs to.
    empty_rows : float
        Positions whose predictions add up to 0.
    row_low, row_high : float
        What the predictions of a position add up to: the least and the most.
    cut, wrong : float
        Predictions that are wrong by more than 1/2, and those of them at which a loss of probabilities
        clips its input, and so its gradient.
    lowest, highest : array of shape (k,)
        Of each element, the smallest and the largest prediction.
    own_loss : bool
        Whether the loss is not one of Keras' own.
    cut_at : Place or None
        Where, between it and the loss, no gradient passes, if that is known.
    changed : bool
        Whether operations that are no layers made other values of what its node put out.
    """

    node: int
    elements: int
    logits: bool
    touched: bool
    gradient_sq: float
    positions: float
    low: float
    high: float
    target_low: float
    target_high: float
    loss_name: str
    from_logits: bool
    masked: float = 0.0
    weighted: float = 0.0
    fit: Fit | None = None
    whole_targets: bool = False
    target_sq: float = 0.0
    target_size: float = 0.0
    most_at_once: float = 0.0
    empty_rows: float = 0.0
    row_low: float = math.nan
    row_high: float = math.nan
    cut: float = 0.0
    wrong: float = 0.0
    lowest: Array | None = None
    highest: Array | None = None
    own_loss: bool = False
    cut_at: Place | None = None
    changed: bool = False

    @property
    def known_loss(self) -> str:
        """Name of the loss, where it is Keras' own and was given targets; else ""."""
        return "" if self.own_loss or math.isnan(self.target_low) else self.loss_name

    @property
    def target_rms(self) -> float:
        """Root mean square of the targets; nan without any."""
        return math.sqrt(self.target_sq / self.target_size) if self.target_size else math.nan

    @property
    def is_constant(self) -> bool:
        """Whether the prediction is the same at all positions, of which there are several."""
        if self.lowest is None or self.highest is None or self.positions < 2:
            return False
        return bool(np.all(self.lowest == self.highest))

    @property
    def masked_fraction(self) -> float:
        """Part of the positions (or samples) that the loss gives weight 0."""
        return self.masked / self.weighted if self.weighted else 0.0

    @property
    def g_out(self) -> float:
        """√(mean over positions of ‖n · dJ/dy‖²)."""
        return float(np.sqrt(self.gradient_sq / self.positions))

    @property
    def gradient_norm(self) -> float:
        """‖dJ/dy‖, the Frobenius norm."""
        return float(np.sqrt(self.gradient_sq) / self.positions)

    def __add__(self, other: OutputStatistics) -> OutputStatistics:
        return dataclasses.replace(
            self,
            gradient_sq=self.gradient_sq + other.gradient_sq,
            positions=self.positions + other.positions,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            target_low=min(self.target_low, other.target_low),
            target_high=max(self.target_high, other.target_high),
            masked=self.masked + other.masked,
            weighted=self.weighted + other.weighted,
            fit=None if self.fit is None or other.fit is None else self.fit + other.fit,
            whole_targets=self.whole_targets and other.whole_targets,
            target_sq=self.target_sq + other.target_sq,
            target_size=self.target_size + other.target_size,
            most_at_once=max(self.most_at_once, other.most_at_once),
            empty_rows=self.empty_rows + other.empty_rows,
            row_low=min(self.row_low, other.row_low),
            row_high=max(self.row_high, other.row_high),
            cut=self.cut + other.cut,
            wrong=self.wrong + other.wrong,
            lowest=_both(np.minimum, self.lowest, other.lowest),
            highest=_both(np.maximum, self.highest, other.highest),
        )


def _both(function: np.ufunc, one: Array | None, other: Array | None) -> Array | None:
    return None if one is None or other is None else np.asarray(function(one, other))


def sum_output(output: OutputRecord, channels: int) -> OutputStatistics:
    """The statistics of one output of one batch; `channels` is the axis of its K elements."""
    shape = output.value.shape
    elements = shape[channels] if len(shape) > 1 else 1
    positions = max(output.value.size // max(elements, 1), 1)
    gradient = output.gradient
    square = 0.0 if gradient is None else positions**2 * float(np.sum(np.square(gradient, dtype=np.float64)))
    left_out = _left_out(output)
    rows = np.moveaxis(output.value, channels, -1).reshape(-1, elements) if elements else output.value
    totals = np.sum(rows, axis=-1)
    bare = OutputStatistics(
        node=output.node,
        elements=elements,
        logits=output.logits,
        touched=gradient is not None,
        gradient_sq=square,
        positions=float(positions),
        low=float(output.value.min(initial=np.inf)),
        high=float(output.value.max(initial=-np.inf)),
        target_low=math.nan,
        target_high=math.nan,
        loss_name=output.loss_name,
        from_logits=output.from_logits,
        masked=float(np.sum(left_out)),
        weighted=float(left_out.size),
        fit=fit_of(output) if channels == -1 else None,
        empty_rows=float(np.sum(totals == 0)),
        row_low=float(totals.min(initial=np.inf)),
        row_high=float(totals.max(initial=-np.inf)),
        lowest=rows.min(axis=0, initial=np.inf),
        highest=rows.max(axis=0, initial=-np.inf),
        own_loss=output.own_loss,
        cut_at=output.cut_at,
        changed=output.changed,
    )
    return _with_targets(bare, output)


def _with_targets(bare: OutputStatistics, output: OutputRecord) -> OutputStatistics:
    """With what the targets are; as it is where they are no numbers."""
    target = np.empty(0) if output.target is None else np.asarray(output.target)
    if target.dtype.kind not in "fiub" or not target.size:
        return bare
    values = target.astype(np.float64)
    cut, wrong = _cut_off(np.asarray(output.value), values)
    return dataclasses.replace(
        bare,
        target_low=float(values.min()),
        target_high=float(values.max()),
        whole_targets=bool(np.all(values == np.round(values))),
        target_sq=float(np.sum(values**2)),
        target_size=float(values.size),
        most_at_once=float(np.max(np.sum(values, axis=-1))) if values.shape == output.value.shape else 0.0,
        cut=cut,
        wrong=wrong,
    )


def _cut_off(value: Array, target: Array) -> tuple[float, float]:
    """See `OutputStatistics.cut` and `OutputStatistics.wrong`; of targets with a value per prediction."""
    if target.size != value.size:
        return 0.0, 0.0
    wrong = np.abs(value.reshape(-1) - target.reshape(-1)) > _WRONG
    cut = wrong & ~((value > EPSILON) & (value < 1 - EPSILON)).reshape(-1)
    return float(np.sum(cut)), float(np.sum(wrong))


def _left_out(output: OutputRecord) -> Array:
    """Which positions (or samples) the loss gives weight 0; empty if the step did not say."""
    weight, mask = output.sample_weight, output.mask
    parts = [] if weight is None else [np.asarray(weight) == 0]
    parts += [] if mask is None else [~np.asarray(mask, bool)]
    if not parts:
        return np.zeros(0, bool)
    rank = max(part.ndim for part in parts)
    return functools.reduce(
        np.logical_or, (part.reshape(part.shape + (1,) * (rank - part.ndim)) for part in parts)
    )
