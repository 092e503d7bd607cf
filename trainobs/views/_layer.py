"""A kernel, with its units and inputs beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Patch, StepPatch
from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]

from trainobs.analysis import Cause
from trainobs.views._kernel_image import KINDS, block_of, draw_kernel, image_of, kind_label, kinds_of, ticks
from trainobs.views._labels import percent, shape_text, shortened
from trainobs.views._palette import BAR, COLOURS, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from mpl_toolkits.axes_grid1.axes_divider import AxesDivider  # type: ignore[import-untyped]

    from trainobs.explanation import Explanation


def draw_layer(report: Explanation, layer: str, ax: Axes | None = None) -> Axes:
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
    report : Explanation
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
        If the report has no such layer.
    """
    verdict, row = report.weights(layer).grid, _row(report, layer)
    frozen = row is not None and pd.isna(row["near_zero"])
    if frozen:  # the report has nothing to say about its weights
        verdict = np.zeros_like(verdict)
    units, inputs = report.units(layer), report.inputs(layer)
    image = image_of(verdict)
    ax = _new_axes(*image.shape) if ax is None else ax
    divider = make_axes_locatable(ax)
    draw_kernel(ax, image, verdict)
    _draw_units(divider, ax, units, block_of(verdict))
    if len(inputs) == verdict.shape[-2]:  # else grouped: the kernel does not tell groups' inputs apart
        _draw_inputs(divider, ax, inputs)
    if not frozen:
        _draw_legend(divider, verdict)
    _write_title(ax, layer, row)
    return ax


def _row(report: Explanation, layer: str) -> pd.Series | None:
    """The layer's row of `Explanation.layers`, if the report shows it."""
    table = report.layers
    rows = table[(table["layer"] == layer) | (table.index == layer)]
    return None if rows.empty else rows.iloc[0]


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
    strip.set_xticks(ticks(len(units), 13))
    strip.tick_params(bottom=True, labelbottom=True)
    _style(strip)
    count = f"{int(units['dead'].sum())} dead"
    _write_beside(strip, count, (1, 0.5), (5, 0)).set(va="center", fontsize=8)


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
    _write_beside(strip, count, (1, 0.5), (5, 0)).set(rotation=270, va="center", fontsize=8)


def _style(strip: Axes) -> None:
    strip.tick_params(labelsize=7.5, length=2, colors=INK)
    strip.set_facecolor(BAR)
    strip.spines[:].set_visible(False)


def _draw_legend(divider: AxesDivider, verdict: np.ndarray) -> None:
    """The kinds of weights that are there, in axes of their own below everything."""
    present = np.flatnonzero(np.bincount(verdict.ravel(), minlength=256)).astype(np.uint8)
    labels = {kind: kind_label(kind, present) for kind in sorted(set(kinds_of(present).tolist()))}
    patches = [Patch(color=KINDS[kind], label=label) for kind, label in labels.items()]
    columns = 2 if max(map(len, labels.values())) < 35 else 1
    below = divider.append_axes("bottom", size=0.08 + 0.19 * math.ceil(len(patches) / columns), pad=0.45)
    below.set_axis_off()
    below.legend(
        handles=patches, loc="upper left", ncols=columns, frameon=False, fontsize=8.5, labelcolor=INK,
        handlelength=1.0, handleheight=1.0, borderaxespad=0, borderpad=0,
    )  # fmt: skip


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
    _write_beside(ax, text, (0, 1), (0, 17)).set(fontsize=9)


def _write_beside(ax: Axes, text: str, at: tuple[float, float], points: tuple[float, float]) -> Annotation:
    """Text so many points away from a place in the axes, which may lie outside of them."""
    written = ax.annotate(
        text, at, points, xycoords="axes fraction", textcoords="offset points", annotation_clip=False
    )
    written.set_color(MUTED)
    return written
