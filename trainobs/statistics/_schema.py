"""What each sum is: the one place that knows its axes, its scale and what it speaks of.

| letter | axis                                                                    |
|--------|-------------------------------------------------------------------------|
| k      | kernel window (none, one or several axes)                               |
| i      | inputs of a group; of a table, its rows that were looked up             |
| r      | those rows of a table; 1 for other weights                              |
| j      | units                                                                   |
| g      | units where the inputs are in several groups, which differ; else 1      |
| c      | input channels of all groups                                            |
| t      | time steps                                                              |
| 1      | an axis of size 1                                                       |

An array may be compact: of size 1 along an axis on which it does not depend for this weight.

The sums of a kernel are computed in `_one_pass`; a new one of all weights has its place in `_constant_input`
(biases) and `_scale_sums` (scales) too, and a test of the schema tells where it is missing. Gradients are
those of the mean loss times n, the positions of the batch: only so can they be added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from trainobs.errors import InvalidArgument

if TYPE_CHECKING:
    from trainobs.tensors import tf

Array = np.ndarray
ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, "tf.Tensor")
#: What is summed over: the terms of each weight; each unit's positions, of what the unit lets through
#: and what arrives at it, or of dJ/dZ too; inputs; the positions of a time step; a pseudo-inverse's
#: estimate; the weight as a whole.
Over = Literal["terms", "units", "preactivations", "inputs", "steps", "estimate", "weight"]


@dataclasses.dataclass(frozen=True)
class Sum:
    """One sum.

    Parameters
    ----------
    axes : str
        A letter of the legend for each axis; "" for a single number.
    over : str
        What it sums over, see `Over`.
    meaning : str
    power : int
        It is made of this power of gradients: 2 for their squares.
    additive : bool
        Whether it can be added; what condensed statistics have in place of sums can't.
    """

    axes: str
    over: Over
    meaning: str
    power: int = 0
    additive: bool = True

    @property
    def per_weight(self) -> bool:
        """Whether it is as large as the kernel."""
        return self.axes == "kij" and self.additive

    @property
    def per_row(self) -> bool:
        """Whether, of a table, it has a row for each of the table's rows."""
        return self.over == "terms" and self.additive

    @property
    def per_step(self) -> bool:
        """Whether it has a value for each time step; batches may differ in their number of steps."""
        return self.axes == "t"


