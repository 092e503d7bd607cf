"""An explanation as a piece of HTML for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from trainobs.analysis import Cause
from trainobs.views._definitions import PROVED
from trainobs.views._labels import kernel_labels, percent, shape_text, words
from trainobs.views._palette import COLOURS, COLUMNS, LABELS, SEVERITIES
from trainobs.views._templates import rendered

if TYPE_CHECKING:
    from trainobs.explanation import Explanation

_CARDS = 4  # further findings are folded away
_NAMES = 8
_FINE = COLOURS[Cause.BACKPROP]


def fragment(report: Explanation) -> str:
    """The report as a piece of HTML for notebooks.

    Findings as cards, a row per kernel with its causes as a bar, scope and thresholds. It has no
    scripts, loads nothing, and takes text colour and background from the page around it.

    Parameters
    ----------
    report : Explanation

    Returns
    -------
    str
    """
    return rendered(
        "fragment.html.jinja",
        scope=report.scope,
        thresholds=report.thresholds_text,
        findings=[_card(finding, report) for _, finding in report.findings.iterrows()],
        shown=_CARDS,
        proved_means=PROVED,
        fine=_FINE,
        kernels=_kernels(report),
        legend=_legend(report),
    )


def _card(finding: pd.Series, report: Explanation) -> dict[str, str]:
    more = len(finding["affects"]) - _NAMES
    affects = ", ".join(finding["affects"][:_NAMES]) + (f" and {more} more" if more > 0 else "")
    return {
        "severity": finding["severity"],
        "colour": SEVERITIES[finding["severity"]],
        "cause": words(finding["cause"]),
        "layer": finding["layer"],
        "share": percent(finding["share"]) if finding["share"] > 0 else "",
        "proved": "proved" if finding["proved"] else "",
        "evidence": finding["evidence"],
        "affects": affects,
        "chain": _example(finding, report),
        "remedy": finding["remedy"],
    }


def _example(finding: pd.Series, report: Explanation) -> str:
    """The way to a finding from the furthest weight that it affects; none where the way has no length."""
    held = (report.layers[["root_cause", "root_layer"]] == [finding["cause"], finding["layer"]]).all(axis=1)
    elsewhere = held & (report.layers["layer"] != finding["layer"])
    return report.chain(str(elsewhere.idxmax())) if elsewhere.any() else ""


def _kernels(report: Explanation) -> list[dict[str, object]]:
    labels, summary = kernel_labels(report), report.summary().to_dict("index")
    return [
        {
            "label": labels[str(path)],
            "activation": row["activation"],
            "shape": shape_text(row["shape"]),
            "near_zero": percent(row["near_zero"]),
            "parts": _parts(row),
            "held_by": summary[path]["held by"],
            "dead_units": summary[path]["dead units"],
            "root": "" if pd.isna(row["root_cause"]) else words(row["root_cause"]),
            "root_layer": row["root_layer"],
        }
        for path, row in report.kernels.iterrows()
    ]


def _parts(row: pd.Series) -> list[dict[str, str]]:
    """The pieces of a kernel's bar: for each cause its part of all weights."""
    return [
        {
            "title": f"{LABELS[cause]}: {percent(row[column])} of the near-zero gradients",
            "width": f"{100 * row['near_zero'] * row[column]:.2f}",
            "colour": COLOURS[cause],
        }
        for cause, column in COLUMNS.items()
        if row["near_zero"] * row[column] > 0
    ]


def _legend(report: Explanation) -> list[dict[str, str]]:
    """The causes that the bars show."""
    layers = report.kernels
    return [
        {"label": LABELS[cause], "colour": COLOURS[cause]}
        for cause, column in COLUMNS.items()
        if (layers["near_zero"] * layers[column] > 0).any()
    ]
