"""The arrays of a site that its sums are made of, canonical, and what is not known of them.

| symbol  | name                     | shape        |                                      |
|---------|--------------------------|--------------|--------------------------------------|
| a       | `input`                  | (n, *p, i)   | input of the kernel                  |
| s       | `slope`                  | (n, *q, j)   | φ'(Z)                                |
| dJ/dA   | `output_gradient`        | (n, *q, j)   | what arrives at the output           |
| dJ/dZ   | `preactivation_gradient` | (n, *q, j)   | what arrives at the preactivation    |
"""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.records import SiteRecord

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class SiteArrays:
    """The four factors of a site, in canonical layout."""

    input: Array
    slope: Array
    output_gradient: Array
    preactivation_gradient: Array

    @classmethod
    def of(cls, site: SiteRecord) -> SiteArrays:
        """The arrays of a recorded site; of a table, the input is each position's place in `rows`."""
        op, shape = site.op, site.preactivation.shape
        return cls(
            op.canonical_input(site.input if site.rows is None else site.places),
            op.canonical_units(site.slope),
            op.canonical_units(_output_gradient(site, shape)),
            op.canonical_units(_zero_if_none(site.preactivation_gradient, shape)),
        )


def canonical_offset(site: SiteRecord) -> Array | None:
    """What was added last before the activation: one number per unit, or for a sample's units (1, *q, j)."""
    offset, shape = site.offset, site.preactivation.shape
    if offset is None or (offset.ndim == 1 and offset.size == site.units):
        return offset
    own = offset.reshape((1,) * (len(shape) - offset.ndim) + offset.shape)
    return np.asarray(site.op.canonical_units(np.broadcast_to(own, (1, *shape[1:]))))


def unknown_sums(site: SiteRecord) -> tuple[str, ...]:
    """Names of the counts that can't be told, for dJ/dA is not known."""
    if not _is_unread(site):
        return ()
    of_backprop = ("backprop_zero", "unit_backprop_zero")
    if site.preactivation_gradient is not None:
        return of_backprop
    return (*of_backprop, "slope_or_backprop_zero", "unit_slope_or_backprop_zero")


def _output_gradient(site: SiteRecord, shape: tuple[int, ...]) -> Array:
    if _is_unread(site):
        return np.broadcast_to(np.float32("nan"), shape)
    return _zero_if_none(site.output_gradient, shape)


def _is_unread(site: SiteRecord) -> bool:
    """Whether dJ/dA is not known, for the step did without it.

    Either dJ/dZ does not depend on it, or nothing that trains depends on dJ/dZ itself.
    """
    return site.output_gradient is None and (site.preactivation_gradient is not None or not site.trainable)


def _zero_if_none(gradient: Array | None, shape: tuple[int, ...]) -> Array:
    """A gradient that never came is exactly zero: nothing of the loss depends on the tensor."""
    return np.broadcast_to(np.float32(0), shape) if gradient is None else np.asarray(gradient)
