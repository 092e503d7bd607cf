"""The way from a weight to where its gradient is lost, for people: a few steps, however long it is."""

from __future__ import annotations

import dataclasses

#: Steps that are kept at each end of a long way.
_KEPT = 8


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps from a weight on, each layer once in a row; those in the middle of a long way are only counted.

    Attributes
    ----------
    shown : tuple of str
        All steps, or as many from each end as are kept.
    left_out : int
        How many there are between.
    """

    shown: tuple[str, ...] = ()
    left_out: int = 0

    @classmethod
    def of(cls, *steps: str) -> Steps:
        """Of layers, or of what is said of one ("d1 off: bias"), which is a step of its own."""
        distinct: list[str] = []
        for step in steps:
            layer, off, reason = step.partition(" off: ")
            distinct += [layer] if distinct[-1:] != [layer] else []
            distinct += [f"off: {reason}"] if off else []
        return cls()._and(distinct, 0)

    def __add__(self, others: Steps) -> Steps:
        """These steps, then others."""
        again = bool(self.shown) and self.shown[-1:] == others.shown[:1]
        return self._and(others.shown[1:] if again else others.shown, others.left_out)

    def _and(self, others: list[str] | tuple[str, ...], left_out: int) -> Steps:
        shown = (*self.shown, *others)
        more = max(len(shown) - 2 * _KEPT, 0)
        kept = (*shown[:_KEPT], *shown[-_KEPT:]) if more else shown
        return Steps(kept, self.left_out + left_out + more)

    def line(self, most: int = 8) -> str:
        """In one line, the middle of a long way left out."""
        left_out = len(self.shown) + self.left_out - most
        told = list(self.shown)
        if left_out > 0:
            told[most // 2 : 1 - most // 2] = [f"… {left_out + 1} more …"]
        return " ← ".join(told)


NO_STEPS = Steps()
