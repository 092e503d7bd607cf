"""Numbers in words, for sentences of mechanisms."""

from __future__ import annotations

import numpy as np


def counted(number: float) -> str:
    """A whole number, with commas."""
    return f"{int(number):,}"


def several(number: float, what: str) -> str:
    """A whole number of things: "1 layer", "3 layers"."""
    return f"{counted(number)} {what}" + ("" if number == 1 else "s")


def are(number: float) -> str:
    """The verb for so many things."""
    return "is" if number == 1 else "are"


def part_of(number: float, total: float, what: str) -> str:
    """Some of all things: "3 of the 8 inputs", "The only input"."""
    if number == total == 1:
        return f"The only {what}"
    return f"{counted(number)} of the {several(total, what)}"


def everywhere(positions: float) -> str:
    """All positions: "at all 64 positions", "at the only position"."""
    return "at the only position" if positions == 1 else f"at all {several(positions, 'position')}"


def ranges(mask: np.ndarray, most: int = 12) -> str:
    """Positions of the true values: "0–27, 31, 40–44"."""
    hits = np.flatnonzero(mask)
    runs = np.split(hits, np.flatnonzero(np.diff(hits) > 1) + 1) if hits.size else []
    shown = [str(run[0]) if run.size == 1 else f"{run[0]}–{run[-1]}" for run in runs[:most]]
    return ", ".join(shown) + (", …" if len(runs) > most else "")
