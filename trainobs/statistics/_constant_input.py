"""Weights that meet an input of 1 at every term: biases, and the rows of a table.

Their sums over products of input and unit are those over the units.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from trainobs.linear_ops import LinearOp, Shape, weight_vjp
from trainobs.statistics._schema import ArrayOrTensor, names_over
from trainobs.tensors import tf

Array = np.ndarray
Sums: TypeAlias = "dict[str, tf.Tensor]"


def of_constant_input(op: LinearOp, input: tf.Tensor, units: Sums, d: tf.Tensor, shape: Shape) -> Sums:
    """The sums over terms, from what is summed over them; `d` is dJ/dZ."""
    sums = {
        name: weight_vjp(op, input, values, (*shape[:-1], values.shape[-1])) for name, values in units.items()
    }
    return _with_input_of_one(sums) | {"gradient": weight_vjp(op, input, d, shape)}


def bias_sums(of_units: dict[str, Array]) -> dict[str, Array]:
    """The sums of a bias, from those of the kernel whose units it shifts."""
    names = ("slope_zero", "backprop_zero", "slope_or_backprop_zero", "slope_sq", "backprop_sq")
    units = {name: of_units[f"unit_{name}"][None, :] for name in (*names, "slope_backprop_sq")}
    positions, one = of_units["unit_positions"], np.ones(1, np.float32)
    return {
        **{name: of_units[name] for name in names_over("units", "preactivations")},
        **_with_input_of_one({"terms": positions.reshape(1, 1), **units}),
        "gradient": of_units["unit_gradient"][None, :],
        "input_size": positions,
        "input_channel_zero": 0 * one,
        "input_channel_sq": positions * one,
        "input_channel_sum": positions * one,
        "input_channel_negative": 0 * one,
        "input_non_finite": np.float32(0),
    }


def _with_input_of_one(sums: dict[str, ArrayOrTensor]) -> dict[str, ArrayOrTensor]:
    """The sums over terms, from those of them that do not speak of the input."""
    return sums | {
        "input_zero": 0.0 * sums["terms"],
        "input_sq": sums["terms"],
        "input_slope_sq": sums["slope_sq"],
        "input_backprop_sq": sums["backprop_sq"],
        "all_sq": sums["slope_backprop_sq"],
        "input_and_slope_live": sums["terms"] - sums["slope_zero"],
    }