SUMS: dict[str, Sum] = {
    # ---- terms: a is the input, s the slope, h is n · dJ/dA, e is n · dJ/dZ
    "terms": Sum("kr1", "terms", "Number of terms."),
    "input_zero": Sum("kig", "terms", "Terms whose input is near zero."),
    "slope_zero": Sum("krj", "terms", "Terms whose unit is off."),
    "backprop_zero": Sum("krj", "terms", "Terms at whose unit next to no gradient arrives."),
    "slope_or_backprop_zero": Sum("krj", "terms", "Terms with at least one of the two."),
    "input_and_slope_live": Sum("kij", "terms", "Terms whose input is not near zero and whose unit is on."),
    "input_sq": Sum("kig", "terms", "Σ a²."),
    "slope_sq": Sum("krj", "terms", "Σ s²."),
    "backprop_sq": Sum("krj", "terms", "Σ h².", power=2),
    "slope_backprop_sq": Sum("krj", "terms", "Σ e², where e is s · h.", power=2),
    "input_slope_sq": Sum("kij", "terms", "Σ (a · s)²."),
    "input_backprop_sq": Sum("kij", "terms", "Σ (a · h)².", power=2),
    "all_sq": Sum("kij", "terms", "Σ (a · e)².", power=2),
    "gradient": Sum("kij", "terms", "Σ a · e, n · dJ/dW without the weight's own penalty.", power=1),
    # ---- units
    "unit_positions": Sum("", "units", "Positions of each unit."),
    "unit_slope_zero": Sum("j", "units", "Positions at which a unit is off."),
    "unit_backprop_zero": Sum("j", "units", "Positions at which next to no gradient arrives at a unit."),
    "unit_slope_or_backprop_zero": Sum("j", "units", "Positions with at least one of the two."),
    "unit_slope_sq": Sum("j", "units", "Σ s²."),
    "unit_backprop_sq": Sum("j", "units", "Σ h².", power=2),
    "output_gradient_sq": Sum("", "units", "Σ h² over all units.", power=2),
    "off": Sum("j", "units", "The same: what the reasons below add up to."),
    "off_input": Sum("j", "units", "Those of them that missing or too large inputs explain."),
    "off_weights": Sum("j", "units", "Those of them that the kernel explains."),
    "off_bias": Sum("j", "units", "Those of them that the bias explains."),
    "off_combination": Sum("j", "units", "Those of them that no single one explains."),
    "unit_slope_backprop_sq": Sum("j", "preactivations", "Σ e².", power=2),
    "unit_gradient": Sum("j", "preactivations", "Σ e, n · dJ/db.", power=1),
    "preactivation_gradient_sq": Sum("", "preactivations", "Σ e² over all units.", power=2),
    # ---- inputs
    "input_size": Sum("", "inputs", "Values of each input channel."),
    "input_channel_zero": Sum("c", "inputs", "Values of a channel that are near zero."),
    "input_channel_sq": Sum("c", "inputs", "Sum of the squares of a channel's values."),
    "input_channel_sum": Sum("c", "inputs", "Sum of a channel's values."),
    "input_channel_negative": Sum("c", "inputs", "Sum of the sizes of a channel's negative values."),
    "input_non_finite": Sum("", "inputs", "Values that are NaN or infinite."),
    # ---- time steps
    "step_size": Sum("t", "steps", "Values of the units at a step."),
    "step_off": Sum("t", "steps", "Values at which a unit is off."),
    "step_gradient_sq": Sum("t", "steps", "Σ e² of a step.", power=2),
    # ---- backprop by pseudo-inverse, beside the measured one
    "pinv_zero": Sum("k1j", "estimate", "Terms at whose unit next to no estimated gradient arrives."),
    "pinv_terms": Sum("k11", "estimate", "Number of terms with an estimate."),
    "pinv_rank": Sum("", "estimate", "Rank of the map that was inverted."),
    "pinv_positions": Sum("", "estimate", "Positions of that map."),
    "pinv_error_sq": Sum("", "estimate", "Squared distance of the estimate of dJ/dA from the measured one."),
    "pinv_true_sq": Sum("", "estimate", "Square of the measured one."),
    # ---- the weight
    "positions": Sum("", "weight", "n, the positions of the first call's units."),
    "residual": Sum("", "weight", "Distance of `gradient` from what the step itself computed.", power=1),
    "residual_scale": Sum("", "weight", "What that distance is compared with.", power=1),
    "flushed": Sum("", "weight", "Gradients that half precision flushed to zero."),
    "flushed_of": Sum("", "weight", "Gradients that are not zero in float32."),
    # ---- condensed
    "verdict": Sum("kij", "terms", "Bits of the causes of each weight, in place of sums.", additive=False),
    "input_or_slope_zero": Sum(
        "k1j", "terms", "Mean part of terms with a near-zero input or slope.", additive=False
    ),
}

#: The sums that are as large as the kernel.
PER_WEIGHT = frozenset(name for name, sum_ in SUMS.items() if sum_.per_weight)


def names_over(*what: Over) -> tuple[str, ...]:
    """Names of the sums over these."""
    return tuple(name for name, sum_ in SUMS.items() if sum_.over in what)


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise an error if one of the names is no sum.

    Raises
    ------
    InvalidArgument
        With the names that came, and those that are known.
    """
    unknown = [name for name in names if name not in SUMS]
    if unknown:
        raise InvalidArgument(
            f"There are no sums named {unknown}. Known: {', '.join(SUMS)}. Add a new sum to "
            f"trainobs/statistics/_schema.py."
        )


def is_additive(names: Iterable[str]) -> bool:
    """Whether all of these sums can be added."""
    return all(SUMS[name].additive for name in names)


def per_position(
    sums: Mapping[str, ArrayOrTensor], positions: ArrayOrTensor | float
) -> dict[str, ArrayOrTensor]:
    """Sums of n times the gradients of a mean loss, from the sums of the gradients."""
    powers = {name: SUMS[name].power for name in sums}
    return {
        name: positions ** powers[name] * values if powers[name] else values for name, values in sums.items()
    }


def added(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, Array]:
    """The sums of two batches, in float64; what only one of them has stays as it is."""
    both = {name: _plus(SUMS[name], one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def _plus(sum_: Sum, one: Array, other: Array) -> Array:
    one = np.asarray(one, np.float64)
    return _added_steps(one, other) if sum_.per_step else one + other


def _added_steps(one: Array, other: Array) -> Array:
    """The sum of two batches whose numbers of steps may differ."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))


def spread(values: Array, rows: Array, over_rows: Array) -> Array:
    """Values of some rows of a table, with zeros for the others of `over_rows`."""
    whole = np.zeros((over_rows.size, *values.shape[1:]), values.dtype)
    whole[np.searchsorted(over_rows, rows)] = values
    return whole


def spread_sums(sums: Mapping[str, Array], rows: Array, over_rows: Array) -> dict[str, Array]:
    """The sums of some rows of a table, with zeros for the others of `over_rows`, which have no terms."""
    return {
        name: spread(values, rows, over_rows) if SUMS[name].per_row else values
        for name, values in sums.items()
    }
