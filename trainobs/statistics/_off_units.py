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
from typing import Any

import tensorflow as tf

from trainobs.activations import Activation
from trainobs.linear_ops import LinearOp
from trainobs.statistics._term_sums import sum_receptive_field
from trainobs.thresholds import NearZero

Tensor = Any
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
    off: Tensor,
    input: Tensor,
    kernel: Tensor,
    activation_input: Tensor,
    offset: Tensor,
) -> dict[str, Tensor]:
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
    free = activation_input if offset is None else activation_input - offset
    rectified = _rectified(op, rule, near_zero, input, kernel, free) if rule.rectifies else []
    saturated = _saturated(op, rule, near_zero, input, kernel, free) if rule.saturation_point else []
    low = tf.cast(activation_input <= 0, tf.float32) if rectified and saturated else None
    parts = [
        _first_matches(off if low is None else off * low, rectified),
        _first_matches(off if low is None else off * (1.0 - low), saturated),
    ]
    counts = {reason: sum(part.get(reason, 0.0) for part in parts) for reason in OFF_REASONS[:-1]}
    nothing = tf.zeros(off.shape[-1:])
    counts = {reason: nothing + count for reason, count in counts.items()}
    counts["combination"] = tf.reduce_sum(off, _all_but_last(off)) - sum(counts.values())
    return counts


def _first_matches(off: Tensor, conditions: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Per unit, how many off pairs each condition is the first to hold for."""
    counts, counted, holds = {}, 0.0, None
    for reason, condition in conditions:
        holds = condition if holds is None else holds | condition
        so_far = tf.reduce_sum(tf.where(holds, off, 0.0), _all_but_last(off))
        counts[reason], counted = so_far - counted, so_far
    return counts


def _rectified(
    op: LinearOp, rule: OffRule, near_zero: NearZero, input: Tensor, kernel: Tensor, free: Tensor
) -> list[tuple[str, Tensor]]:
    shape = tuple(kernel.shape)
    if op.constant_input:
        met = [] if rule.normalised else [("weights", op.apply(input, kernel) <= 0)]
        return [*met, ("bias", free > 0)]
    limit = near_zero.rtol * near_zero.activation_scale
    live = tf.cast(tf.abs(input) > limit, tf.float32)
    reasons = [("input", sum_receptive_field(op, live, shape) == 0)]
    if not rule.normalised:
        reasons.append(("weights", _pairs_of_one_sign(op, input, kernel, limit) == 0))
    return [*reasons, ("bias", free > 0)]


def _pairs_of_one_sign(op: LinearOp, input: Tensor, kernel: Tensor, limit: float) -> Tensor:
    """For each unit, how many live inputs meet a weight of their own sign."""
    positive = op.apply(_mask(input > limit), _mask(kernel > 0))
    negative = _mask(input < -limit)
    return tf.cond(  # behind a ReLU there are no negative inputs
        tf.reduce_any(negative > 0),
        lambda: positive + op.apply(negative, _mask(kernel < 0)),
        lambda: positive,
    )


def _saturated(
    op: LinearOp, rule: OffRule, near_zero: NearZero, input: Tensor, kernel: Tensor, free: Tensor
) -> list[tuple[str, Tensor]]:
    shape, size = tuple(kernel.shape), tf.abs(free)
    input_excess = 1.0 if op.constant_input else _input_excess(op, near_zero, input, shape)
    norm = tf.sqrt(tf.reduce_sum(kernel * kernel, axis=list(range(len(shape) - 1))))
    kernel_excess = tf.maximum(norm / _HEALTHY_KERNEL_NORM, 1.0)
    point = rule.saturation_point
    return [
        ("bias", size < point),
        ("input", (input_excess >= kernel_excess) & (size / input_excess < point)),
        ("weights", (kernel_excess > input_excess) & (size / kernel_excess < point)),
    ]


def _input_excess(op: LinearOp, near_zero: NearZero, input: Tensor, shape: tuple[int, ...]) -> Tensor:
    mean_square = tf.math.divide_no_nan(
        sum_receptive_field(op, input * input, shape), sum_receptive_field(op, tf.ones_like(input), shape)
    )
    return tf.maximum(tf.sqrt(mean_square) / near_zero.activation_scale, 1.0)


def _mask(condition: Tensor) -> Tensor:
    return tf.cast(condition, tf.float32)


def _all_but_last(array: Tensor) -> list[int]:
    return list(range(array.shape.rank - 1))
