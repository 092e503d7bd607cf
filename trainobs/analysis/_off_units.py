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
from trainobs.analysis._term_sums import sum_receptive_field
from trainobs.linear_ops import LinearOp
from trainobs.near_zero import NearZero

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

    Returns
    -------
    dict of str to tensor of shape (j,)
        For each of `OFF_REASONS`.
    """
    free = activation_input if offset is None else activation_input - offset
    remaining, counts = off, {}
    low = (activation_input <= 0) & rule.rectifies
    for reason, holds in _rectified(op, rule, near_zero, input, kernel, free) if rule.rectifies else ():
        found = remaining & low & holds
        counts[reason] = _per_unit(found)
        remaining &= ~found
    saturated = remaining & ~low
    for reason, holds in (
        _saturated(op, rule, near_zero, input, kernel, free) if rule.saturation_point else ()
    ):
        found = saturated & holds
        counts[reason] = counts.get(reason, 0.0) + _per_unit(found)
        saturated &= ~found
        remaining &= ~found
    counts["combination"] = _per_unit(remaining)
    nothing = tf.zeros_like(counts["combination"])
    return {reason: counts.get(reason, nothing) for reason in OFF_REASONS}


def _rectified(
    op: LinearOp, rule: OffRule, near_zero: NearZero, input: Tensor, kernel: Tensor, free: Tensor
) -> list[tuple[str, Tensor]]:
    shape = tuple(kernel.shape)
    limit = near_zero.rtol * near_zero.activation_scale
    live = tf.cast(tf.abs(input) > limit, tf.float32)
    reasons = [("input", sum_receptive_field(op, live, shape) == 0)]
    if not rule.normalised:
        same_sign = op.apply(_mask(input > limit), _mask(kernel > 0)) + op.apply(
            _mask(input < -limit), _mask(kernel < 0)
        )
        reasons.append(("weights", same_sign == 0))
    return [*reasons, ("bias", free > 0)]


def _saturated(
    op: LinearOp, rule: OffRule, near_zero: NearZero, input: Tensor, kernel: Tensor, free: Tensor
) -> list[tuple[str, Tensor]]:
    shape, size = tuple(kernel.shape), tf.abs(free)
    mean_square = tf.math.divide_no_nan(
        sum_receptive_field(op, input * input, shape), sum_receptive_field(op, tf.ones_like(input), shape)
    )
    input_excess = tf.maximum(tf.sqrt(mean_square) / near_zero.activation_scale, 1.0)
    norm = tf.sqrt(tf.reduce_sum(kernel * kernel, axis=list(range(len(shape) - 1))))
    kernel_excess = tf.maximum(norm / _HEALTHY_KERNEL_NORM, 1.0)
    point = rule.saturation_point
    return [
        ("bias", size < point),
        ("input", (input_excess >= kernel_excess) & (size / input_excess < point)),
        ("weights", (kernel_excess > input_excess) & (size / kernel_excess < point)),
    ]


def _mask(condition: Tensor) -> Tensor:
    return tf.cast(condition, tf.float32)


def _per_unit(condition: Tensor) -> Tensor:
    return tf.reduce_sum(_mask(condition), axis=list(range(condition.shape.rank - 1)))
