"""The gradient's way from the loss back to the input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

from trainobs.views._labels import headline, shortened, width_in_inches, words
from trainobs.views._palette import BAND, BAR, FAINT, INK, MUTED, SEVERITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainobs.explanation import Explanation

_NAMES_PER_INCH = 6.5
#: How far the band of a node reaches over the fall to its right: up to the bar of the next one.
_FALL = 0.7
_ALARM = SEVERITIES["error"]
_HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]


def draw_flow(report: Explanation, ax: Axes | None = None) -> Axes:
    """Draw gradient size and zero fraction from the loss back to the input.

    The picture tells where the gradient is lost on its way back, at once or little by little. The
    line is the size of what arrives at each node's output (of one sample's gradient, comparable with
    g*; logarithmic); a node that stops it makes the line fall to its right. Between the dashed line
    g* and the dotted one, rtol · g*, gradients are healthy; below it they are near zero. A hollow
    triangle is a gradient of exactly 0, a cross one that is not finite; where the line is missing no
    gradient arrives at all, or it was not measured (`Explanation.unmeasured_nodes`). Grey bars (right axis)
    are the fraction of zeros. Red bands mark the findings: the node, and the fall to its right.

    Parameters
    ----------
    report : Explanation
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the line; the bars stand on a twin of it.
    """
    flow = report.flow
    if ax is None:
        width = min(max(7.0, 3.0 + 0.24 * len(flow)), 16.0)
        ax = plt.subplots(figsize=(width, 4.8), layout="constrained")[1]
    low, high = _limits(flow["gradient_rms"], report)
    twin = _draw_zeros(ax, flow["zero"])
    _draw_line(ax, flow, low, high)
    _draw_references(ax, report)
    marked = _mark_findings(twin, ax, flow, report.findings_on_the_way)
    unmeasured = flow["node"].isin(report.unmeasured_nodes).to_numpy()
    silent = flow["zero"].isna().to_numpy() & ~unmeasured
    _mark_missing(ax, silent, "no gradient arrives", hatch="///")
    _mark_missing(ax, unmeasured, "not measured", hatch="..")
    _label_nodes(ax, list(flow["node"]), marked)
    _label_axes(ax, (low, high))
    ax.set_title(headline(report), loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    return ax


def _limits(gradients: pd.Series, report: Explanation) -> tuple[float, float]:
    """Where the vertical axis ends: whole powers of ten around what is shown."""
    seen = gradients[np.isfinite(gradients) & (gradients > 0)]
    references = [report.gradient_scale, report.near_zero.rtol * report.gradient_scale]
    shown = [*seen, *(value for value in references if np.isfinite(value) and value > 0)] or [1.0]
    return 10.0 ** (math.floor(math.log10(min(shown))) - 1), 10.0 ** (math.ceil(math.log10(max(shown))) + 0.5)


def _draw_zeros(ax: Axes, zero: pd.Series) -> Axes:
    """Bars on a twin axis, behind the line."""
    twin = ax.twinx()
    twin.bar(range(len(zero)), zero.fillna(0.0), width=0.6, color=BAR)
    twin.set_ylim(0, 1.04)
    twin.yaxis.set_major_formatter(PercentFormatter(1.0))
    twin.set_ylabel("exactly 0 (bars)", color=MUTED, fontsize=9)
    twin.tick_params(axis="y", colors=MUTED, labelsize=8, length=0)
    twin.spines[:].set_visible(False)
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)
    return twin


def _draw_line(ax: Axes, flow: pd.DataFrame, low: float, high: float) -> None:
    """The gradient's size, with markers at the axis' ends for what a logarithm cannot show."""
    gradients = flow["gradient_rms"].to_numpy(float)
    broken = flow["zero"].notna().to_numpy() & ~np.isfinite(gradients)
    places = np.arange(len(gradients))
    usual = np.isfinite(gradients) & (gradients > 0)
    line = np.where(usual, gradients, np.nan)
    size = 5.0 if len(gradients) <= 40 else 3.0
    ax.semilogy(places, line, "-o", color=INK, linewidth=1.6, markersize=size, label="gradient")
    for where, height, marker, name in (
        (gradients == 0, low * 1.6, "v", "exactly 0"),
        (broken, high / 1.6, "x", "not finite"),
    ):
        if where.any():
            (marks,) = ax.plot(places[where], np.full(where.sum(), height), marker, label=name)
            marks.set(color=_ALARM, markerfacecolor="white", markeredgewidth=1.5, markersize=7)


def _draw_references(ax: Axes, report: Explanation) -> None:
    """g* and the value below which a gradient is near zero."""
    scale, rtol = report.gradient_scale, report.near_zero.rtol
    limit = rtol * scale, ":", f"near zero ({rtol:g} g*)", 0, "left"  # the line starts high: free here
    for value, style, text, across, side in ((scale, "--", "g*", 1, "right"), limit):
        ax.axhline(value, color=MUTED, linewidth=1, linestyle=style, zorder=1)
        at = (across, value), (4 - 8 * across, 3)
        label = ax.annotate(text, *at, xycoords=ax.get_yaxis_transform(), textcoords="offset points")
        label.set(ha=side, fontsize=8, color=MUTED, path_effects=_HALO, zorder=4)


def _mark_findings(back: Axes, front: Axes, flow: pd.DataFrame, findings: pd.DataFrame) -> set[int]:
    """A band behind each node with a finding and the fall to its right; returns these nodes.

    Neighbours of one layer (the gates of a recurrent one) are one band, and named once.
    """
    labels: dict[int, list[str]] = {}
    for finding in findings.itertuples():
        for place in np.flatnonzero(flow["layer"] == finding.layer):
            labels.setdefault(int(place), []).append(words(str(finding.cause)))
    for at in labels:
        back.axvspan(at - 0.5, at + _FALL, color=BAND, linewidth=0, zorder=0)
    if labels:
        _name_bands(front, flow["layer"].to_numpy(), labels)
    return set(labels)


def _name_bands(ax: Axes, layers: np.ndarray, labels: dict[int, list[str]]) -> None:
    """Labels above the picture, one for neighbours of one layer."""
    marked = np.array(sorted(labels))
    layer = layers[marked]
    ends = np.flatnonzero((np.diff(marked) > 1) | (layer[1:] != layer[:-1])) + 1
    bands = np.split(marked, ends)
    top = ax.secondary_xaxis("top")
    top.set_xticks([band.mean() for band in bands], [", ".join(labels[int(band[0])]) for band in bands])
    top.tick_params(length=0, labelsize=8.5, labelcolor=_ALARM, pad=2)
    if len(bands) > 2:
        plt.setp(top.get_xticklabels(), rotation=35, ha="left", rotation_mode="anchor")
    top.spines[:].set_visible(False)


def _mark_missing(ax: Axes, missing: np.ndarray, why: str, hatch: str) -> None:
    """Say why the line is missing."""
    places = np.flatnonzero(missing)
    for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else ():
        ax.axvspan(run[0] - 0.5, run[-1] + 0.5, facecolor="none", edgecolor=FAINT, hatch=hatch, linewidth=0)
        text = ax.annotate(why, (run.mean(), 0.5), xycoords=ax.get_xaxis_transform())
        text.set(ha="center", va="center", rotation=0 if len(run) > len(missing) / 4 else 90)
        text.set(color=MUTED, fontsize=8.5, path_effects=_HALO)


def _label_nodes(ax: Axes, nodes: list[str], marked: set[int]) -> None:
    """The nodes' names; if there is no room for all, as many as fit, and those with a finding."""
    count = len(nodes)
    room = width_in_inches(ax) * _NAMES_PER_INCH
    step = math.ceil(count / room)
    free = (place for place in range(0, count, step) if all(abs(place - at) >= step for at in marked))
    shown = sorted({*free, *marked})
    ax.set_xlim(-0.6, count - 0.4)
    ax.set_xticks(shown, [shortened(nodes[place], 22) for place in shown])
    ax.tick_params(axis="x", labelsize=8.5 if count <= 0.6 * room else 7, length=2, labelcolor=INK)
    if count > width_in_inches(ax):
        rotation = 45 if count <= 0.6 * room else 60
        plt.setp(ax.get_xticklabels(), rotation=rotation, ha="right", rotation_mode="anchor")


def _label_axes(ax: Axes, limits: tuple[float, float]) -> None:
    ax.set_ylim(*limits)
    ax.tick_params(axis="y", labelsize=8, colors=INK)
    ax.set_ylabel("size of a sample's gradient (as g*)", fontsize=9, color=INK)
    ax.set_xlabel("from the loss  →  back to the input", fontsize=9, color=MUTED)
    ax.spines[["top", "right"]].set_visible(False)
    handles, _ = ax.get_legend_handles_labels()
    if len(handles) > 1:
        ax.legend(loc="lower left", fontsize=8, frameon=False)
