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
import math

import numpy as np

from trainobs.linear_ops import LinearOp, Shape, input_vjp, windows
from trainobs.records import SiteRecord, StepRecord
from trainobs.tensors import as_array, as_tensor

Array = np.ndarray
#: Of a site: `SiteRecord.key`, call, loss.
Key = tuple[str, int, int]
#: By site: dJ/dZ, and the rank of the map that was inverted.
Solved = dict[Key, tuple[Array, int]]
#: Of what kernels of one window read: the id of the input array, how they meet it, and the window.
InputKey = tuple[int, LinearOp, Shape]

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


@dataclasses.dataclass(frozen=True, eq=False)
class Inverse:
    """The map from D to kernel gradients, inverted; for all kernels that read one input.

    Attributes
    ----------
    op : LinearOp
        How kernels and input meet.
    input : array of shape (n, *p, i)
        Canonical.
    grams : list of arrays of shape (n', n') or (fan_in, fan_in)
        Of each group the pseudo-inverse of XXᵀ or XᵀX, whichever is smaller.
    rank : int
        The smallest of the groups.
    """

    op: LinearOp
    input: Array
    grams: list[Array]
    rank: int

    @classmethod
    def of(cls, op: LinearOp, input: Array, window: Shape, positions: int) -> Inverse:
        """Invert the map of kernels with this window; `positions` is n'."""
        fan_in = math.prod(window) * input.shape[-1] // op.groups
        inverted = []
        for group in _groups(op, input):
            if positions < fan_in:
                rows = _rows(op, group, window)
                gram = rows @ rows.T
            else:
                gram = np.zeros((fan_in, fan_in))
                for part in _samples(group, positions * fan_in):
                    rows = _rows(op, part, window)
                    gram += rows.T @ rows
            inverted.append(_inverse(gram, max(positions, fan_in)))
        return cls(op, input, [gram for gram, _ in inverted], min(rank for _, rank in inverted))

    def solve(self, kernel_gradient: Array, shape: Shape) -> Array:
        """Minimum-norm D of this shape (n, *q, j) with ``weight_vjp(input, D) == kernel_gradient``."""
        op = self.op
        gradients = np.split(np.asarray(kernel_gradient, np.float64), op.groups, axis=-1)
        solved = []
        for group, gradient, gram in zip(_groups(op, self.input), gradients, self.grams, strict=True):
            columns, window = gradient.reshape(-1, gradient.shape[-1]), gradient.shape[:-2]
            if len(gram) < len(columns):  # fewer positions than inputs
                block = gram @ (_rows(op, group, window) @ columns)
            elif op.pointwise:  # what `apply` does too, but TensorFlow takes longer in float64
                block = _rows(op, group, window) @ (gram @ columns)
            else:
                kernel = as_tensor((gram @ columns).reshape(gradient.shape))
                block = as_array(op.ungrouped().apply(as_tensor(group), kernel))
            solved.append(block.reshape(*shape[:-1], -1))
        return np.concatenate(solved, axis=-1)


def _groups(op: LinearOp, input: Array) -> list[Array]:
    return np.split(np.asarray(input, np.float64), op.groups, axis=-1)


def _rows(op: LinearOp, input: Array, window: Shape) -> Array:
    """X of one group, a row per position."""
    rows = as_array(windows(op.ungrouped(), as_tensor(input), window))
    return rows.reshape(-1, rows.shape[-1])


