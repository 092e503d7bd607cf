"""The theory's estimate of backprop: dJ/dZ from dJ/dW and the input, by pseudo-inverse.

| symbol | name              | shape            |                                      |
|--------|-------------------|------------------|--------------------------------------|
| A      | `input`           | (n, *p, i)       | input of the kernel                  |
| X      | `design`          | (n', fan_in)     | the rows that one unit multiplies    |
| G      | `kernel_gradient` | (*k, i/g, j)     | Xᵀ D for every unit                  |
| D      | estimate          | (n, *q, j)       | minimum-norm solution (X⁺)ᵀ G = P·D  |

n' counts positions. P = X X⁺ projects onto the columns of X, so the estimate is exact where the
rows of X are independent (rank = n').
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.linear_ops import LinearOp, input_vjp, weight_vjp
from trainobs.recording import SiteRecord, StepRecord

Array = np.ndarray
Key = tuple[str, int, int]

#: Largest min(n', fan_in) that is inverted: the eigendecomposition of a larger matrix takes minutes.
LARGEST_INVERSE = 2048
#: Multiplications that are spent beside a measured backprop: half a second's work.
WORK_BESIDE = 2**32
_WORK_PER_GROUP = 2**22  # what the calls for one group cost, however small it is
_CHUNK_ELEMENTS = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class BackpropEstimate:
    """dJ/dA_l of one site, estimated from forward values and kernel gradients alone.

    Attributes
    ----------
    output_gradient : array shaped like the site's output, channels-last
    rank, positions : int
        Of the map that was inverted; of several consumers the one with the smallest ratio.
    sent : array shaped like the site's input, or None
        What the site sends back to the layer it reads directly, estimated on the way.
    """

    output_gradient: Array
    rank: int
    positions: int
    sent: Array | None = None


def solve(
    op: LinearOp, input: Array, kernel_gradient: Array, unit_shape: tuple[int, ...]
) -> tuple[Array, int]:
    """Minimum-norm D with ``weight_vjp(input, D) == kernel_gradient``.

    Parameters
    ----------
    op : LinearOp
        How kernel and input meet.
    input : array of shape (n, *p, i)
        Channels-last.
    kernel_gradient : array of shape (*k, i/groups, j)
    unit_shape : tuple of int
        Shape (n, *q, j) of the result.

    Returns
    -------
    (array of shape `unit_shape`, int)
        The estimate, and the rank of the map (the smallest of its groups).
    """
    inputs = np.split(np.asarray(input, np.float64), op.groups, axis=-1)
    gradients = np.split(np.asarray(kernel_gradient, np.float64), op.groups, axis=-1)
    shape = (*unit_shape[:-1], unit_shape[-1] // op.groups)
    solved = [_solve_group(op.ungrouped(), a, g, shape) for a, g in zip(inputs, gradients, strict=True)]
    return np.concatenate([d for d, _ in solved], axis=-1), min(rank for _, rank in solved)


def _solve_group(op: LinearOp, a: Array, gradient: Array, shape: tuple[int, ...]) -> tuple[Array, int]:
    positions, fan_in = int(np.prod(shape[:-1])), int(np.prod(gradient.shape[:-1]))
    columns = gradient.reshape(fan_in, -1)
    if positions <= fan_in:
        design = _design(op, a, gradient.shape, shape)
        inverse, rank = _inverse(design @ design.T, max(positions, fan_in))
        return (inverse @ (design @ columns)).reshape(shape), rank
    inverse, rank = _inverse(_gram(op, a, gradient.shape, shape), max(positions, fan_in))
    kernel = (inverse @ columns).reshape(gradient.shape)
    return op.apply(tf.constant(a), tf.constant(kernel)).numpy(), rank


def _design(op: LinearOp, a: Array, kernel_shape: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """X, a row per position: the VJP of one-hot positions."""
    positions = int(np.prod(shape[:-1]))
    one_hot = tf.reshape(tf.eye(positions, dtype=tf.float64), (*shape[:-1], positions))
    rows = weight_vjp(op, tf.constant(a), one_hot, (*kernel_shape[:-1], positions))
    return rows.numpy().reshape(-1, positions).T


def _gram(op: LinearOp, a: Array, kernel_shape: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """XᵀX, some columns at a time: forward with one-hot kernels, then the VJP."""
    fan_in, positions = int(np.prod(kernel_shape[:-1])), int(np.prod(shape[:-1]))
    chunk = max(1, _CHUNK_ELEMENTS // positions)
    data, columns = tf.constant(a), []
    for start in range(0, fan_in, chunk):
        one_hot = np.eye(fan_in)[:, start : start + chunk].reshape(*kernel_shape[:-1], -1)
        column = weight_vjp(op, data, op.apply(data, tf.constant(one_hot)), one_hot.shape)
        columns.append(column.numpy().reshape(fan_in, -1))
    return np.concatenate(columns, axis=1)


def _inverse(gram: Array, larger: int) -> tuple[Array, int]:
    """Pseudo-inverse of a Gram matrix and its rank.

    Singular values of X below max(n', fan_in) · eps(float32) of the largest are rounding of the
    float32 data (the rule of `numpy.linalg.matrix_rank`).
    """
    values, vectors = np.linalg.eigh(gram)
    singular = np.sqrt(np.maximum(values, 0.0))
    kept = singular > singular.max(initial=0.0) * larger * np.finfo(np.float32).eps
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, int(kept.sum())


def work(record: StepRecord) -> float:
    """Multiplications that it takes to estimate the backprop of a step."""
    return sum(_work_of(site) for site in record.sites if _is_invertible(site))


def _work_of(site: SiteRecord) -> float:
    groups = site.op.groups
    inputs, smaller = _sizes(site)
    return groups * (smaller**2 * max(site.positions, inputs) + _WORK_PER_GROUP)


def _sizes(site: SiteRecord) -> tuple[int, int]:
    """Inputs of one unit, and the size of the matrix that is inverted."""
    inputs = site.kernel.size // site.units
    return inputs, min(site.positions, inputs)


def _is_invertible(site: SiteRecord) -> bool:
    known = site.kernel_gradient is not None and site.role == "kernel"
    return known and _sizes(site)[1] <= LARGEST_INVERSE


def estimate_backprop(record: StepRecord) -> dict[Key, BackpropEstimate]:
    """Estimate dJ/dA_l of every site of a step from A_{l-1}, W_l, A_l, dJ/dW_l and dJ/dW_{l+1}.

    Where kernels read the output directly or through a reshape, ``dJ/dZ_{l+1}`` is estimated from
    their gradients and sent through them. Elsewhere (the last layer, pooling in between) the
    site's own gradient is inverted and dJ/dZ_l stands in for dJ/dA_l.

    Returns
    -------
    dict of (key, call, loss) to BackpropEstimate
        Sites without a gradient, or too large to invert (`LARGEST_INVERSE`), are left out.
    """
    solved = {key(site): found for site in record.sites if (found := _solve_site(site)) is not None}
    estimates: dict[Key, BackpropEstimate] = {}
    sent: dict[Key, Array] = {}
    for site in record.sites:
        if site.role != "kernel":
            continue
        readers = [s for s in record.sites if s.weight in site.consumers]
        through = [_through(site, reader, solved) for reader in readers]
        if not readers or any(part is None for part in through):
            own = solved.get(key(site))
            if own is not None:
                estimates[key(site)] = BackpropEstimate(own[0], own[1], site.positions)
            continue
        sent |= {key(reader): part for reader, part in zip(readers, through, strict=True) if part is not None}
        weakest = min(readers, key=lambda reader: solved[key(reader)][1] / reader.positions)
        gradient = np.sum(np.stack([part for part in through if part is not None]), axis=0)
        estimates[key(site)] = BackpropEstimate(gradient, solved[key(weakest)][1], weakest.positions)
    return {name: dataclasses.replace(found, sent=sent.get(name)) for name, found in estimates.items()}


def key(site: SiteRecord) -> Key:
    """What tells a site of a step from the others."""
    return site.key, site.call, site.loss


def _solve_site(site: SiteRecord) -> tuple[Array, int] | None:
    op, gradient = site.op, site.kernel_gradient
    if gradient is None or not _is_invertible(site):
        return None
    if site.penalty_gradient is not None:
        gradient = gradient - site.penalty_gradient
    if not (np.isfinite(gradient).all() and np.isfinite(site.input).all()):
        return None
    shape = op.canonical_units(site.preactivation).shape
    return solve(op, op.canonical_input(site.input), op.canonical_kernel(gradient), shape)


def _through(site: SiteRecord, reader: SiteRecord, solved: dict[Any, tuple[Array, int]]) -> Array | None:
    """What the estimate sends from `reader` back to the output of `site`, if it reads just that."""
    if key(reader) not in solved or not _same_values(site.output, reader.input):
        return None
    op, estimate = reader.op, solved[key(reader)][0]
    kernel = tf.constant(np.asarray(op.canonical_kernel(reader.kernel), np.float64))
    shape = op.canonical_input(reader.input).shape
    gradient = input_vjp(op, kernel, tf.constant(estimate), shape).numpy()
    own = op.own_input(gradient, reader.input.shape).reshape(site.output.shape)
    return np.asarray(site.op.canonical_units(own))


def _same_values(output: Array, input: Array) -> bool:
    return output.size == input.size and np.array_equal(output.ravel(), input.ravel())
