"""From the sums of one kernel to its figures. Definitions: docs/definitions.md.

| letter | axis                                                      |
|--------|-----------------------------------------------------------|
| k      | kernel window                                             |
| i, j   | inputs of a group, units                                  |

Arrays are compact where a figure is the same along an axis: (*k, i, 1) or (*k, 1, j).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from trainobs.analysis._causes import Cause, shares, verdict
from trainobs.records import Scalars, sums_of
from trainobs.statistics import OFF_REASONS, PER_WEIGHT, SiteStatistics
from trainobs.thresholds import NearZero

Array = np.ndarray


#: The sums as large as the kernel that nothing but the verdict needs.
_LEAD_TO_VERDICT = PER_WEIGHT - {"gradient"}


class SiteFigures:
    """Everything a report says about one kernel, worked out when first asked for.

    Parameters
    ----------
    statistics : SiteStatistics
        The sums.
    near_zero : NearZero
        The thresholds.
    gradient_scale : float
        g* of the whole data.
    """

    def __init__(self, statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> None:
        self.statistics = statistics
        self.info = statistics.info
        self._near_zero = near_zero
        self._scale = gradient_scale
        self._sums = statistics.sums

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape (*k, i, j) of the kernel; of a table, of the rows that were looked up."""
        return self.statistics.kernel.shape

    @property
    def carries(self) -> bool:
        """Whether signals pass through these weights; biases and scales only modify them."""
        return self.info.role in ("kernel", "table")

    @property
    def unused(self) -> int:
        """Weights of a table's rows that were never looked up: they have no terms."""
        rows = self.statistics.rows
        return 0 if rows is None else (self.info.op.rows - rows.size) * self.units  # type: ignore[attr-defined]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.statistics.kernel.size + self.unused

    @functools.cached_property
    def near_zero_count(self) -> int:
        """Number of weights whose gradient is near zero."""
        return int(np.count_nonzero(self.near_zero)) + self.unused

    @property
    def near_zero_fraction(self) -> float:
        """Part of the weights whose gradient is near zero."""
        return self.near_zero_count / self.size

    @property
    def exact_zero_fraction(self) -> float:
        """Part of the weights whose gradient is exactly 0."""
        return (self._gradient_sums.zeros + self.unused) / self.size

    @property
    def gradient_rms(self) -> float:
        """Root mean square of the data gradient over all weights."""
        return float(np.sqrt(self._gradient_sums.square_sum / self.size)) / self.statistics.positions

    @property
    def mean_gradient(self) -> float:
        """Mean absolute data gradient of the weights that were used."""
        return float(np.mean(np.abs(self._sums["gradient"]))) / self.statistics.positions

    @property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        return not self._gradient_sums.non_finite

    @property
    def kernel_is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return not self._kernel_sums.non_finite

    @functools.cached_property
    def _gradient_sums(self) -> Scalars:
        return sums_of(self._sums["gradient"])

    @functools.cached_property
    def _kernel_sums(self) -> Scalars:
        return sums_of(self.statistics.kernel)

    def mean(self, values: Array, unused: float | None = 0.0) -> float:
        """Mean over all weights of a (compact) array; `unused` (None: nothing) for those without terms."""
        if not self.unused or unused is None:
            return float(np.mean(values))
        total = float(np.sum(np.broadcast_to(values, self.shape)))
        return (total + unused * self.unused) / self.size

    @property
    def used_near_zero(self) -> float:
        """Near-zero fraction of the weights that were used; nan if none was.

        Of a table, those of the rows that were looked up; of a window, those that do not meet padding only.
        """
        return float(np.mean(self.near_zero[self._used])) if np.any(self._used) else float("nan")

    @functools.cached_property
    def used_shares(self) -> dict[Cause, Array]:
        """`shares` of the weights that were used."""
        return shares(self.verdict[self._used])

    @functools.cached_property
    def _used(self) -> Array:
        """Which weights have terms."""
        return np.broadcast_to(self._sums["terms"] > 0, self.shape)

    @functools.cached_property
    def shares(self) -> dict[Cause, Array]:
        """Part of the near-zero weights that belongs to each cause."""
        found = shares(self.verdict)
        if not self.unused:
            return found
        known = int(np.sum(self.near_zero))
        parts = {cause: np.nan_to_num(part) * known for cause, part in found.items()}
        parts[Cause.INPUT] = parts[Cause.INPUT] + self.unused
        return {cause: part / (known + self.unused) for cause, part in parts.items()}

    @property
    def terms(self) -> float:
        """T of the weight with the most terms."""
        return float(np.max(self._sums["terms"]))

    @property
    def units(self) -> int:
        """Number of units j."""
        return int(self.shape[-1])

    @functools.cached_property
    def gradient(self) -> Array:
        """D(w), the data gradient of every weight."""
        return np.broadcast_to(self.statistics.data_gradient, self.shape)

    @functools.cached_property
    def thresholds(self) -> Array:
        """rtol · a* · g* · √T / n of every weight, compact."""
        return self._thresholds_of_sums / self.statistics.positions

    @property
    def _thresholds_of_sums(self) -> Array:
        rtol, a = self._near_zero.rtol, self._near_zero.activation_scale
        return rtol * a * self._scale * np.sqrt(self._sums["terms"])

    @functools.cached_property
    def near_zero(self) -> Array:
        """Which weights have a gradient near zero."""
        if self.statistics.is_condensed:
            return np.asarray(self._sums["verdict"] != 0)
        below = np.abs(self._sums["gradient"]) <= self._thresholds_of_sums
        return np.broadcast_to(below | (self._sums["terms"] == 0), self.shape)

    @functools.cached_property
    def near_zero_by_input(self) -> Array:
        """Per input of a group, the near-zero fraction of its weights, shape (i,)."""
        axes = (*range(len(self.shape) - 2), len(self.shape) - 1)
        return np.asarray(self.near_zero.mean(axis=axes))

    @functools.cached_property
    def verdict(self) -> Array:
        """Bits of `Cause` for every weight."""
        if self.statistics.is_condensed:
            return self._sums["verdict"]
        found = np.zeros(self.shape, np.uint8)
        found[self.near_zero] = verdict(self._sufficient(), self._where_near_zero(self._sums["terms"]))
        return found

    def _where_near_zero(self, values: Array) -> Array:
        """The values of a (compact) array that belong to near-zero gradients: in a healthy model few."""
        return np.asarray(np.broadcast_to(values, self.shape)[self.near_zero])

    def condensed(self) -> SiteStatistics:
        """The statistics with a byte of verdict per weight in place of the sums that led to it."""
        sums = {name: values for name, values in self._sums.items() if name not in _LEAD_TO_VERDICT}
        sums |= {"verdict": self.verdict, "input_or_slope_zero": self._input_or_slope_zero}
        return dataclasses.replace(self.statistics, sums=sums)

    def _sufficient(self) -> dict[Cause, Array]:
        """Which sets of factors alone keep each near-zero gradient near zero."""
        a, s, g = self._near_zero.activation_scale, self._near_zero.slope_scale, self._scale
        references = {
            Cause.INPUT: ("input_sq", a),
            Cause.ACTIVATION: ("slope_sq", s),
            Cause.BACKPROP: ("backprop_sq", g),
            Cause.INPUT_ACTIVATION: ("input_slope_sq", a * s),
            Cause.INPUT_BACKPROP: ("input_backprop_sq", a * g),
            Cause.ACTIVATION_BACKPROP: ("slope_backprop_sq", s * g),
            Cause.INPUT_ACTIVATION_BACKPROP: ("all_sq", a * s * g),
        }
        limit = self._near_zero.rtol**2 * self._where_near_zero(self._sums["terms"])
        return {
            cause: self._where_near_zero(self._sums[name]) <= limit * scale**2
            for cause, (name, scale) in references.items()
        }

    @functools.cached_property
    def factor_sizes(self) -> dict[str, float]:
        """Root mean square of each factor over all terms, against its healthy reference."""
        near_zero, terms = self._near_zero, float(np.sum(np.broadcast_to(self._sums["terms"], self.shape)))
        references = {
            "input": ("input_sq", near_zero.activation_scale),
            "activation": ("slope_sq", near_zero.slope_scale),
            "backprop": ("backprop_sq", self._scale),
        }
        squares = {
            factor: (float(np.sum(np.broadcast_to(self._sums[name], self.shape))), reference)
            for factor, (name, reference) in references.items()
        }
        return {f: float(np.sqrt(square / max(terms, 1.0))) / ref for f, (square, ref) in squares.items()}

    @functools.cached_property
    def likelihoods(self) -> dict[str, Array]:
        """The theory's p_* that are fractions of terms, compact arrays by column name."""
        sums = self._sums
        pinv = self._fraction("pinv_zero", "pinv_terms") if "pinv_zero" in sums else np.full((1,), np.nan)
        return {
            "p_input": self._of_terms(sums["input_zero"], without_terms=1.0),
            "p_activation": self._of_terms(sums["slope_zero"]),
            "p_weights": self._weights_off,
            "p_backprop": self._of_terms(sums["backprop_zero"]),
            "p_backprop_pinv": pinv,
            "p_input_activation": self._input_or_slope_zero,
            "p_activation_backprop": self._of_terms(sums["slope_or_backprop_zero"]),
        }

    @property
    def _input_or_slope_zero(self) -> Array:
        """Per unit, the fraction of terms with a near-zero input or slope: mean over the unit's weights."""
        if self.statistics.is_condensed:
            return self._sums["input_or_slope_zero"]
        terms, live = self._sums["terms"], self._sums["input_and_slope_live"]
        part = np.where(terms == 0, 0.0, 1 / np.maximum(terms, 1))
        rows = np.broadcast_to(part, (*self.shape[:-1], 1)).ravel()
        alive = rows @ np.broadcast_to(live, self.shape).reshape(rows.size, self.units)
        return (1 - alive / rows.size).reshape((1,) * (len(self.shape) - 1) + (-1,))

    def _of_terms(self, count: Array, without_terms: float = 0.0) -> Array:
        terms = self._sums["terms"]
        return np.where(terms == 0, without_terms, count / np.maximum(terms, 1))

    def _fraction(self, count: str, size: str) -> Array:
        return self._sums[count] / np.maximum(self._sums[size], 1)

    @property
    def _weights_off(self) -> Array:
        """Per unit, the fraction of incoming weights that are negative or near zero."""
        kernel, scale = self.statistics.kernel, self.healthy_weight
        if np.isnan(scale):
            return np.full(self.units, np.nan)
        return np.mean(kernel <= self._near_zero.rtol * scale, axis=tuple(range(kernel.ndim - 1)))

    @property
    def healthy_weight(self) -> float:
        """w* = √(2/fan_in), He's scale; nan for what is no kernel."""
        return self.info.op.healthy_weight(self.shape)

    @property
    def kernel_rms(self) -> float:
        """Root mean square of the kernel's weights."""
        return self._kernel_sums.rms

    def per_unit(self, values: Array, unused: float | None = 0.0) -> Array:
        """Mean over each unit's weights of a (compact) array, shape (j,); `unused` as of `mean`."""
        full = np.broadcast_to(values, self.shape)
        mean = full.mean(axis=tuple(range(full.ndim - 1)))
        if not self.unused or unused is None:
            return np.asarray(mean)
        return np.asarray(mean + (unused - mean) * self.unused / self.size)

    @property
    def shares_per_unit(self) -> dict[Cause, Array]:
        """Part of each unit's near-zero weights that belongs to each cause."""
        found = shares(self.verdict, per_unit=True)
        if not self.unused:
            return found
        known, rest = np.sum(self.near_zero, axis=0), self.unused / self.units
        parts = {cause: np.nan_to_num(part) * known for cause, part in found.items()}
        parts[Cause.INPUT] = parts[Cause.INPUT] + rest
        return {cause: part / (known + rest) for cause, part in parts.items()}

    @property
    def off(self) -> Array:
        """Per unit, the number of positions at which it is off."""
        return self._sums["off"]

    @property
    def unit_positions(self) -> float:
        """Positions of the units, over all calls of the layer."""
        return float(self._sums["unit_positions"])

    @property
    def off_fraction(self) -> float:
        """Part of the (position, unit) pairs that are off."""
        return float(np.mean(self.off) / self.unit_positions)

    @property
    def dead(self) -> Array:
        """Which units are off at all positions."""
        return self.off >= self.unit_positions

    def off_by(self, reason: str, unit: slice | int = slice(None)) -> float:
        """Part of the off pairs (of all units, or one) with a reason; nan where none is off or known."""
        total = sum(np.sum(self._sums[f"off_{name}"][unit]) for name in OFF_REASONS)
        return float(np.sum(self._sums[f"off_{reason}"][unit]) / total) if total else float("nan")

    def main_off_reason(self, firing: float) -> tuple[str, float]:
        """Why units are off, in a word: dead units if there are any, else all; by majority.

        And the part that this reason has of the off pairs: where units rectify, of those that live input
        reaches, unless missing input is the reason. `firing` as of `FindingSettings`.
        """
        counts = np.stack([self._off_counts[reason] for reason in OFF_REASONS])
        of_units = _reasons_of_units(counts, firing) if self._rectifies else np.argmax(counts, axis=0)
        votes = np.bincount(of_units, counts.sum(axis=0), len(OFF_REASONS))
        main = int(np.argmax(votes))
        of_reasons = counts.sum(axis=1)
        missing = of_reasons[0] if self._rectifies and main != 0 else 0.0
        of = float(of_reasons.sum() - missing)
        return OFF_REASONS[main], float(of_reasons[main]) / of if of else float("nan")

    @property
    def _rectifies(self) -> bool:
        return self.info.activation.rectifies(self._near_zero.slope_atol)

    @property
    def _off_counts(self) -> dict[str, Array]:
        units = self.dead if np.any(self.dead) else slice(None)
        return {reason: self._sums[f"off_{reason}"][units] for reason in OFF_REASONS}

    @property
    def dead_inputs(self) -> Array:
        """Which input channels are near zero at all positions, shape (i,)."""
        return self._sums["input_channel_zero"] >= self._sums["input_size"]

    @property
    def input_zero_fraction(self) -> Array:
        """Per input channel, the fraction of its values that are near zero."""
        return self._sums["input_channel_zero"] / self._sums["input_size"]

    @property
    def input_rms(self) -> float:
        """Root mean square of all input values."""
        channels = self._sums["input_channel_sq"]
        return float(np.sqrt(np.mean(channels) / self._sums["input_size"]))

    @property
    def slope_gain(self) -> float:
        """‖dJ/dZ‖ / ‖dJ/dA‖; nan where no gradient arrives."""
        return ratio(self._sums["preactivation_gradient_sq"], self._sums["output_gradient_sq"])

    @property
    def preactivation_gradient_norm(self) -> float:
        """‖dJ/dZ‖, the Frobenius norm."""
        return float(np.sqrt(self._sums["preactivation_gradient_sq"]) / self.statistics.positions)

    @property
    def residual(self) -> float:
        """Distance of the terms' sum from the tape's gradient, relative."""
        size, scale = float(self._sums["residual"]), float(self._sums["residual_scale"])
        return size / scale if scale else (0.0 if size == 0 else float("inf"))

    @property
    def steps(self) -> int:
        """Time steps; 0 where there is no time."""
        return len(self._sums["step_size"]) if "step_size" in self._sums else 0

    @property
    def step_off(self) -> Array:
        """Per time step, the part of the values that are off."""
        return self._sums["step_off"] / self._sums["step_size"]

    @property
    def step_gradient_rms(self) -> Array:
        """Per time step, root mean square of n · dJ/dZ."""
        return np.sqrt(self._sums["step_gradient_sq"] / self._sums["step_size"])

    @property
    def step_near_zero(self) -> Array:
        """At which time steps next to no gradient arrives: rms(n · dJ/dZ) ≤ rtol · g*."""
        return self.step_gradient_rms <= self._near_zero.rtol * self._scale

    @property
    def flushed_fraction(self) -> float:
        """Part of the gradients that are not zero in float32, but are in the step's half precision."""
        of = float(self._sums.get("flushed_of", 0.0))
        return float(self._sums["flushed"]) / of if of else 0.0

    @property
    def half(self) -> bool:
        """Whether the kernel was used in half precision."""
        return self.info.dtype in ("float16", "bfloat16")

    @property
    def pinv_trust(self) -> float:
        """rank / n of the pseudo-inverse; nan where none was computed."""
        rank, positions = self._sums.get("pinv_rank"), self._sums.get("pinv_positions")
        return float(rank / positions) if rank is not None and positions is not None else float("nan")

    @property
    def pinv_error(self) -> float:
        """True relative error of the pseudo-inverse estimate of dJ/dA."""
        if "pinv_error_sq" not in self._sums:
            return float("nan")
        return ratio(self._sums["pinv_error_sq"], self._sums["pinv_true_sq"])


def condensed(statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> SiteStatistics:
    """`SiteFigures.condensed`, for `gather` to call as soon as the sums of a weight are there."""
    return SiteFigures(statistics, near_zero, gradient_scale).condensed()


def _reasons_of_units(counts: Array, firing: float) -> Array:
    """Why each rectifying unit is off, as a place in `OFF_REASONS`, from its off positions by reason (4, j).

    Missing input explains a unit only if it explains every position. The bias explains it if
    without the bias it would fire at this part or more of the positions that live input reaches. Else
    the more frequent of weights and their combination counts.
    """
    _, weights, bias, combination = counts
    reached = weights + bias + combination
    order = {reason: place for place, reason in enumerate(OFF_REASONS)}
    other = np.where(weights >= combination, order["weights"], order["combination"])
    found = np.where(bias >= firing * reached, order["bias"], other)
    return np.where(reached == 0, order["input"], found)


def ratio(square: Array | float, of: Array | float) -> float:
    """√(square / of); nan where `of` is 0."""
    return float(np.sqrt(square / of)) if of else float("nan")
