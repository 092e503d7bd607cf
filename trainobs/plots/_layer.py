"""One kernel, every weight coloured by its verdict.

| letter | axis                                                       |
|--------|------------------------------------------------------------|
| k      | kernel window, brought to two axes (k, m); (1, 1) if dense |
| i, j   | inputs and units                                           |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, StepPatch
from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]

from trainobs.analysis import CAUSES, Cause
from trainobs.plots._labels import percent, shape_text, shortened
from trainobs.plots._palette import BAR, COLOURS, FAINT, INK, LABELS, MUTED, NOT_NEAR_ZERO, SEVERAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.axes_grid1.axes_divider import AxesDivider  # type: ignore[import-untyped]

    from trainobs.report import Report

#: Kinds of weights, by number: one cause each, several causes, not near zero.
_KINDS = (*COLOURS.values(), SEVERAL, NOT_NEAR_ZERO)
_SEVERAL, _NOT_NEAR_ZERO = len(CAUSES), len(CAUSES) + 1
_MOST_PIXELS = 512  # along an axis; more than a screen shows are drawn by majority
_BESIDE: dict[str, Any] = {
    "xycoords": "axes fraction",
    "textcoords": "offset points",
    "annotation_clip": False,
}
_MOST_TILES = 64  # more tiles along an axis go without lines between them


def draw_layer(report: Report, layer: str, ax: Axes | None = None) -> Axes:
    """Draw a kernel with every weight coloured by its verdict, units and inputs beside it.

    The picture tells which weights of a layer do not learn, and the pattern tells why. Whole
    columns of one colour are units (dead, or starved from behind), whole rows are inputs (that say
    nothing); below each unit stands how often it is off, beside each input how often it is zero;
    dead ones, off or zero at all positions, have the colour of their cause. A dark weight has
    several causes, each of which alone would do. Of a convolution every tile is the kernel window
    of one input channel and one unit. Of a kernel with more weights than a screen has pixels, each
    pixel shows the majority of a block of weights, whose size stands below the picture.

    Parameters
    ----------
    report : Report
        What to draw.
    layer : str
        A layer's name, or the path of its kernel.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the kernel.

    Raises
    ------
    NotRecorded
        If the report holds no such layer.
    """
    verdict, row = report.weights(layer).grid, _row(report, layer)
    frozen = row is not None and pd.isna(row["near_zero"])
    if frozen:  # the report has nothing to say about its weights
        verdict = np.zeros_like(verdict)
    units, inputs = report.units(layer), report.inputs(layer)
    image = _image(verdict)
    ax = _new_axes(*image.shape) if ax is None else ax
    divider = make_axes_locatable(ax)
    _draw_kernel(ax, image, verdict)
    _draw_units(divider, ax, units, _block(verdict))
    if len(inputs) == verdict.shape[-2]:  # else grouped: the kernel does not tell groups' inputs apart
        _draw_inputs(divider, ax, inputs)
    if not frozen:
        _draw_legend(divider, verdict)
    _write_title(ax, layer, row)
    return ax


def _row(report: Report, layer: str) -> pd.Series | None:
    """The layer's row of `Report.layers`, if the report shows it."""
    table = report.layers
    found = table[(table["layer"] == layer) | (table.index == layer)]
    return None if found.empty else found.iloc[0]


def _new_axes(rows: int, columns: int) -> Axes:
    """Axes in a new figure, with cells as square as the kernel's shape allows."""
    cell = min(7.0 / columns, 4.4 / rows, 0.35)
    width, height = max(cell * columns, 4.4) + 1.0, max(cell * rows, 1.0) + 1.9
    figure, ax = plt.subplots(figsize=(max(width + 1.2, 5.6), height + 1.0))
    full_width, full_height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.8 / full_width,
        right=1 - max(0.5, full_width - width - 0.7) / full_width,
        top=1 - 0.85 / full_height,
        bottom=0.1 / full_height,
    )
    return ax


