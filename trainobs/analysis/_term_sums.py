"""Sums over the terms of every weight, all by the VJP of the layer's own op.

| letter | axis                          |
|--------|-------------------------------|
| n      | batch                         |
| p, q   | input and output pixels       |
| i, j   | input channels, units         |
| k      | kernel window                 |

An array that stands for "all ones" needs one channel only: the result is the same for every other
one. So a sum over one factor costs 1/i or 1/j of a full VJP, and only sums over products of input
and unit are full ones.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainobs.linear_ops import LinearOp, Shape, weight_vjp

Tensor = Any


def sum_products(op: LinearOp, input: Tensor, cotangents: list[Tensor], kernel_shape: Shape) -> list[Tensor]:
    """``Σ_t input_t · cotangent_t`` of every weight, for several cotangents in one VJP.

    Returns
    -------
    list of tensors of `kernel_shape`
    """
    if op.groups > 1:  # channels of one group stand together, so they cannot be stacked
        return [weight_vjp(op, input, cotangent, kernel_shape) for cotangent in cotangents]
    stacked = (*kernel_shape[:-1], kernel_shape[-1] * len(cotangents))
    return tf.split(weight_vjp(op, input, tf.concat(cotangents, -1), stacked), len(cotangents), axis=-1)


def sum_units(op: LinearOp, input: Tensor, cotangents: list[Tensor], kernel_shape: Shape) -> list[Tensor]:
    """``Σ_t cotangent_t`` of every weight: the input is all ones.

    Returns
    -------
    list of tensors of shape (*k, 1, channels of the cotangent)
    """
    channels = [cotangent.shape[-1] for cotangent in cotangents]
    ones = tf.ones_like(input[..., :1])
    shape = (*kernel_shape[:-2], 1, sum(channels))
    return tf.split(weight_vjp(op.ungrouped(), ones, tf.concat(cotangents, -1), shape), channels, axis=-1)


def sum_inputs(op: LinearOp, input: Tensor, unit: Tensor, kernel_shape: Shape) -> Tensor:
    """``Σ_t input_t`` of every weight: the cotangent is all ones.

    Returns
    -------
    tensor of shape (*k, i/groups, 1), or (*k, i/groups, j) with several groups
    """
    ones = tf.ones_like(unit[..., : op.groups])
    sums = weight_vjp(op, input, ones, (*kernel_shape[:-1], op.groups))
    return sums if op.groups == 1 else tf.repeat(sums, kernel_shape[-1] // op.groups, axis=-1)


def sum_receptive_field(op: LinearOp, input: Tensor, kernel_shape: Shape) -> Tensor:
    """Sum of the input over each unit's receptive field.

    Returns
    -------
    tensor of shape (n, *q, 1), or (n, *q, j) with several groups
    """
    sums = op.apply(input, tf.ones((*kernel_shape[:-1], op.groups), input.dtype))
    return sums if op.groups == 1 else tf.repeat(sums, kernel_shape[-1] // op.groups, axis=-1)
