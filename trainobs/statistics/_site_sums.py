"""One pass over a site's arrays: every sum that its report figures are ratios of.

| symbol | name         | shape        |                                     |
|--------|--------------|--------------|-------------------------------------|
| a      | `input`      | (n, *p, i)   | input of the kernel                 |
| s      | `slope`      | (n, *q, j)   | φ'(Z)                               |
| h      | `h`          | (n, *q, j)   | n · dJ/dA, n = positions            |
| e      | `e`          | (n, *q, j)   | n · dJ/dZ                           |

Scales are summed by `_scale_sums` where a kernel feeds the same units.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.linear_ops import LinearOp, Shape, weight_vjp
from trainobs.records import SiteRecord
from trainobs.statistics._off_units import OFF_REASONS, OffRule, off_reasons
from trainobs.statistics._scale_sums import scale_sums
from trainobs.statistics._term_sums import OF_UNITS, sum_inputs, sum_units
from trainobs.tensors import as_array, as_tensor
from trainobs.thresholds import NearZero

Tensor = Any

#: Squares beyond this size cannot change a verdict, but could overflow float32 when multiplied.
_LARGEST_SQUARE = 1e18
_CACHED_BYTES = 8 * 2**20


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
        return cls(
            op=site.op,
            off_limit=site.activation.off_limit(near_zero.slope_atol),
            off_rule=OffRule.of(site.activation, site.normalised, near_zero),
            near_zero=near_zero,
            binary_slope=site.logits or set(site.activation.probed_slopes) in ({0.0, 1.0}, {1.0}),
            never_off=site.logits or site.activation.linear or site.role == "bias",
            linear=site.activation.linear and site.output_gradient is site.preactivation_gradient,
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
    rule, op = SiteRule.of(site, near_zero), site.op
    kernel = _float32(op.canonical_kernel(site.kernel))
    units, shape = op.canonical_units, site.preactivation.shape
    arrays = {
        "input": op.canonical_input(site.input if site.rows is None else site.places),
        "slope": units(site.slope),
        "output_gradient": units(_arriving(site, shape)),
        "preactivation_gradient": units(_gradient(site.preactivation_gradient, shape)),
        "activation_input": units(site.activation_input),
    }
    fixed = {
        "kernel": kernel,
        "offset": None if site.offset is None else _float32(_offset(op, site.offset, shape, site.units)),
        "gradient_scale": tf.constant(gradient_scale, tf.float32),
        "positions": tf.constant(positions, tf.float32),
    }
    function = _function(rule, tuple(kernel.shape), arrays["slope"].ndim)
    total: dict[str, np.ndarray] | None = None
    for window in _windows(arrays["slope"], kernel):
        part = function(**{name: _floats(array[window]) for name, array in arrays.items()}, **fixed)
        found = {name: as_array(value) for name, value in part.items()}
        total = found if total is None else {name: total[name] + value for name, value in found.items()}
    assert total is not None
    unknown = _BACKPROP_ZERO if _is_unread(site) else ()
    if unknown and site.preactivation_gradient is None:
        unknown += _EITHER_ZERO
    return total | {name: np.full_like(total[name], np.nan) for name in unknown}


def sum_scale(
    site: SiteRecord, of_units: dict[str, np.ndarray], near_zero: NearZero, positions: int
) -> dict[str, np.ndarray]:
    """Compute the additive sums of a scale whose units a kernel feeds.

    Parameters
    ----------
    site : SiteRecord
    of_units : dict of str to array
        The sums of that kernel.
    near_zero : NearZero
    positions : int
        As of `sum_site`.

    Returns
    -------
    dict of str to array
        See `site_sums`.
    """
    op, shape = site.op, site.preactivation.shape
    arrays = {
        "input": op.canonical_input(site.input),
        "slope": op.canonical_units(site.slope),
        "output_gradient": op.canonical_units(_arriving(site, shape)),
        "preactivation_gradient": op.canonical_units(_gradient(site.preactivation_gradient, shape)),
    }
    rows = {
        name: np.asarray(array, np.float32).reshape(-1, array.shape[-1]) for name, array in arrays.items()
    }
    limit = site.activation.off_limit(near_zero.slope_atol)
    return scale_sums(of_units, near_zero, **rows, positions=positions, slope_limit=limit)


def count_near_zero_backprop(
    site: SiteRecord, output_gradient: np.ndarray, near_zero: NearZero, gradient_scale: float
) -> np.ndarray:
    """Of each weight, how many terms have an output gradient near zero, given any (canonical) gradient.

    Returns
    -------
    array of shape (*k, 1, j)
    """
    silent = np.abs(output_gradient) <= near_zero.rtol * gradient_scale / site.positions
    of_batch = as_tensor(np.sum(silent, axis=0, keepdims=True, dtype=np.float32))
    input = tf.ones(site.op.canonical_input(site.input[:1]).shape)
    (found,) = sum_units(site.op, input, [of_batch], site.op.canonical_kernel(site.kernel).shape)
    return np.asarray(found, np.float64)


def _offset(op: LinearOp, offset: np.ndarray, shape: tuple[int, ...], units: int) -> np.ndarray:
    """What was added last before the activation: one number per unit, or for a sample's units (1, *q, j)."""
    if offset.ndim == 1 and offset.size == units:
        return offset
    own = offset.reshape((1,) * (len(shape) - offset.ndim) + offset.shape)
    return np.asarray(op.canonical_units(np.broadcast_to(own, (1, *shape[1:]))))


