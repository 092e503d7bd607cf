"""One kernel, every weight coloured by its verdict.

| letter | axis                                                       |
|--------|------------------------------------------------------------|
| k      | kernel window, brought to two axes (k, m); (1, 1) if dense |
| i, j   | inputs and units                                           |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap

from trainobs.analysis import CAUSES
from trainobs.views._palette import COLOURS, FAINT, INK, LABELS, NOT_NEAR_ZERO, SEVERAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Kinds of weights, by number: one cause each, several causes, not near zero.
KINDS = (*COLOURS.values(), SEVERAL, NOT_NEAR_ZERO)
_SEVERAL, _NOT_NEAR_ZERO = len(CAUSES), len(CAUSES) + 1
_MOST_PIXELS = 512  # along an axis; more than a screen shows are drawn by majority
_MOST_TILES = 64  # more tiles along an axis go without lines between them


def _window(verdict: np.ndarray) -> tuple[int, int]:
    """Rows and columns of a tile: the kernel window on two axes."""
    window = verdict.shape[:-2]
    first, *rest = (1,) * (2 - len(window)) + window
    return first, math.prod(rest)


def image_of(verdict: np.ndarray) -> np.ndarray:
    """The verdicts (*k, i, j) as one picture of tiles (i·k, j·m)."""
    k, m = _window(verdict)
    i, j = verdict.shape[-2:]
    return verdict.reshape(k, m, i, j).transpose(2, 0, 3, 1).reshape(i * k, j * m)


def kinds_of(verdict: np.ndarray) -> np.ndarray:
    """Each weight's place in `KINDS`."""
    table = np.full(256, _SEVERAL, np.uint8)
    table[0] = _NOT_NEAR_ZERO
    for place, cause in enumerate(CAUSES):
        table[cause] = place
    return table[verdict]


def block_of(verdict: np.ndarray) -> tuple[int, int]:
    """Rows and columns of weights that make one pixel: 1×1, or whole windows where that is too fine."""
    lengths = [count * window for count, window in zip(verdict.shape[-2:], _window(verdict), strict=True)]
    if max(lengths) <= _MOST_PIXELS:
        return 1, 1
    sizes = zip(lengths, _window(verdict), strict=True)
    rows, columns = (window * math.ceil(length / _MOST_PIXELS / window) for length, window in sizes)
    return rows, columns


def _majority(kinds: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The most frequent kind of each block; of equally frequent ones a cause before "not near zero"."""
    if rows == columns == 1:
        return kinds
    tops, lefts = np.arange(0, kinds.shape[0], rows), np.arange(0, kinds.shape[1], columns)
    present = np.flatnonzero(np.bincount(kinds.ravel(), minlength=len(KINDS)))
    counts = [
        np.add.reduceat(np.add.reduceat(kinds == kind, lefts, axis=1, dtype=np.int32), tops, axis=0)
        for kind in present
    ]
    return present[np.argmax(counts, axis=0)]


def draw_kernel(ax: Axes, image: np.ndarray, verdict: np.ndarray) -> None:
    (k, m), (i, j) = _window(verdict), verdict.shape[-2:]
    blocks = block_of(verdict)
    kinds = _majority(kinds_of(image), *blocks)
    extent, colours = (-0.5, j - 0.5, i - 0.5, -0.5), ListedColormap(KINDS)
    picture = ax.imshow(kinds, colours, aspect="auto", interpolation="nearest", extent=extent)
    picture.set_clim(-0.5, len(KINDS) - 0.5)
    if k * m > 1 and blocks == (1, 1) and max(i, j) <= _MOST_TILES:  # lines between the tiles
        ax.hlines(np.arange(1, i) - 0.5, -0.5, j - 0.5, color="white", linewidth=1.5)
        ax.vlines(np.arange(1, j) - 0.5, -0.5, i - 0.5, color="white", linewidth=1.5)
    ax.set_ylabel("input" if k * m == 1 else "input channel", fontsize=9, color=INK)
    ax.set_yticks(ticks(i, 9))
    ax.tick_params(labelsize=8, length=2, colors=INK, labelbottom=False, bottom=False)
    ax.spines[:].set_color(FAINT)


def ticks(count: int, most: int) -> list[int]:
    """Round numbers from 0 below `count`."""
    rough = max(count / most, 1)
    power = 10 ** math.floor(math.log10(rough))
    return list(range(0, count, next(power * n for n in (1, 2, 5, 10) if power * n >= rough)))


def kind_label(kind: int, verdicts: np.ndarray) -> str:
    """A kind in words; `verdicts` are the different ones of the picture."""
    if kind == _NOT_NEAR_ZERO:
        return "not near zero"
    if kind < _SEVERAL:
        return LABELS[CAUSES[kind]]
    bits = int(np.bitwise_or.reduce(verdicts[kinds_of(verdicts) == _SEVERAL]))
    names = [label for cause, label in LABELS.items() if bits & cause]
    return f"each alone: {', '.join(names)}" if len(names) <= 2 else "several causes, each alone enough"
