"""What each remedy changed: near-zero gradients and loss, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

from trainobs.analysis import Cause
from trainobs.views._labels import shortened, words
from trainobs.views._palette import COLOURS, FAINT, INK, MUTED, SEVERITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GONE = COLOURS[Cause.BACKPROP], "o", "after: finding gone"
_LEFT = SEVERITIES["error"], "X", "after: still there"
_ROW = 0.34  # inches


def draw_remedies(trials: pd.DataFrame) -> np.ndarray:
    """Draw what remedies did, the best on top.

    A row per remedy. Left, the part of all weights with a near-zero gradient: a hollow dot before; after, a
    green dot where the finding is gone and a red cross where it is still there. Right, the loss
    after some steps of training; the dashed line is that of the untreated model. A remedy that could not
    be applied has no dots.

    Parameters
    ----------
    trials : pandas.DataFrame
        From `Report.try_remedies`.

    Returns
    -------
    array of two matplotlib.axes.Axes
    """
    rows = len(trials)
    figure, axes = plt.subplots(
        1, 2, sharey=True, figsize=(9.5, 1.5 + _ROW * max(rows, 2)), layout="constrained", width_ratios=(3, 2)
    )
    places = np.arange(rows)
    gone = trials["gone"].to_numpy(bool)
    _draw_near_zero(axes[0], trials, places, gone)
    _draw_losses(axes[1], trials, places, gone)
    names = [shortened(str(remedy), 34) for remedy in trials["remedy"]]
    axes[0].set_yticks(places, names, fontsize=9, color=INK)
    axes[0].set_ylim(max(rows, 1) - 0.5, -0.5)
    figure.suptitle(_title(trials), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return axes


def _draw_near_zero(ax: Axes, trials: pd.DataFrame, places: np.ndarray, gone: np.ndarray) -> None:
    before, after = (trials[f"near_zero_{when}"].to_numpy(float) for when in ("before", "after"))
    ax.hlines(places, before, after, color=FAINT, linewidth=2, zorder=1)
    ax.scatter(before, places, facecolors="white", edgecolors=MUTED, s=34, zorder=2, label="before")
    _mark(ax, after, places, gone)
    ax.set_xlim(-0.03, 1.03)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("weights with a near-zero gradient", fontsize=9, color=INK)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
    _tidy(ax)


def _mark(ax: Axes, values: np.ndarray, places: np.ndarray, gone: np.ndarray) -> None:
    """A dot where the finding is gone, a cross where it is still there."""
    for marks, which in ((_GONE, gone), (_LEFT, ~gone)):
        colour, marker, label = marks
        ax.scatter(values[which], places[which], color=colour, marker=marker, s=44, zorder=3, label=label)


def _draw_losses(ax: Axes, trials: pd.DataFrame, places: np.ndarray, gone: np.ndarray) -> None:
    losses = trials["loss_after"].to_numpy(float)
    _mark(ax, losses, places, gone)
    untreated = trials["loss_untreated"].to_numpy(float)
    if len(untreated) and np.isfinite(untreated[0]):
        ax.axvline(untreated[0], color=MUTED, linestyle="--", linewidth=1, zorder=1)
        ax.annotate(
            "untreated", (untreated[0], 1.0), (3, 3), xycoords=ax.get_xaxis_transform(),
            textcoords="offset points", fontsize=8, color=MUTED,
        )  # fmt: skip
    seen = losses[np.isfinite(losses)]
    if len(seen) and seen.min() > 0 and seen.max() > 20 * seen.min():
        ax.set_xscale("log")
    ax.set_xlabel("loss after training", fontsize=9, color=INK)
    _tidy(ax)


def _tidy(ax: Axes) -> None:
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.tick_params(axis="x", labelsize=8, colors=INK)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _title(trials: pd.DataFrame) -> str:
    if trials.empty:
        return "No remedy fits"
    best = trials.iloc[0]
    finding = f"{words(str(best['cause']))} at {best['layer']}"
    if not best["gone"]:
        return f"No remedy removes {finding}"
    return f"{str(best['remedy']).capitalize()} removes {finding}"
