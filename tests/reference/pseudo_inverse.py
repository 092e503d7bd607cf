"""The preactivation gradient of least norm that explains a kernel's gradient, by dense pseudo-inverses."""

import math

import numpy as np


def designs(op, input, kernel_shape, output_shape):
    """Per output channel the matrix (weights of the channel, positions) that maps its dJ/dZ to its dJ/dW."""
    input = np.asarray(input, np.float64)
    fan_in, n = math.prod(kernel_shape[:-1]), math.prod(output_shape[:-1])
    matrices = np.zeros((kernel_shape[-1], fan_in, n))
    for kernel_index, input_index, output_index in op.terms(input.shape, kernel_shape):
        row = np.ravel_multi_index(kernel_index[:-1], kernel_shape[:-1])
        column = np.ravel_multi_index(output_index[:-1], output_shape[:-1])
        matrices[output_index[-1], row, column] += input[input_index]
    return matrices


def _tolerance(matrix, rcond):
    """The singular values below this part of the largest count as zero."""
    return max(matrix.shape) * np.finfo(np.float64).eps if rcond is None else rcond


def _rank(matrix, rcond):
    """The rank of a matrix under the tolerance its pseudo-inverse uses."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return int((singular > _tolerance(matrix, rcond) * singular.max()).sum())


def estimate(op, input, kernel_gradient, output_shape, rcond=None):
    """(dJ/dZ of least norm, rank, n): the rank is that of one channel's map, the smallest over the groups."""
    gradient = np.asarray(kernel_gradient, np.float64)
    n = math.prod(output_shape[:-1])
    matrices = designs(op, input, gradient.shape, output_shape)
    found = np.zeros(output_shape)
    for channel, matrix in enumerate(matrices):
        inverse = np.linalg.pinv(matrix, rcond=_tolerance(matrix, rcond))
        found[..., channel] = (inverse @ gradient[..., channel].ravel()).reshape(output_shape[:-1])
    return found, min(_rank(matrix, rcond) for matrix in matrices), n


def projector(op, input, kernel_shape, output_shape, rcond=None):
    """Per output channel the (n, n) projection of its true dJ/dZ onto what the pseudo-inverse can recover."""
    matrices = designs(op, input, kernel_shape, output_shape)
    return np.stack([np.linalg.pinv(matrix, rcond=_tolerance(matrix, rcond)) @ matrix for matrix in matrices])
