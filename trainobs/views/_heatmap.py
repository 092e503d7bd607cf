"""Kernels × causes: what holds each kernel's near-zero gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from trainobs.views._labels import NOTHING, headline, kernel_labels, percent, shortened, width_in_inches
from trainobs.views._palette import (
    BAR,
    COLOURS,
    COLUMNS,
    FILLED,
    INK,
    LABELS,
    MUTED,
    NOT_NEAR_ZERO,
    ink_on,
    mixed_with_white,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainobs.explanation import Explanation

_BAR_LEFT, _BAR_WIDTH = -1.75, 1.35  # the column "near zero", apart from the causes at 0 … 8
_CAUSES = tuple(COLOURS.values())
_ROW_INCHES, _SMALLEST_TEXT = 0.3, 3.5


def draw_heatmap(report: Explanation, ax: Axes | None = None) -> Axes:
    """Draw which causes hold each kernel's near-zero gradients.

    The picture tells where in the network gradients are near zero, and why. A row is a kernel, the
    input's first. The bar on the left is the fraction of its weights with a near-zero gradient; the
    numbers to the right split that fraction up by cause and add to 100 %. The colour's strength is
    the cause's part of *all* weights of the kernel, so that a healthy network looks pale. Where a
    layer is dead, the kernels before it show "backprop" and those behind it "input". "–" means that
    there is nothing to split up: no gradient is near zero, or the kernel is frozen.

    Parameters
    ----------
    report : Explanation
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    table = report.kernels
    rows = len(table)
    if ax is None:
        ax = plt.subplots(figsize=(10.5, 1.9 + _ROW_INCHES * max(rows, 2)), layout="constrained")[1]
    text_size = _text_size(ax, rows)
    _draw_near_zero(ax, table["near_zero"], text_size)
    _draw_shares(ax, table, text_size)
    _label_axes(ax, [shortened(label) for label in kernel_labels(report).values()], text_size)
    ax.set_title(headline(report), loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    return ax


def _text_size(ax: Axes, rows: int) -> float:
    """The size in points at which a row's text fits its height."""
    points = ax.get_window_extent().height / ax.figure.dpi * 72 / max(rows, 1)
    return float(min(9.0, 0.62 * points))


def _draw_near_zero(ax: Axes, near_zero: pd.Series, text_size: float) -> None:
    """The fraction of near-zero gradients, as bars in a column of their own."""
    rows, fractions = np.arange(len(near_zero)), near_zero.fillna(0.0).to_numpy()
    ax.barh(rows, _BAR_WIDTH, 0.8, _BAR_LEFT, color=NOT_NEAR_ZERO)
    ax.barh(rows, _BAR_WIDTH * fractions, 0.8, _BAR_LEFT, color=FILLED)
    for row, value in enumerate(near_zero):
        _write(ax, _BAR_LEFT + _BAR_WIDTH / 2, row, percent(value), INK, text_size)


def _draw_shares(ax: Axes, table: pd.DataFrame, text_size: float) -> None:
    """One cell per kernel and cause."""
    shares = table[list(COLUMNS.values())].to_numpy(float)
    strengths = np.nan_to_num(shares * table[["near_zero"]].to_numpy(float))
    colours = [[mixed_with_white(c, s) for c, s in zip(_CAUSES, row, strict=True)] for row in strengths]
    extent = (0, shares.shape[1], len(table) - 0.5, -0.5)
    ax.imshow(np.array(colours), extent=extent, aspect="auto", interpolation="nearest")
    for (row, column), share in np.ndenumerate(shares):
        quiet = np.isnan(share) or share == 0
        text = NOTHING if np.isnan(share) else ("0" if share == 0 else percent(share))
        _write(ax, column + 0.5, row, text, FILLED if quiet else ink_on(colours[row][column]), text_size)


def _write(ax: Axes, x: float, y: float, text: str, colour: str, size: float) -> None:
    if size >= _SMALLEST_TEXT:
        ax.text(x, y, text, color=colour, fontsize=size, ha="center", va="center")


def _label_axes(ax: Axes, kernels: list[str], text_size: float) -> None:
    ax.set_yticks(range(len(kernels)), kernels)
    ax.tick_params(length=0, labelcolor=INK)
    ax.tick_params(axis="y", labelsize=max(text_size, _SMALLEST_TEXT))
    _label_columns(ax)
    _draw_lines(ax, len(kernels))
    note = "numbers: part of the row's near-zero gradients   ·   colour: part of all its weights"
    ax.set_xlabel(note, fontsize=8, color=MUTED, loc="left", labelpad=6)


def _label_columns(ax: Axes) -> None:
    """Names above the columns: a word a line, or slanted where columns are narrow."""
    narrow = width_in_inches(ax) < 7
    names = ["near zero", *LABELS.values()]
    texts = names if narrow else [name.replace(" + ", " +\n").replace("near ", "near\n") for name in names]
    ax.set_xticks([_BAR_LEFT + _BAR_WIDTH / 2, *(np.arange(len(LABELS)) + 0.5)], texts)
    ax.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False, labelsize=8.5, pad=6)
    if narrow:
        plt.setp(ax.get_xticklabels(), rotation=35, ha="left", rotation_mode="anchor")


def _draw_lines(ax: Axes, rows: int) -> None:
    """A grid between the cells, and each cause's full colour above its column."""
    causes = len(LABELS)
    ax.spines[:].set_visible(False)
    lines = np.arange(rows + 1) - 0.5
    ax.hlines(lines, 0, causes, color=BAR, linewidth=0.6)
    ax.vlines(np.arange(causes + 1), lines[0], lines[-1], color=BAR, linewidth=0.6)
    for column, colour in enumerate(_CAUSES):
        ax.hlines(-0.5, column + 0.04, column + 0.96, color=colour, linewidth=5)
    ax.set_xlim(_BAR_LEFT - 0.05, causes + 0.02)
    ax.set_ylim(rows - 0.48, -0.56)
