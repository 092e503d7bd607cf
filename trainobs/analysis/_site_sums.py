"""One pass over a site's arrays: every sum that its report figures are ratios of.

| symbol | name         | shape        |                                     |
|--------|--------------|--------------|-------------------------------------|
| a      | `input`      | (n, *p, i)   | input of the kernel                 |
| s      | `slope`      | (n, *q, j)   | φ'(Z)                               |
| h      | `h`          | (n, *q, j)   | n · dJ/dA, n = positions            |
| e      | `e`          | (n, *q, j)   | n · dJ/dZ                           |

The sums are pure TensorFlow, so a Recorder can also compute them inside the train step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.analysis._off_units import OffRule, off_reasons
from trainobs.analysis._term_sums import sum_inputs, sum_products, sum_units
from trainobs.linear_ops import LinearOp
from trainobs.near_zero import NearZero
from trainobs.recording import SiteRecord

Tensor = Any

#: Squares beyond this size cannot change a verdict, but could overflow float32 when multiplied.
_LARGEST = 1e9


@dataclasses.dataclass(frozen=True)
class SiteRule:
    """What the sums of a site depend on besides its arrays."""

    op: LinearOp
    off_limit: float
    off_rule: OffRule
    near_zero: NearZero

    @classmethod
    def of(cls, site: SiteRecord, near_zero: NearZero) -> SiteRule:
        return cls(
            op=site.op,
            off_limit=site.activation.off_limit(near_zero.slope_atol),
            off_rule=OffRule.of(site.activation, site.normalised, near_zero),
            near_zero=near_zero,
        )


def sum_site(
    site: SiteRecord, near_zero: NearZero, gradient_scale: float, positions: int
) -> dict[str, np.ndarray]:
    """Compute the additive sums of one site.

    Parameters
    ----------
    site : SiteRecord
        One call of a layer with a kernel.
    near_zero : NearZero
        The thresholds.
    gradient_scale : float
        g*, against which the single values of backprop are held.
    positions : int
        n that gradients are multiplied with; the calls of a shared layer use that of the first.

    Returns
    -------
    dict of str to array
        See `site_sums`.
    """
    rule = SiteRule.of(site, near_zero)
    function = _compiled(rule, tuple(site.kernel.shape))
    shape = site.preactivation.shape
    layout = site.op.channels_last
    sums = function(
        input=_float32(layout(site.input)),
        kernel=_float32(site.kernel),
        slope=_float32(layout(site.slope)),
        output_gradient=_gradient(site.output_gradient, shape, layout),
        preactivation_gradient=_gradient(site.preactivation_gradient, shape, layout),
        activation_input=_float32(layout(site.activation_input)),
        offset=None if site.offset is None else _float32(site.offset),
        gradient_scale=tf.constant(gradient_scale, tf.float32),
        positions=tf.constant(positions, tf.float32),
    )
    return {name: value.numpy() for name, value in sums.items()}


@functools.lru_cache(maxsize=512)
def _compiled(rule: SiteRule, kernel_shape: tuple[int, ...]) -> Callable[..., dict[str, Tensor]]:
    del kernel_shape  # one function per shape: a generalised trace would not know its ranks
    return tf.function(functools.partial(site_sums, rule), reduce_retracing=True)


def site_sums(
    rule: SiteRule,
    *,
    input: Tensor,
    kernel: Tensor,
    slope: Tensor,
    output_gradient: Tensor,
    preactivation_gradient: Tensor,
    activation_input: Tensor,
    offset: Tensor | None,
    gradient_scale: Tensor,
    positions: Tensor,
) -> dict[str, Tensor]:
    """Every additive sum of one site, arrays channels-last.

    Returns
    -------
    dict of str to tensor
        ``terms`` (*k, 1, 1); counts of near-zero terms ``input_zero`` (*k, i, 1),
        ``slope_zero``, ``backprop_zero``, ``slope_or_backprop_zero`` (*k, 1, j) and
        ``input_and_slope_live`` (*k, i, j); sums of squares ``*_sq`` of the products; ``gradient``
        Σ a·e (*k, i, j); ``off`` and ``off_*`` (j,)
        over ``unit_positions`` (); ``input_channel_zero`` and
        ``input_channel_sq`` (i,) with ``input_size`` and
        ``input_non_finite`` ().
    """
    near_zero, op = rule.near_zero, rule.op
    h, e = positions * output_gradient, positions * preactivation_gradient
    off = tf.abs(slope) <= rule.off_limit
    silent = tf.abs(h) <= near_zero.rtol * gradient_scale
    sums = _term_sums(rule, input, kernel, slope, h, e, off, silent)
    reasons = off_reasons(
        op,
        rule.off_rule,
        near_zero,
        off=off,
        input=input,
        kernel=kernel,
        activation_input=activation_input,
        offset=offset,
    )
    axes = list(range(slope.shape.rank - 1))
    sums["unit_positions"] = tf.cast(tf.reduce_prod(tf.shape(slope)[:-1]), tf.float32)
    sums["off"] = tf.reduce_sum(_mask(off), axes)
    sums |= {f"off_{reason}": count for reason, count in reasons.items()}
    sums |= {"output_gradient_sq": tf.reduce_sum(h * h), "preactivation_gradient_sq": tf.reduce_sum(e * e)}
    return sums | _input_sums(input, near_zero)


def _term_sums(
    rule: SiteRule, a: Tensor, kernel: Tensor, s: Tensor, h: Tensor, e: Tensor, off: Tensor, silent: Tensor
) -> dict[str, Tensor]:
    op, shape = rule.op, tuple(kernel.shape)
    a_zero = _mask(tf.abs(a) <= rule.near_zero.rtol * rule.near_zero.activation_scale)
    a2, s2, h2, e2 = map(_square, (a, s, h, e))
    per_unit = {
        "terms": tf.ones_like(s[..., :1]),
        "slope_zero": _mask(off),
        "backprop_zero": _mask(silent),
        "slope_or_backprop_zero": _mask(off | silent),
        "slope_sq": s2,
        "backprop_sq": h2,
        "slope_backprop_sq": e2,
    }
    sums = dict(zip(per_unit, sum_units(op, a, list(per_unit.values()), shape), strict=True))
    sums["input_zero"] = sum_inputs(op, a_zero, s, shape)
    sums["input_sq"] = sum_inputs(op, a2, s, shape)
    products = sum_products(op, a2, [s2, h2, e2], shape)
    sums |= dict(zip(("input_slope_sq", "input_backprop_sq", "all_sq"), products, strict=True))
    (sums["input_and_slope_live"],) = sum_products(op, 1.0 - a_zero, [_mask(~off)], shape)
    (sums["gradient"],) = sum_products(op, a, [e], shape)
    return sums


def _input_sums(a: Tensor, near_zero: NearZero) -> dict[str, Tensor]:
    axes = list(range(a.shape.rank - 1))
    zero = tf.abs(a) <= near_zero.rtol * near_zero.activation_scale
    return {
        "input_size": tf.cast(tf.reduce_prod(tf.shape(a)[:-1]), tf.float32),
        "input_channel_zero": tf.reduce_sum(_mask(zero), axes),
        "input_channel_sq": tf.reduce_sum(_square(a), axes),
        "input_non_finite": tf.reduce_sum(_mask(~tf.math.is_finite(a))),
    }


def _square(values: Tensor) -> Tensor:
    return tf.square(tf.clip_by_value(values, -_LARGEST, _LARGEST))


def _mask(condition: Tensor) -> Tensor:
    return tf.cast(condition, tf.float32)


def _float32(array: Any) -> Tensor:
    return tf.cast(tf.convert_to_tensor(array), tf.float32)


def _gradient(array: Any, shape: tuple[int, ...], layout: Callable[[Any], Any]) -> Tensor:
    """A gradient that never came is exactly zero: nothing of the loss depends on the tensor."""
    return _float32(layout(np.zeros(shape, np.float32) if array is None else array))
