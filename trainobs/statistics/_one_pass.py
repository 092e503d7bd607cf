"""One pass over a site's arrays, on the device: every sum that its figures are ratios of.

| symbol | name                     | shape        |                                     |
|--------|--------------------------|--------------|-------------------------------------|
| a      | `input`                  | (n, *p, i)   | input of the kernel                 |
| s      | `slope`                  | (n, *q, j)   | φ'(Z)                               |
| dJ/dA  | `output_gradient`        | (n, *q, j)   | h = n · dJ/dA, n = positions        |
| d      | `preactivation_gradient` | (n, *q, j)   | dJ/dZ, e = n · dJ/dZ                |
| Z      | `activation_input`       | (n, *q, j)   | what φ is applied to                |

The order of work: arrays over units, their sums over terms, products with the input, reasons of off
units. Sums of gradients are scaled to h and e at the end (`per_position`).
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from trainobs.linear_ops import LinearOp, Shape, weight_vjp
from trainobs.records import SiteRecord
from trainobs.statistics._constant_input import of_constant_input
from trainobs.statistics._off_units import OFF_REASONS, OffRule, off_reasons
from trainobs.statistics._schema import per_position
from trainobs.statistics._squares import square, sum_of_squares
from trainobs.statistics._term_sums import sum_inputs, sum_units
from trainobs.tensors import tf
from trainobs.thresholds import NearZero

Sums: TypeAlias = "dict[str, tf.Tensor]"


@dataclasses.dataclass(frozen=True)
class SiteRule:
    """What the sums of a site depend on besides its arrays."""

    op: LinearOp
    off_limit: float
    off_rule: OffRule
    near_zero: NearZero
    binary_slope: bool
    never_off: bool
    linear: bool

    @classmethod
    def of(cls, site: SiteRecord, near_zero: NearZero) -> SiteRule:
        """The rule of a recorded site."""
        return cls(
            op=site.op,
            off_limit=site.activation.off_limit(near_zero.slope_atol),
            off_rule=OffRule.of(site.activation, site.normalised, near_zero),
            near_zero=near_zero,
            binary_slope=site.logits or set(site.activation.probed_slopes) in ({0.0, 1.0}, {1.0}),
            never_off=site.logits or site.activation.linear or site.role == "bias",
            linear=site.activation.linear and site.output_gradient is site.preactivation_gradient,
        )

    @property
    def input_limit(self) -> float:
        """Inputs up to this are near zero."""
        return self.near_zero.rtol * self.near_zero.activation_scale


@dataclasses.dataclass(frozen=True, eq=False)
class SiteTensors:
    """The arrays of the legend, channels last, with what is the same for all samples."""

    input: tf.Tensor
    kernel: tf.Tensor
    slope: tf.Tensor
    output_gradient: tf.Tensor
    preactivation_gradient: tf.Tensor
    activation_input: tf.Tensor
    offset: tf.Tensor | None
    gradient_scale: tf.Tensor
    positions: tf.Tensor

    @property
    def kernel_shape(self) -> Shape:
        """(*k, i, j)."""
        return tuple(self.kernel.shape)


def one_pass(rule: SiteRule, **tensors: tf.Tensor) -> Sums:
    """Every additive sum of one site.

    Parameters
    ----------
    rule : SiteRule
    **tensors
        The fields of `SiteTensors`.

    Returns
    -------
    dict of str to tensor
        The sums over terms, units, preactivations and inputs (see `_schema`).
    """
    site = SiteTensors(**tensors)
    units = _over_units(rule, site)
    of_batch = {name: tf.reduce_sum(values, axis=0, keepdims=True) for name, values in units.items()}
    sums = _over_terms(rule, site, units, of_batch) | _unit_sums(site, of_batch)
    sums = per_position(sums, site.positions)
    sums |= per_position(_gradient_squares(site), tf.cast(site.positions, tf.float64))
    sums["off"] = sums["unit_slope_zero"]
    sums["output_gradient_sq"] = tf.reduce_sum(sums["unit_backprop_sq"])
    sums["preactivation_gradient_sq"] = tf.reduce_sum(sums["unit_slope_backprop_sq"])
    return sums | _off_counts(rule, site, units["slope_zero"]) | _input_sums(rule, site.input)


def _over_units(rule: SiteRule, site: SiteTensors) -> Sums:
    """What is summed over the terms of each unit: shape (n, *q, j), of terms (n, *q, 1)."""
    size, limit = tf.abs(site.output_gradient), rule.near_zero.rtol * site.gradient_scale / site.positions
    off, silent = _is_off(rule, site), size <= limit
    return {
        "terms": tf.ones_like(site.slope[..., :1]),
        "slope_zero": _mask(off),
        "backprop_zero": _mask(silent),
        "slope_or_backprop_zero": _mask(off | silent),
        "slope_sq": site.slope if rule.binary_slope else square(site.slope),
        "backprop_sq": square(site.output_gradient),
        "slope_backprop_sq": square(site.preactivation_gradient),
    }


def _is_off(rule: SiteRule, site: SiteTensors) -> tf.Tensor:
    off = site.slope == 0.0 if rule.off_limit == 0.0 else tf.abs(site.slope) <= rule.off_limit
    return off & (site.activation_input == site.activation_input)  # what is not a number is not off


def _over_terms(rule: SiteRule, site: SiteTensors, units: Sums, of_batch: Sums) -> Sums:
    """All sums over the terms of every weight."""
    op, shape = rule.op, site.kernel_shape
    if op.constant_input:
        return of_constant_input(op, site.input, units, site.preactivation_gradient, shape)
    if rule.linear:
        return _of_linear_units(rule, site, units["backprop_sq"], of_batch)
    sums = dict(zip(units, sum_units(op, site.input, list(of_batch.values()), shape), strict=True))
    return sums | _products(rule, site, units)


def _products(rule: SiteRule, site: SiteTensors, units: Sums) -> Sums:
    """The sums over products of input and unit: five full VJPs."""
    op, a, d, shape = rule.op, site.input, site.preactivation_gradient, site.kernel_shape
    a_live, a_sq = _live(rule, a), square(a)
    s_live = units["slope_sq"] if rule.binary_slope else 1.0 - units["slope_zero"]
    return {
        "input_zero": sum_inputs(op, 1.0 - a_live, d, shape),
        "input_sq": sum_inputs(op, a_sq, d, shape),
        "input_slope_sq": weight_vjp(op, a_sq, units["slope_sq"], shape),
        "input_backprop_sq": weight_vjp(op, a_sq, units["backprop_sq"], shape),
        "all_sq": weight_vjp(op, a_sq, units["slope_backprop_sq"], shape),
        "input_and_slope_live": weight_vjp(op, a_live, s_live, shape),
        "gradient": weight_vjp(op, a, d, shape),
    }


def _of_linear_units(rule: SiteRule, site: SiteTensors, h_sq: tf.Tensor, of_batch: Sums) -> Sums:
    """All sums where every slope is 1 and dJ/dZ = dJ/dA: two full VJPs, the others follow."""
    op, a, d, shape = rule.op, site.input, site.preactivation_gradient, site.kernel_shape
    names = ("terms", "backprop_zero", "backprop_sq")
    terms, silent, backprop_sq = sum_units(op, a, [of_batch[name] for name in names], shape)
    input_sq = sum_inputs(op, square(a), d, shape)
    input_zero = sum_inputs(op, 1.0 - _live(rule, a), d, shape)
    all_sq = weight_vjp(op, square(a), h_sq, shape)
    return {
        "terms": terms,
        "slope_zero": 0.0 * silent,
        "backprop_zero": silent,
        "slope_or_backprop_zero": silent,
        "slope_sq": terms + 0.0 * silent,
        "backprop_sq": backprop_sq,
        "slope_backprop_sq": backprop_sq,
        "input_zero": input_zero,
        "input_sq": input_sq,
        "input_slope_sq": input_sq,
        "input_backprop_sq": all_sq,
        "all_sq": all_sq,
        "input_and_slope_live": terms - input_zero,
        "gradient": weight_vjp(op, a, d, shape),
    }


def _unit_sums(site: SiteTensors, of_batch: Sums) -> Sums:
    """The same sums, over the positions of each unit."""
    axes = list(range(site.slope.shape.rank - 1))
    sums = {f"unit_{name}": tf.reduce_sum(values, axes) for name, values in of_batch.items()}
    sums["unit_positions"] = tf.reduce_sum(sums.pop("unit_terms"))
    return sums | {"unit_gradient": tf.reduce_sum(site.preactivation_gradient, axes)}


def _gradient_squares(site: SiteTensors) -> Sums:
    """Those of the unit sums that gains are made of, not only compared with limits: never 0 by rounding."""
    axes = list(range(site.slope.shape.rank - 1))
    return {
        "unit_backprop_sq": sum_of_squares(site.output_gradient, axes),
        "unit_slope_backprop_sq": sum_of_squares(site.preactivation_gradient, axes),
    }


def _off_counts(rule: SiteRule, site: SiteTensors, off: tf.Tensor) -> Sums:
    """Counts of `off_reasons`, named as sums."""
    none = {reason: tf.zeros(off.shape[-1:]) for reason in OFF_REASONS}

    def by_reason() -> Sums:
        return off_reasons(
            rule.op,
            rule.off_rule,
            rule.near_zero,
            off=off,
            input=site.input,
            kernel=site.kernel,
            activation_input=site.activation_input,
            offset=site.offset,
        )

    counts = none if rule.never_off else tf.cond(tf.reduce_any(off > 0), by_reason, lambda: none)
    return {f"off_{reason}": count for reason, count in counts.items()}


def _input_sums(rule: SiteRule, a: tf.Tensor) -> Sums:
    if rule.op.constant_input:
        a = tf.ones((tf.size(a), 1))
    axes, wide = list(range(a.shape.rank - 1)), tf.cast(a, tf.float64)  # to tell small deviations
    return {
        "input_size": tf.cast(tf.reduce_prod(tf.shape(a)[:-1]), tf.float32),
        "input_channel_zero": tf.reduce_sum(_mask(tf.abs(a) <= rule.input_limit), axes),
        "input_channel_sq": tf.reduce_sum(tf.square(wide), axes),
        "input_channel_sum": tf.reduce_sum(wide, axes),
        "input_channel_negative": tf.reduce_sum(tf.nn.relu(-wide), axes),
        "input_non_finite": tf.reduce_sum(_mask(~tf.math.is_finite(a))),
    }


def _live(rule: SiteRule, a: tf.Tensor) -> tf.Tensor:
    return _mask(tf.abs(a) > rule.input_limit)


def _mask(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.float32)
