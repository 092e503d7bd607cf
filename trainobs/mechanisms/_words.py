"""Numbers in words, for sentences of mechanisms."""

from __future__ import annotations

import math

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
    """Some of all things: "3 of the 8 inputs", "The only input", "No unit"."""
    if number == 0:
        return f"No {what}"
    if number == total == 1:
        return f"The only {what}"
    return f"{counted(number)} of the {several(total, what)}"


def percent(part: float) -> str:
    """A part of a whole; "0%" only of nothing, "100%" only of all: "less than 1%", "57%", "more than 99%"."""
    text = f"{part:.0%}"
    if text == "0%" and part > 0:
        return "less than 1%"
    return "more than 99%" if text == "100%" and part < 1 else text


def interval(low: float, high: float) -> str:
    """A range, with its ends where it has some: "[0, 1]", "[0, ∞)"."""
    left = f"[{low:g}" if math.isfinite(low) else "(−∞"
    return f"{left}, {high:g}]" if math.isfinite(high) else f"{left}, ∞)"


def everywhere(positions: float) -> str:
    """All positions: "at all 64 positions", "at the only position"."""
    return "at the only position" if positions == 1 else f"at all {several(positions, 'position')}"


def ranges(mask: np.ndarray, most: int = 12) -> str:
    """Positions of the true values: "0–27, 31, 40–44"."""
    hits = np.flatnonzero(mask)
    runs = np.split(hits, np.flatnonzero(np.diff(hits) > 1) + 1) if hits.size else []
    shown = [str(run[0]) if run.size == 1 else f"{run[0]}–{run[-1]}" for run in runs[:most]]
    return ", ".join(shown) + (", …" if len(runs) > most else "")