# ---- the kernel ----------------------------------------------------------------------------------


def _window(verdict: np.ndarray) -> tuple[int, int]:
    """Rows and columns of a tile: the kernel window on two axes."""
    window = verdict.shape[:-2]
    first, *rest = (1,) * (2 - len(window)) + window
    return first, math.prod(rest)


def _image(verdict: np.ndarray) -> np.ndarray:
    """The verdicts (*k, i, j) as one picture of tiles (i·k, j·m)."""
    k, m = _window(verdict)
    i, j = verdict.shape[-2:]
    return verdict.reshape(k, m, i, j).transpose(2, 0, 3, 1).reshape(i * k, j * m)


def _kinds(verdict: np.ndarray) -> np.ndarray:
    """Each weight's place in `_KINDS`."""
    table = np.full(256, _SEVERAL, np.uint8)
    table[0] = _NOT_NEAR_ZERO
    for place, cause in enumerate(CAUSES):
        table[cause] = place
    return table[verdict]


def _block(verdict: np.ndarray) -> tuple[int, int]:
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
    present = np.flatnonzero(np.bincount(kinds.ravel(), minlength=len(_KINDS)))
    counts = [
        np.add.reduceat(np.add.reduceat(kinds == kind, lefts, axis=1, dtype=np.int32), tops, axis=0)
        for kind in present
    ]
    return present[np.argmax(counts, axis=0)]


def _draw_kernel(ax: Axes, image: np.ndarray, verdict: np.ndarray) -> None:
    (k, m), (i, j) = _window(verdict), verdict.shape[-2:]
    blocks = _block(verdict)
    kinds = _majority(_kinds(image), *blocks)
    style: dict[str, Any] = {"cmap": ListedColormap(_KINDS), "vmin": -0.5, "vmax": len(_KINDS) - 0.5}
    ax.imshow(kinds, aspect="auto", interpolation="nearest", extent=(-0.5, j - 0.5, i - 0.5, -0.5), **style)
    if k * m > 1 and blocks == (1, 1) and max(i, j) <= _MOST_TILES:  # lines between the tiles
        ax.hlines(np.arange(1, i) - 0.5, -0.5, j - 0.5, color="white", linewidth=1.5)
        ax.vlines(np.arange(1, j) - 0.5, -0.5, i - 0.5, color="white", linewidth=1.5)
    ax.set_ylabel("input" if k * m == 1 else "input channel", fontsize=9, color=INK)
    ax.set_yticks(_ticks(i, 9))
    ax.tick_params(labelsize=8, length=2, colors=INK, labelbottom=False, bottom=False)
    ax.spines[:].set_color(FAINT)


def _ticks(count: int, most: int) -> list[int]:
    """Round numbers from 0 below `count`."""
    rough = max(count / most, 1)
    power = 10 ** math.floor(math.log10(rough))
    return list(range(0, count, next(power * n for n in (1, 2, 5, 10) if power * n >= rough)))


# ---- beside the kernel ---------------------------------------------------------------------------


def _draw_units(divider: AxesDivider, ax: Axes, units: pd.DataFrame, block: tuple[int, int]) -> None:
    """Below each unit: at which fraction of the positions it is off."""
    strip = divider.append_axes("bottom", size="11%", pad=0.08, sharex=ax)
    edges = np.arange(len(units) + 1) - 0.5
    dead = units["off"].where(units["dead"], 0.0)
    for values, colour in ((units["off"], MUTED), (dead, COLOURS[Cause.ACTIVATION])):
        strip.add_artist(StepPatch(values, edges, color=colour, linewidth=0))
    strip.set_ylim(0, 1)
    strip.set_yticks([0, 1], ["0", "1"])
    strip.set_ylabel("off", fontsize=9, color=INK)
    note = "" if block == (1, 1) else f"   (one pixel: most of {block[0]}×{block[1]} weights)"
    strip.set_xlabel("unit" + note, fontsize=9, color=INK)
    strip.set_xticks(_ticks(len(units), 13))
    strip.tick_params(bottom=True, labelbottom=True)
    _style(strip)
    count = f"{int(units['dead'].sum())} dead"
    strip.annotate(count, (1, 0.5), (5, 0), **_BESIDE, va="center", fontsize=8, color=MUTED)


