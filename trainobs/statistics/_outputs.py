"""Where the loss meets the model: additive statistics of the outputs."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from trainobs.records import OutputRecord

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class OutputStatistics:
    """Where the loss meets the model; gradients per position (n · dJ/dy)."""

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
        )


def sum_output(output: OutputRecord, channels: int) -> OutputStatistics:
    """The statistics of one output of one batch; `channels` is the axis of its K elements."""
    shape = output.value.shape
    elements = shape[channels] if len(shape) > 1 else 1
    positions = max(output.value.size // max(elements, 1), 1)
    gradient = output.gradient
    square = 0.0 if gradient is None else positions**2 * float(np.sum(np.square(gradient, dtype=np.float64)))
    target = np.empty(0) if output.target is None else np.asarray(output.target)
    numeric = target.dtype.kind in "fiub" and target.size > 0
    left_out = _left_out(output)
    return OutputStatistics(
        node=output.node,
        elements=elements,
        logits=output.logits,
        touched=gradient is not None,
        gradient_sq=square,
        positions=float(positions),
        low=float(output.value.min(initial=np.inf)),
        high=float(output.value.max(initial=-np.inf)),
        target_low=float(target.min()) if numeric else np.nan,
        target_high=float(target.max()) if numeric else np.nan,
        loss_name=output.loss_name,
        from_logits=output.from_logits,
        masked=float(np.sum(left_out)),
        weighted=float(left_out.size),
    )


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
