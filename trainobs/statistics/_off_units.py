"""Why units are off: input, weights, bias, or only their combination.

| symbol | name               | shape          |
|--------|--------------------|----------------|
| a      | `input`            | (n, *p, i)     |
| W      | `kernel`           | (*k, i/g, j)   |
| Z      | `activation_input` | (n, *q, j)     |
| b      | `offset`           | (j,) or None   |

Definitions: docs/definitions.md, "Units".
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from trainobs.activations import Activation
from trainobs.linear_ops import LinearOp, Shape
from trainobs.statistics._term_sums import sum_receptive_field
from trainobs.tensors import tf
from trainobs.thresholds import NearZero

#: A reason, and where it holds: a boolean for each position and unit.
Condition: TypeAlias = "tuple[str, tf.Tensor]"
OFF_REASONS = ("input", "weights", "bias", "combination")
_HEALTHY_KERNEL_NORM = 2.0**0.5  # He et al. 2015: Var(w) = 2/fan_in gives every unit this norm


@dataclasses.dataclass(frozen=True)
class OffRule:
    """How an activation function goes off: what `off_reasons` needs to know of it."""

    rectifies: bool
    saturation_point: float
    normalised: bool

    @classmethod
    def of(cls, activation: Activation, normalised: bool, near_zero: NearZero) -> OffRule:
        atol = near_zero.slope_atol
        return cls(activation.rectifies(atol), activation.saturation_point(atol), normalised)


def off_reasons(
    op: LinearOp,
    rule: OffRule,
    near_zero: NearZero,
    *,
    off: tf.Tensor,
    input: tf.Tensor,
    kernel: tf.Tensor,
    activation_input: tf.Tensor,
    offset: tf.Tensor | None,
) -> dict[str, tf.Tensor]:
    """Count, per unit, the positions at which it is off, by reason.

    Parameters
    ----------
    off : tensor of shape (n, *q, j)
        1 where the unit is off, else 0.
    input, kernel, activation_input, offset : tensor
        As in the module's legend.

    Returns
    -------
    dict of str to tensor of shape (j,)
        For each of `OFF_REASONS`.
    """
    unshifted = activation_input if offset is None else activation_input - offset
    met = _Met(op, rule, near_zero, input, kernel, unshifted)
    low, high = _sides(off, rule, activation_input)
    parts = [_first_matches(low, _rectified(met)), _first_matches(high, _saturated(met))]
    nothing = tf.zeros(off.shape[-1:])
    counts = {reason: nothing + sum(part.get(reason, 0.0) for part in parts) for reason in OFF_REASONS[:-1]}
    counts["combination"] = tf.reduce_sum(off, _all_but_last(off)) - sum(counts.values())
    return counts


@dataclasses.dataclass(frozen=True, eq=False)
class _Met:
    """What the units of a kernel met: the legend's a and W, and Z without its bias."""

    op: LinearOp
    rule: OffRule
    near_zero: NearZero
    input: tf.Tensor
    kernel: tf.Tensor
    unshifted: tf.Tensor

    @property
    def kernel_shape(self) -> Shape:
        return tuple(self.kernel.shape)

    @property
    def input_limit(self) -> float:
        """Inputs up to this are near zero."""
        return self.near_zero.rtol * self.near_zero.activation_scale


def _sides(off: tf.Tensor, rule: OffRule, activation_input: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where units are off as rectified ones, and where as saturated ones; by the sign of Z if both can be."""
    if not (rule.rectifies and rule.saturation_point):
        return off, off
    low = tf.cast(activation_input <= 0, tf.float32)
    return off * low, off * (1.0 - low)


def _first_matches(off: tf.Tensor, conditions: list[Condition]) -> dict[str, tf.Tensor]:
    """Per unit, the number of off pairs that each condition is the first to be true for."""
    counts, counted, holds = {}, 0.0, None
    for reason, condition in conditions:
        holds = condition if holds is None else holds | condition
        so_far = tf.reduce_sum(tf.where(holds, off, 0.0), _all_but_last(off))
        counts[reason], counted = so_far - counted, so_far
    return counts


def _rectified(met: _Met) -> list[Condition]:
    """Why units below their threshold are off, in this order; nothing if φ does not rectify."""
    if not met.rule.rectifies:
        return []
    reasons = [] if met.op.constant_input else [("input", _sees_no_live_input(met))]
    if not met.rule.normalised:
        reasons.append(("weights", _weights_alone_rectify(met)))
    return [*reasons, ("bias", met.unshifted > 0)]


def _sees_no_live_input(met: _Met) -> tf.Tensor:
    live = _mask(tf.abs(met.input) > met.input_limit)
    return sum_receptive_field(met.op, live, met.kernel_shape) == 0


def _weights_alone_rectify(met: _Met) -> tf.Tensor:
    """Whether no weight has the sign of the live input that it meets."""
    if met.op.constant_input:
        return met.op.apply(met.input, met.kernel) <= 0
    return _pairs_of_one_sign(met.op, met.input, met.kernel, met.input_limit) == 0


def _pairs_of_one_sign(op: LinearOp, input: tf.Tensor, kernel: tf.Tensor, limit: float) -> tf.Tensor:
    """For each unit, the number of live inputs that meet a weight of their own sign."""
    positive = op.apply(_mask(input > limit), _mask(kernel > 0))
    negative = _mask(input < -limit)
    return tf.cond(  # behind a ReLU there are no negative inputs
        tf.reduce_any(negative > 0),
        lambda: positive + op.apply(negative, _mask(kernel < 0)),
        lambda: positive,
    )


def _saturated(met: _Met) -> list[Condition]:
    """Why units beyond the saturation point are off, in this order; nothing if φ has no such point."""
    point, size = met.rule.saturation_point, tf.abs(met.unshifted)
    if not point:
        return []
    input_excess, kernel_excess = _input_excess(met), _kernel_excess(met)
    return [
        ("bias", size < point),
        ("input", (input_excess >= kernel_excess) & (size / input_excess < point)),
        ("weights", (kernel_excess > input_excess) & (size / kernel_excess < point)),
    ]


def _kernel_excess(met: _Met) -> tf.Tensor:
    """How far a unit's weights exceed a healthy scale; at least 1."""
    squares = tf.reduce_sum(met.kernel * met.kernel, axis=_all_but_last(met.kernel))
    return tf.maximum(tf.sqrt(squares) / _HEALTHY_KERNEL_NORM, 1.0)


def _input_excess(met: _Met) -> tf.Tensor | float:
    """How far the inputs that a unit meets exceed a*; at least 1."""
    if met.op.constant_input:
        return 1.0
    input, shape = met.input, met.kernel_shape
    mean_square = tf.math.divide_no_nan(
        sum_receptive_field(met.op, input * input, shape),
        sum_receptive_field(met.op, tf.ones_like(input), shape),
    )
    return tf.maximum(tf.sqrt(mean_square) / met.near_zero.activation_scale, 1.0)


def _mask(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.float32)


def _all_but_last(array: tf.Tensor) -> list[int]:
    return list(range(array.shape.rank - 1))
