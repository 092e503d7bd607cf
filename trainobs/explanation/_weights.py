"""What is said about each single weight: arrays in the kernel's own shape."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.analysis import Cause, SiteFigures


@dataclasses.dataclass(frozen=True, eq=False)
class WeightView:
    """What a report says about each weight of one kernel. All arrays have the kernel's shape.

    Attributes
    ----------
    near_zero : bool array
        Whether the weight's gradient is near zero.
    gradient : float array
        dJ/dW without the kernel's own penalty.
    verdict : uint8 array
        Bits of `Cause`: the minimal sufficient causes; 0 where the gradient is not near zero.
    grid : uint8 array of shape (*k, inputs, units)
        The verdicts with inputs and units as the last axes, whatever the kernel's own shape; of a
        table, of the rows that were looked up.
    """

    near_zero: np.ndarray
    gradient: np.ndarray
    verdict: np.ndarray
    grid: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """An array by its name, like a column of a table."""
        return getattr(self, name)


def weight_view(parts: list[SiteFigures]) -> WeightView:
    """The view of a weight, from its parts."""
    verdicts = [part.verdict for part in parts]
    return WeightView(
        near_zero=_whole(parts, [part.near_zero for part in parts], rest=True),
        gradient=_whole(parts, [part.gradient for part in parts], rest=0.0),
        verdict=_whole(parts, verdicts, rest=Cause.INPUT),
        grid=np.concatenate(verdicts, axis=-1),
    )


def _whole(parts: list[SiteFigures], values: list[np.ndarray], rest: float) -> np.ndarray:
    """An array of the weight's own shape, from the canonical ones of its parts.

    `rest` is for the rows of a table that were never looked up: they have no terms.
    """
    info, rows = parts[0].info, parts[0].statistics.rows
    if rows is not None:
        whole = np.full(info.shape, rest, values[0].dtype)
        whole[rows] = values[0]
        return whole
    if len(parts) == 1:
        return np.asarray(info.op.own_kernel(values[0], info.shape))
    return np.concatenate(values, axis=-1).reshape(info.shape)
