"""The preactivation gradient of least norm that explains a kernel's gradient, by dense pseudo-inverses."""

import math

import numpy as np


def designs(op, input, kernel_shape, output_shape):
    """Per unit the matrix (weights of the unit, positions) that maps its dJ/dZ to its dJ/dW."""
    input = np.asarray(input, np.float64)
    weights, outputs = _numbered(op, kernel_shape, output_shape)
    units = op.units(kernel_shape)
    matrices = np.zeros((units, math.prod(kernel_shape) // units, math.prod(output_shape) // units))
    for kernel_index, input_index, output_index in op.terms(input.shape, kernel_shape):
        (unit, row), (_, column) = weights[kernel_index], outputs[output_index]
        matrices[unit, row, column] += input[input_index]
    return matrices


def _numbered(op, kernel_shape, output_shape):
    """For every weight and every output its unit, and its number among those of the unit."""
    found = []
    for shape, unit_of in ((kernel_shape, op.unit_of_kernel), (output_shape, op.unit_of_output)):
        seen, places = [0] * op.units(kernel_shape), {}
        for index in np.ndindex(*shape):
            unit = unit_of(index, kernel_shape)
            places[index] = unit, seen[unit]
            seen[unit] += 1
        found.append(places)
    return found


def _tolerance(matrix, rcond):
    """The singular values below this part of the largest count as zero."""
    return max(matrix.shape) * np.finfo(np.float64).eps if rcond is None else rcond


def _rank(matrix, rcond):
    """The rank of a matrix under the tolerance its pseudo-inverse uses."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return int((singular > _tolerance(matrix, rcond) * singular.max()).sum())


def estimate(op, input, kernel_gradient, output_shape, rcond=None):
    """(dJ/dZ of least norm, rank, n): the rank is that of one unit's map, the smallest of all."""
    gradient = np.asarray(kernel_gradient, np.float64)
    weights, outputs = _numbered(op, gradient.shape, output_shape)
    matrices = designs(op, input, gradient.shape, output_shape)
    columns = np.zeros(matrices.shape[:2])
    for index, place in weights.items():
        columns[place] = gradient[index]
    inverses = [np.linalg.pinv(matrix, rcond=_tolerance(matrix, rcond)) for matrix in matrices]
    solutions = [inverse @ column for inverse, column in zip(inverses, columns, strict=True)]
    found = np.zeros(output_shape)
    for index, (unit, position) in outputs.items():
        found[index] = solutions[unit][position]
    return found, min(_rank(matrix, rcond) for matrix in matrices), matrices.shape[2]


def projector(op, input, kernel_shape, output_shape, rcond=None):
    """Per unit the (n, n) projection of its true dJ/dZ onto what the pseudo-inverse can recover."""
    matrices = designs(op, input, kernel_shape, output_shape)
    return np.stack([np.linalg.pinv(matrix, rcond=_tolerance(matrix, rcond)) @ matrix for matrix in matrices])
