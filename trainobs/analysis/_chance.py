"""What a healthy model shows by chance: units that are off at all of too few positions.

A unit that fires at every other position, by chance, is off at all of n positions with probability 2⁻ⁿ.
Where what a layer reads hardly varies, as it does deep down, more positions say no more: then each of its
units is off everywhere with probability 1/2.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

Doubt = Literal["", "positions", "units"]


@dataclasses.dataclass(frozen=True)
class Chance:
    """What the rectifying units of a healthy model do by chance.

    Parameters
    ----------
    units : int
        Of all rectifying layers of the model together.
    layers : int
        How many such layers there are.
    limit : float
        False alarms that are expected of a healthy model, at most: see `Thresholds.chance`.

    Examples
    --------
    >>> Chance(units=64, layers=2, limit=2.0**-10).positions
    16
    """

    units: int
    layers: int
    limit: float

    @property
    def positions(self) -> int:
        """From how many positions on a unit that is off at all of them is dead: n ≥ log₂(units / limit)."""
        return math.ceil(math.log2(max(self.units, 1) / self.limit))

    def doubt(self, dead: int, units: int, positions: float) -> Doubt:
        """Of what there are so few that so many of a layer's units may be off by chance; "" if it is none.

        A layer all of whose units are off over enough positions is dead, by chance or not: nothing passes it.
        """
        whole, by_units = dead == units, self.may_do(dead, units)
        if not self.is_enough(positions):
            return "positions" if by_units or not whole else ""
        return "units" if by_units and not whole else ""

    def is_enough(self, positions: float) -> bool:
        """Whether so many positions can show that a unit is dead."""
        return positions >= self.positions

    def may_do(self, dead: int, units: int) -> bool:
        """Whether a healthy layer that reads what hardly varies may have so many units off everywhere."""
        return self.layers * tail(dead, units) > self.limit


def tail(dead: int, units: int) -> float:
    """Probability that of so many units, each off with probability 1/2, so many are, or more."""
    return sum(math.comb(units, number) for number in range(dead, units + 1)) / 2**units