def _draw_inputs(divider: AxesDivider, ax: Axes, inputs: pd.DataFrame) -> None:
    """Beside each input: which fraction of its values is near zero."""
    strip = divider.append_axes("right", size="9%", pad=0.08, sharey=ax)
    edges = np.arange(len(inputs) + 1) - 0.5
    dead = inputs["zero"].where(inputs["dead"], 0.0)
    for values, colour in ((inputs["zero"], MUTED), (dead, COLOURS[Cause.INPUT])):
        strip.add_artist(StepPatch(values, edges, color=colour, linewidth=0, orientation="horizontal"))
    strip.set_xlim(0, 1)
    strip.set_xticks([0, 1], ["0", "1"])
    strip.tick_params(labelleft=False, left=False, top=True, labeltop=True, bottom=False, labelbottom=False)
    strip.xaxis.set_label_position("top")
    strip.set_xlabel("zero", fontsize=9, color=INK, labelpad=2)
    _style(strip)
    count = f"{int(inputs['dead'].sum())} dead"
    strip.annotate(count, (1, 0.5), (5, 0), **_BESIDE, rotation=270, va="center", fontsize=8, color=MUTED)


def _style(strip: Axes) -> None:
    strip.tick_params(labelsize=7.5, length=2, colors=INK)
    strip.set_facecolor(BAR)
    strip.spines[:].set_visible(False)


def _draw_legend(divider: AxesDivider, verdict: np.ndarray) -> None:
    """The kinds of weights that are there, in axes of their own below everything."""
    found = np.flatnonzero(np.bincount(verdict.ravel(), minlength=256)).astype(np.uint8)
    labels = {kind: _kind_label(kind, found) for kind in sorted(set(_kinds(found).tolist()))}
    patches = [Patch(color=_KINDS[kind], label=label) for kind, label in labels.items()]
    columns = 2 if max(map(len, labels.values())) < 35 else 1
    below = divider.append_axes("bottom", size=0.08 + 0.19 * math.ceil(len(patches) / columns), pad=0.45)
    below.set_axis_off()
    style: dict[str, Any] = {"fontsize": 8.5, "labelcolor": INK, "handlelength": 1.0, "handleheight": 1.0}
    style |= {"frameon": False, "borderaxespad": 0, "borderpad": 0}
    below.legend(handles=patches, loc="upper left", ncols=columns, **style)


def _kind_label(kind: int, found: np.ndarray) -> str:
    """A kind in words; `found` holds the verdicts there are."""
    if kind == _NOT_NEAR_ZERO:
        return "not near zero"
    if kind < _SEVERAL:
        return LABELS[CAUSES[kind]]
    bits = int(np.bitwise_or.reduce(found[_kinds(found) == _SEVERAL]))
    names = [label for cause, label in LABELS.items() if bits & cause]
    return f"each alone: {', '.join(names)}" if len(names) <= 2 else "several causes, each alone enough"


def _write_title(ax: Axes, layer: str, row: pd.Series | None) -> None:
    name = shortened(layer if row is None else row["layer"], 48)
    ax.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=30)
    if row is None:
        return
    if pd.isna(row["near_zero"]):
        state = "frozen: no gradient is taken"
    else:
        state = f"{percent(row['near_zero'])} of the gradients near zero"
    text = f"{row['activation']}  ·  {shape_text(row['shape'])}  ·  {state}"
    ax.annotate(text, (0, 1), (0, 17), **_BESIDE, fontsize=9, color=MUTED)