def _windows(unit: np.ndarray, kernel: Tensor) -> list[slice]:
    """Cut the batch so that a unit array fits the processor's cache, but is no smaller than the
    kernel: the sums of the parts are added."""
    samples, size = unit.shape[0], max(_CACHED_BYTES, 4 * math.prod(kernel.shape))
    step = max(1, samples * size // max(unit.nbytes, 1))
    return [slice(start, start + step) for start in range(0, samples, step)]


def _function(rule: SiteRule, kernel_shape: Shape, rank: int) -> Callable[..., dict[str, Tensor]]:
    """`site_sums` of a rule; compiled, unless it is small work on shapes that change with the batch."""
    if rule.op.constant_input:
        return functools.partial(site_sums, rule)
    return _compiled(rule, kernel_shape, rank)


@functools.lru_cache(maxsize=512)
def _compiled(rule: SiteRule, kernel_shape: Shape, rank: int) -> Callable[..., dict[str, Tensor]]:
    """One function for each kernel shape and rank, traced once more when the batch size changes."""
    del kernel_shape, rank  # a trace that was generalised over them would not know its ranks
    return tf.function(functools.partial(site_sums, rule), autograph=False, reduce_retracing=True)


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
    near_zero, axes = rule.near_zero, list(range(slope.shape.rank - 1))
    off = slope == 0.0 if rule.off_limit == 0.0 else tf.abs(slope) <= rule.off_limit
    off &= activation_input == activation_input  # a unit that is not a number is not off
    silent = tf.abs(output_gradient) <= near_zero.rtol * gradient_scale / positions
    units = {
        "terms": tf.ones_like(slope[..., :1]),
        "slope_zero": _mask(off),
        "backprop_zero": _mask(silent),
        "slope_or_backprop_zero": _mask(off | silent),
        "slope_sq": slope if rule.binary_slope else _square(slope),
        "backprop_sq": _square(output_gradient),
        "slope_backprop_sq": _square(preactivation_gradient),
    }
    of_batch = {name: tf.reduce_sum(values, axis=0, keepdims=True) for name, values in units.items()}
    shape = tuple(kernel.shape)
    if rule.linear and not rule.op.constant_input:
        sums = _of_linear_units(rule, input, units, preactivation_gradient, of_batch, shape)
    elif rule.op.constant_input:
        sums = _of_constant_input(rule.op, input, units, preactivation_gradient, shape)
    else:
        sums = dict(zip(units, sum_units(rule.op, input, list(of_batch.values()), shape), strict=True))
        sums |= _products(rule, input, units, preactivation_gradient, shape)
    sums |= _off_counts(rule, units["slope_zero"], input, kernel, activation_input, offset)
    sums |= {f"unit_{name}": tf.reduce_sum(values, axes) for name, values in of_batch.items()}
    sums["unit_gradient"] = tf.reduce_sum(preactivation_gradient, axes)
    sums = _per_position(sums, positions)
    sums["off"] = sums["unit_slope_zero"]
    sums["unit_positions"] = tf.reduce_sum(sums.pop("unit_terms"))
    sums["output_gradient_sq"] = tf.reduce_sum(sums["unit_backprop_sq"])
    sums["preactivation_gradient_sq"] = tf.reduce_sum(sums["unit_slope_backprop_sq"])
    return sums | _input_sums(rule.op, input, near_zero)


def _of_constant_input(
    op: LinearOp, input: Tensor, units: dict[str, Tensor], d: Tensor, shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """The sums where every input is 1: those over products are those over the units."""
    found = {
        name: weight_vjp(op, input, values, (*shape[:-1], values.shape[-1])) for name, values in units.items()
    }
    return with_input_of_one(found) | {"gradient": weight_vjp(op, input, d, shape)}


def with_input_of_one(units: dict[str, Any]) -> dict[str, Any]:
    """The sums over terms whose inputs are all 1, from the sums over their units."""
    return units | {
        "input_zero": 0.0 * units["terms"],
        "input_sq": units["terms"],
        "input_slope_sq": units["slope_sq"],
        "input_backprop_sq": units["backprop_sq"],
        "all_sq": units["slope_backprop_sq"],
        "input_and_slope_live": units["terms"] - units["slope_zero"],
    }


def bias_sums(of_units: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sums of a bias, from those of the kernel whose units it shifts: a kernel of input 1."""
    names = ("slope_zero", "backprop_zero", "slope_or_backprop_zero", "slope_sq", "backprop_sq")
    units = {name: of_units[f"unit_{name}"][None, :] for name in (*names, "slope_backprop_sq")}
    positions = of_units["unit_positions"]
    sums = with_input_of_one({"terms": positions.reshape(1, 1), **units})
    also = OF_UNITS | {"preactivation_gradient_sq", "unit_slope_backprop_sq", "unit_gradient"}
    one = np.ones(1, np.float32)
    inputs = {"input_channel_zero": 0 * one, "input_channel_sq": positions * one}
    rest = {"input_size": positions, "input_non_finite": np.float32(0)}
    shared = {name: of_units[name] for name in also}
    return {**sums, **shared, **inputs, **rest, "gradient": of_units["unit_gradient"][None, :]}


def _products(
    rule: SiteRule, a: Tensor, units: dict[str, Tensor], d: Tensor, shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """The sums over products of input and unit: five full VJPs."""
    op = rule.op
    a_live, a_sq = _live(rule, a), _square(a)
    s_sq, h_sq, e_sq = units["slope_sq"], units["backprop_sq"], units["slope_backprop_sq"]
    sums = {"input_zero": sum_inputs(op, 1.0 - a_live, d, shape), "input_sq": sum_inputs(op, a_sq, d, shape)}
    for name, unit in (("input_slope_sq", s_sq), ("input_backprop_sq", h_sq), ("all_sq", e_sq)):
        sums[name] = weight_vjp(op, a_sq, unit, shape)
    s_live = s_sq if rule.binary_slope else 1.0 - units["slope_zero"]
    sums["input_and_slope_live"] = weight_vjp(op, a_live, s_live, shape)
    sums["gradient"] = weight_vjp(op, a, d, shape)
    return sums


def _of_linear_units(
    rule: SiteRule,
    a: Tensor,
    units: dict[str, Tensor],
    d: Tensor,
    of_batch: dict[str, Tensor],
    shape: tuple[int, ...],
) -> dict[str, Tensor]:
    """All sums where every slope is 1 and dJ/dZ = dJ/dA: two full VJPs, the others follow."""
    names = ("terms", "backprop_zero", "backprop_sq")
    found = sum_units(rule.op, a, [of_batch[name] for name in names], shape)
    terms, silent, h_sq = found
    input_sq = sum_inputs(rule.op, _square(a), d, shape)
    input_zero = sum_inputs(rule.op, 1.0 - _live(rule, a), d, shape)
    backprop_sq = weight_vjp(rule.op, _square(a), units["backprop_sq"], shape)
    return {
        "terms": terms,
        "slope_zero": 0.0 * silent,
        "backprop_zero": silent,
        "slope_or_backprop_zero": silent,
        "slope_sq": terms + 0.0 * silent,
        "backprop_sq": h_sq,
        "slope_backprop_sq": h_sq,
        "input_zero": input_zero,
        "input_sq": input_sq,
        "input_slope_sq": input_sq,
        "input_backprop_sq": backprop_sq,
        "all_sq": backprop_sq,
        "input_and_slope_live": terms - input_zero,
        "gradient": weight_vjp(rule.op, a, d, shape),
    }


def _live(rule: SiteRule, a: Tensor) -> Tensor:
    return _mask(tf.abs(a) > rule.near_zero.rtol * rule.near_zero.activation_scale)


def _per_position(sums: dict[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    """Turn sums of dJ/dA and dJ/dZ into those of h and e, their n-fold."""
    powers = {
        "backprop_sq": 2,
        "slope_backprop_sq": 2,
        "input_backprop_sq": 2,
        "all_sq": 2,
        "unit_backprop_sq": 2,
        "unit_slope_backprop_sq": 2,
        "gradient": 1,
        "unit_gradient": 1,
    }
    return sums | {name: positions**power * sums[name] for name, power in powers.items()}


def _off_counts(
    rule: SiteRule,
    off: Tensor,
    input: Tensor,
    kernel: Tensor,
    activation_input: Tensor,
    offset: Tensor | None,
) -> dict[str, Tensor]:
    """Counts of `off_reasons`, named as sums."""
    none = {reason: tf.zeros(off.shape[-1:]) for reason in OFF_REASONS}
    found = none
    if not rule.never_off:
        reasons = functools.partial(
            off_reasons,
            rule.op,
            rule.off_rule,
            rule.near_zero,
            off=off,
            input=input,
            kernel=kernel,
            activation_input=activation_input,
            offset=offset,
        )
        found = tf.cond(tf.reduce_any(off > 0), reasons, lambda: none)
    return {f"off_{reason}": count for reason, count in found.items()}


def _input_sums(op: LinearOp, a: Tensor, near_zero: NearZero) -> dict[str, Tensor]:
    if op.constant_input:
        a = tf.ones((tf.size(a), 1))
    axes = list(range(a.shape.rank - 1))
    zero = tf.abs(a) <= near_zero.rtol * near_zero.activation_scale
    return {
        "input_size": tf.cast(tf.reduce_prod(tf.shape(a)[:-1]), tf.float32),
        "input_channel_zero": tf.reduce_sum(_mask(zero), axes),
        "input_channel_sq": tf.reduce_sum(_square(a), axes),
        "input_non_finite": tf.reduce_sum(_mask(~tf.math.is_finite(a))),
    }


def _square(values: Tensor) -> Tensor:
    return tf.minimum(tf.square(values), _LARGEST_SQUARE)


def _mask(condition: Tensor) -> Tensor:
    return tf.cast(condition, tf.float32)


def _float32(array: Any) -> Tensor:
    return tf.cast(as_tensor(array), tf.float32)


def _floats(array: np.ndarray) -> Tensor:
    return as_tensor(array) if array.dtype.kind in "iu" else _float32(array)


def _arriving(site: SiteRecord, shape: tuple[int, ...]) -> np.ndarray:
    unread = _is_unread(site)
    return np.broadcast_to(np.float32("nan"), shape) if unread else _gradient(site.output_gradient, shape)


def _is_unread(site: SiteRecord) -> bool:
    """Whether dJ/dA is not known, for the step did without it.

    Either dJ/dZ does not depend on it, or nothing that trains depends on dJ/dZ itself.
    """
    return site.output_gradient is None and (site.preactivation_gradient is not None or not site.trainable)


_BACKPROP_ZERO: tuple[str, ...] = ("backprop_zero", "unit_backprop_zero")
_EITHER_ZERO = ("slope_or_backprop_zero", "unit_slope_or_backprop_zero")


def _gradient(array: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient that never came is exactly zero: nothing of the loss depends on the tensor."""
    return np.broadcast_to(np.float32(0), shape) if array is None else np.asarray(array)
