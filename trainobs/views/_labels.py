"""The few words and numbers that stand in several pictures and in HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainobs.explanation import Explanation

NOTHING = "–"


def percent(value: float) -> str:
    """A fraction as text: "–" for nan; never "0%" or "100%" for what is only near it."""
    if pd.isna(value):
        return NOTHING
    if 0 < value < 0.01:
        return "<1%"
    if 0.99 < value < 1:
        return ">99%"
    return f"{value:.0%}"


def words(cause: str) -> str:
    """A cause as people write it: "dead activation"."""
    return cause.replace("_", " ")


def shortened(name: str, length: int = 26) -> str:
    """A name that fits beside a picture: its middle gives way to an ellipsis."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def shape_text(shape: tuple[int, ...]) -> str:
    """(784, 64) → "784×64"."""
    return "×".join(map(str, shape))


def kernel_labels(report: Explanation) -> dict[str, str]:
    """A label for each kernel, by its path: the layer's name, or the path where names repeat."""
    names = report.kernels["layer"]
    repeated = names.duplicated(keep=False)
    return {
        str(path): str(path).removesuffix("/kernel") if again else str(name)
        for path, name, again in zip(names.index, names, repeated, strict=True)
    }


def width_in_inches(ax: Axes) -> float:
    """How wide axes are in print, to choose how much text fits."""
    return float(ax.get_window_extent().width / ax.figure.dpi)


def headline(report: Explanation) -> str:
    """The main finding in one line."""
    findings = report.findings
    if findings.empty:
        return "No finding: nothing stops the gradients"
    first, more = findings.iloc[0], len(findings) - 1
    share = f" – {percent(first['share'])} of all weights" if first["share"] > 0 else ""
    rest = f" (and {more} more finding{'s' if more > 1 else ''})" if more else ""
    return f"{words(first['cause']).capitalize()} at {shortened(first['layer'])}{share}{rest}"
