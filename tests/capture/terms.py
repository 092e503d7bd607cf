"""The identity that every site must fulfil: its terms add up to its kernel's gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from trainobs.linear_ops import weight_vjp
from trainobs.recording import SiteRecord, StepRecord


def terms_added(site: SiteRecord) -> np.ndarray:
    """``weight_vjp(input, preactivation_gradient)``, and the penalty's share."""
    input, cotangent = (
        tf.constant(site.op.channels_last(array)) for array in (site.input, site.preactivation_gradient)
    )
    added = weight_vjp(site.op, input, cotangent, site.kernel.shape).numpy()
    return added if site.penalty_gradient is None else added + site.penalty_gradient


def assert_terms_add_up(record: StepRecord, rtol: float = 1e-5) -> None:
    """Over all calls of each layer; tolerance relative to the largest gradient of the kernel."""
    calls: dict[str, list[SiteRecord]] = {}
    for site in record.sites:
        calls.setdefault(site.weight, []).append(site)
    assert calls
    for first, *more in calls.values():
        if first.kernel_gradient is None:
            assert not first.trainable
            continue
        added = terms_added(first)
        for site in more:
            added = added + terms_added(dataclasses.replace(site, penalty_gradient=None))
        atol = rtol * np.abs(first.kernel_gradient).max() + 1e-9
        np.testing.assert_allclose(added, first.kernel_gradient, rtol=0, atol=atol, err_msg=first.weight)