def _samples(input: Array, elements: int) -> list[Array]:
    """The batch in parts, so that the rows of a part have no more than `_CHUNK_ELEMENTS` numbers."""
    return np.array_split(input, min(len(input), elements // _CHUNK_ELEMENTS + 1))


def _inverse(gram: Array, larger: int) -> tuple[Array, int]:
    """Pseudo-inverse of a Gram matrix and its rank.

    Singular values of X below max(n', fan_in) · eps(float32) of the largest are rounding of the
    float32 data (the rule of `numpy.linalg.matrix_rank`).
    """
    smallest = larger * float(np.finfo(np.float32).eps)
    full = _full_inverse(gram, 1 / smallest**2)
    if full is not None:
        return full, len(gram)
    values, vectors = np.linalg.eigh(gram)
    singular = np.sqrt(np.maximum(values, 0.0))
    kept = singular > singular.max(initial=0.0) * smallest
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, int(kept.sum())


def _full_inverse(gram: Array, condition: float) -> Array | None:
    """The inverse, if no bound on the condition number says otherwise: far faster than eigenvalues."""
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError:
        return None
    return inverse if np.linalg.norm(gram) * np.linalg.norm(inverse) < condition else None


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
    solved = _solved(record)
    estimates: dict[Key, BackpropEstimate] = {}
    sent: dict[Key, Array] = {}
    for site in record.sites:
        if site.role != "kernel":
            continue
        readers = [reader for reader in record.sites if reader.weight in site.consumers]
        through = {key(reader): _through(site, reader, solved) for reader in readers}
        passed = {name: gradient for name, gradient in through.items() if gradient is not None}
        if readers and len(passed) == len(through):
            sent |= passed
            estimates[key(site)] = _of_readers(readers, passed, solved)
        elif key(site) in solved:
            estimates[key(site)] = BackpropEstimate(*solved[key(site)], site.positions)
    return {name: dataclasses.replace(estimate, sent=sent.get(name)) for name, estimate in estimates.items()}


def _solved(record: StepRecord) -> Solved:
    """dJ/dZ and the rank that it was solved with, of each site that can be inverted."""
    inverses: dict[InputKey, Inverse] = {}
    solutions = {key(site): _solve_site(site, inverses) for site in record.sites}
    return {name: solution for name, solution in solutions.items() if solution is not None}


def _of_readers(readers: list[SiteRecord], passed: dict[Key, Array], solved: Solved) -> BackpropEstimate:
    """What all readers send back together; as trustworthy as the weakest of them."""
    weakest = min(readers, key=lambda reader: solved[key(reader)][1] / reader.positions)
    gradient = np.sum(np.stack(list(passed.values())), axis=0)
    return BackpropEstimate(gradient, solved[key(weakest)][1], weakest.positions)


def key(site: SiteRecord) -> Key:
    """What tells a site of a step from the others."""
    return site.key, site.call, site.loss


def _solve_site(site: SiteRecord, inverses: dict[InputKey, Inverse]) -> tuple[Array, int] | None:
    op, gradient = site.op, site.kernel_gradient
    if gradient is None or not _is_invertible(site):
        return None
    if site.penalty_gradient is not None:
        gradient = gradient - site.penalty_gradient
    if not (np.isfinite(gradient).all() and np.isfinite(site.input).all()):
        return None
    input, gradient = op.canonical_input(site.input), op.canonical_kernel(gradient)
    window, shape = gradient.shape[:-2], op.canonical_units(site.preactivation).shape
    same = (id(site.input), op, window)  # gates, queries and keys read one input
    if same not in inverses:
        inverses[same] = Inverse.of(op, input, window, site.positions)
    inverse = inverses[same]
    return inverse.solve(gradient, shape).astype(np.float32), inverse.rank


def _through(site: SiteRecord, reader: SiteRecord, solved: Solved) -> Array | None:
    """What the estimate sends from `reader` back to the output of `site`, if it reads just that."""
    if key(reader) not in solved or not _same_values(site.output, reader.input):
        return None
    op, estimate = reader.op, solved[key(reader)][0]
    kernel = as_tensor(np.asarray(op.canonical_kernel(reader.kernel), np.float32))
    shape = op.canonical_input(reader.input).shape
    gradient = as_array(input_vjp(op, kernel, as_tensor(estimate), shape))
    own = op.own_input(gradient, reader.input.shape).reshape(site.output.shape)
    return np.asarray(site.op.canonical_units(own))


def _same_values(output: Array, input: Array) -> bool:
    return output.size == input.size and np.array_equal(output.ravel(), input.ravel())
