"""Sums over the terms of every weight, all by the VJP of the layer's own op.

| letter | axis                          |
|--------|-------------------------------|
| n      | batch                         |
| p, q   | input and output pixels       |
| i, j   | input channels, units         |
| k      | kernel window                 |

An array that stands for "all ones" is the same for every sample and every channel. So the other
factor is summed over the batch first, and one sample of one channel gives the result: a sum over
one factor costs next to nothing, and only sums over products of input and unit are full VJPs.
"""

from __future__ import annotations

from trainobs.linear_ops import LinearOp, Shape, weight_vjp
from trainobs.tensors import tf


def sum_units(
    op: LinearOp, input: tf.Tensor, of_batch: list[tf.Tensor], kernel_shape: Shape
) -> list[tf.Tensor]:
    """``Σ_t cotangent_t`` of every weight: the input is all ones.

    Parameters
    ----------
    of_batch : list of tensors of shape (1, *q, channels)
        The cotangents, summed over the batch.

    Returns
    -------
    list of tensors of shape (*k, 1, channels)
    """
    if op.pointwise:  # every position has a term of every weight
        return [tf.reduce_sum(cotangent, range(cotangent.shape.rank - 1))[None] for cotangent in of_batch]
    channels = [cotangent.shape[-1] for cotangent in of_batch]
    ones = tf.ones_like(input[:1, ..., :1])
    shape = (*kernel_shape[:-2], 1, sum(channels))
    return tf.split(weight_vjp(op.ungrouped(), ones, tf.concat(of_batch, -1), shape), channels, axis=-1)


def sum_inputs(op: LinearOp, input: tf.Tensor, unit: tf.Tensor, kernel_shape: Shape) -> tf.Tensor:
    """``Σ_t input_t`` of every weight: the cotangent is all ones.

    Returns
    -------
    tensor of shape (*k, i/groups, 1), or (*k, i/groups, j) with several groups
    """
    if op.pointwise and op.groups == 1:
        return tf.reduce_sum(input, range(input.shape.rank - 1))[:, None]
    ones = tf.ones_like(unit[:1, ..., : op.groups])
    of_batch = tf.reduce_sum(input, axis=0, keepdims=True)
    sums = weight_vjp(op, of_batch, ones, (*kernel_shape[:-1], op.groups))
    return sums if op.groups == 1 else tf.repeat(sums, kernel_shape[-1] // op.groups, axis=-1)


def sum_receptive_field(op: LinearOp, input: tf.Tensor, kernel_shape: Shape) -> tf.Tensor:
    """Sum of the input over each unit's receptive field.

    Returns
    -------
    tensor of shape (n, *q, 1), or (n, *q, j) with several groups
    """
    sums = op.apply(input, tf.ones((*kernel_shape[:-1], op.groups), input.dtype))
    return sums if op.groups == 1 else tf.repeat(sums, kernel_shape[-1] // op.groups, axis=-1)
