"""Where a near-zero gradient comes from: the end of a walk, and the way there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from trainobs.diagnosis._steps import NO_STEPS, Steps
from trainobs.mechanisms import Key, Mechanism

#: How many others an origin names that alone would do the same: those nearest to it.
MOST_OTHERS = 8


@dataclasses.dataclass(frozen=True)
class Origin:
    """A mechanism, as seen from a weight that it keeps from learning.

    Attributes
    ----------
    mechanism : Mechanism
    steps : Steps
        The way there, for people.
    share : float
        Its part, where a gradient is lost on several branches, each for a reason of its own.
    also : tuple of (str, str)
        Cause and layer of what alone would keep the gradient near zero too, at most `MOST_OTHERS`.
    """

    mechanism: Mechanism
    steps: Steps = NO_STEPS
    share: float = 1.0
    also: tuple[Key, ...] = ()

    @property
    def key(self) -> Key:
        """What makes two origins the same mechanism."""
        return self.mechanism.key

    def after(self, *steps: str) -> Origin:
        """The same origin, reached by more steps before the others."""
        return self.behind(Steps.of(*steps))

    def behind(self, steps: Steps) -> Origin:
        """The same origin, with steps before its own."""
        return dataclasses.replace(self, steps=steps + self.steps)

    def beside(self, others: Iterable[Key]) -> Origin:
        """The same origin, with more that alone would do the same."""
        also = dict.fromkeys(key for key in (*self.also, *others) if key != self.key)
        return dataclasses.replace(self, also=tuple(also)[:MOST_OTHERS])

    def by(self, mechanism: Mechanism) -> Origin:
        """The same way and share, with another mechanism, which explains them better."""
        return Origin(mechanism, self.steps, self.share)


def at_its_layer(mechanism: Mechanism) -> Origin:
    """An origin with its own layer as the way."""
    return origin_of(mechanism, mechanism.layer)


def origin_of(mechanism: Mechanism, *steps: str) -> Origin:
    """An origin with some steps as the way."""
    return Origin(mechanism, Steps.of(*steps))
