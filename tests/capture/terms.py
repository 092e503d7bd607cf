"""The identity that every site must fulfil: its terms add up to its weight's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.linear_ops import weight_vjp
from trainobs.records import SiteRecord, StepRecord

#: Of each dtype that a layer computes in: what rounding may take away, of the largest gradient.
ROUNDING = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2, "bfloat16": 4e-2}


def data_terms(site: SiteRecord, sized: Callable[[Any], Any] = tf.identity) -> np.ndarray:
    """``weight_vjp(input, preactivation_gradient)``, shaped like the site's kernel.

    `sized` is applied to both: with `abs` it gives the sum of the sizes of the terms.
    """
    op = site.op
    cotangent = sized(tf.constant(op.canonical_units(site.preactivation_gradient)))
    met = op.canonical_input(site.input if site.rows is None else site.places)
    shape = op.canonical_kernel(site.kernel).shape
    input = tf.constant(met) if site.rows is not None else sized(tf.cast(met, cotangent.dtype))
    return op.own_kernel(weight_vjp(op, input, cotangent, shape).numpy(), site.kernel.shape)


def terms_added(site: SiteRecord) -> np.ndarray:
    """The terms of one site, and the penalty's share."""
    added = data_terms(site)
    return added if site.penalty_gradient is None else added + site.penalty_gradient


def kernels(record: StepRecord) -> list[SiteRecord]:
    """The sites that signals pass through: not biases, not scales."""
    return [site for site in record.sites if site.role not in ("bias", "scale")]


def assert_terms_add_up(record: StepRecord, rtol: float | None = None) -> None:
    """Over all calls of each weight; tolerance relative to its largest gradient.

    Where terms cancel, it is relative to their sizes, a tenth as wide.
    """
    calls: dict[tuple[str, int], list[SiteRecord]] = {}
    for site in record.sites:
        calls.setdefault((site.key, site.loss), []).append(site)
    assert calls
    for of_weight in calls.values():
        _assert_calls_add_up(of_weight, rtol)


def _assert_calls_add_up(calls: list[SiteRecord], rtol: float | None) -> None:
    first = calls[0]
    if all(site.kernel_gradient is None for site in calls):
        assert not first.trainable, first.weight
        return
    whole, sizes = np.zeros((2, *(first.kernel.shape if first.rows is None else first.shape)))
    for site in calls:
        if site.preactivation_gradient is not None:
            place = slice(None) if site.rows is None else site.rows
            whole[place] += data_terms(site)
            sizes[place] += data_terms(site, tf.abs)
    rtol = rtol or ROUNDING[first.dtype]
    for site in calls:
        added = whole if site.rows is None else whole[site.rows]
        added = added if site.penalty_gradient is None else added + site.penalty_gradient
        assert site.kernel_gradient.shape == site.kernel.shape, site.key
        allowed = rtol * max(np.abs(site.kernel_gradient).max(initial=0), sizes.max(initial=0) / 10) + 1e-9
        np.testing.assert_allclose(added, site.kernel_gradient, rtol=0, atol=allowed, err_msg=site.key)


def assert_every_weight_is_there(record: StepRecord, model: Any) -> None:
    """Each trainable weight has sites, all calls of its parts, or stands among the other weights."""
    sites = {site.weight: site.shape for site in record.sites}
    others = {weight.weight: weight.shape for weight in record.weights}
    assert not sites.keys() & others.keys()
    found = sites | others
    for variable in model.trainable_variables:
        assert found.get(variable.path) == tuple(variable.shape), variable.path
    trainable = {variable.path for variable in model.trainable_variables}
    assert {weight.weight for weight in record.weights if weight.trainable} <= trainable
