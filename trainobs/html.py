"""A report as HTML: a fragment for notebooks and a page that loads nothing from outside."""

from __future__ import annotations

import base64
import functools
import io
import numbers
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trainobs.analysis import Cause
from trainobs.plots import draw_flow, draw_heatmap, draw_layer
from trainobs.plots._labels import NOTHING, headline, kernel_labels, percent, shape_text, words
from trainobs.plots._palette import COLOURS, COLUMNS, LABELS, NOT_NEAR_ZERO, SEVERAL, SEVERITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainobs.report import Report

_CARDS = 4  # further findings are folded away
_NAMES = 8
_LAYER_PICTURES = 6
_FINE = COLOURS[Cause.BACKPROP]

_MEANINGS: dict[Cause, str] = {
    Cause.INPUT: "What the weight multiplies is near zero.",
    Cause.ACTIVATION: "The unit is off: the slope of its activation is near zero.",
    Cause.BACKPROP: "Hardly any gradient comes back from the layers behind.",
    Cause.INPUT_ACTIVATION: "Only together: where the input is live the unit is off, or both are small.",
    Cause.INPUT_BACKPROP: "Only together: where the input is live no gradient comes back, or both are small.",
    Cause.ACTIVATION_BACKPROP: "Only together: where the unit is on no gradient comes back, or both small.",
    Cause.INPUT_ACTIVATION_BACKPROP: "All three together, and no two of them.",
    Cause.CANCELLATION: "The terms are large, but cancel in the sum.",
}
_DEFINITIONS = (
    (
        "near zero",
        "|dJ/dw| is at most rtol · a* · g* · √T / n: what T terms of relative size rtol add up to.",
    ),
    (
        "a*, s*, g*",
        "Reference sizes of inputs, slopes and gradients; g* is read where the loss meets the model.",
    ),
    (
        "share",
        "Part of a kernel's near-zero weights that a cause holds there; the eight shares add to 100 %.",
    ),
    ("cause", "A set of factors that alone, the others at their reference, keeps the gradient near zero."),
    ("p_…", "Fraction of the terms in which a factor is near zero."),
    ("dead unit", "Off at all positions of the data; over one batch common in healthy networks."),
    ("gain", "Size of the gradient that a node passes on over the size of what arrives."),
    (
        "residual",
        "Distance of the terms' sum from the measured gradient, relative: 0 where the layer is understood.",
    ),
)
_HEATMAP = (
    "Kernels × causes, input first. Numbers split up the near-zero gradients of a row; the strength of the "
    "colour is the part of all its weights, so a healthy network looks pale."
)
_FLOW = (
    "The gradient's way back from the loss. A node that stops it makes the line fall to its right; below the "
    "dotted line gradients are near zero."
)
_LAYER = (
    "The kernel of {}, every weight coloured by its verdict. Below each unit: how often it is off; beside "
    "each input: how often it is zero."
)


def fragment(report: Report) -> str:
    """The report as a piece of HTML for notebooks.

    Findings as cards, a row per kernel with its causes as a bar, scope and thresholds. It has no
    scripts, loads nothing, and takes text colour and background from the page around it.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
    """
    return (
        _environment()
        .get_template("fragment.html.jinja")
        .render(
            scope=report.scope,
            thresholds=report.thresholds,
            findings=[_card(finding, report) for _, finding in report.findings.iterrows()],
            shown=_CARDS,
            fine=_FINE,
            kernels=_kernels(report),
            legend=_legend(report),
        )
    )


def write_page(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as one HTML file: the fragment, pictures, full tables and definitions.

    Parameters
    ----------
    report : Report
    path : str or path-like
        The file to write; an existing one is replaced.
    """
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            headline=headline(report),
            fragment=Markup(fragment(report)),
            pictures=list(_pictures(report)),
            causes=_all_causes(),
            definitions=_DEFINITIONS,
            tables=[
                _table("layers", "a row per weight", report.layers.reset_index()),
                _table("flow", "from the loss back to the input", report.flow),
                _table("findings", "ranked", report.findings),
                _table("chains", "where each gradient is lost", report.chains.reset_index()),
            ],
        )
    )
    pathlib.Path(path).write_text(page, encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("trainobs", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


# ---- the fragment --------------------------------------------------------------------------------


def _card(finding: pd.Series, report: Report) -> dict[str, str]:
    more = len(finding["affects"]) - _NAMES
    affects = ", ".join(finding["affects"][:_NAMES]) + (f" and {more} more" if more > 0 else "")
    return {
        "severity": finding["severity"],
        "colour": SEVERITIES[finding["severity"]],
        "cause": words(finding["cause"]),
        "layer": finding["layer"],
        "share": percent(finding["share"]) if finding["share"] > 0 else "",
        "evidence": finding["evidence"],
        "affects": affects,
        "chain": _example(finding, report),
        "remedy": finding["remedy"],
    }


def _example(finding: pd.Series, report: Report) -> str:
    """The way from the weight furthest away that a finding holds; none where it begins and ends there."""
    held = (report.layers[["root_cause", "root_layer"]] == [finding["cause"], finding["layer"]]).all(axis=1)
    elsewhere = held & (report.layers["layer"] != finding["layer"])
    return report.chain(str(elsewhere.idxmax())) if elsewhere.any() else ""


def _kernels(report: Report) -> list[dict[str, Any]]:
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


def _legend(report: Report) -> list[dict[str, str]]:
    """The causes that the bars show."""
    layers = report.kernels
    return [
        {"label": LABELS[cause], "colour": COLOURS[cause]}
        for cause, column in COLUMNS.items()
        if (layers["near_zero"] * layers[column] > 0).any()
    ]


# ---- the page ------------------------------------------------------------------------------------


def _all_causes() -> list[dict[str, str]]:
    causes = [{"label": LABELS[c], "colour": COLOURS[c], "meaning": text} for c, text in _MEANINGS.items()]
    several = "Several causes, each of which alone would do (in pictures of a layer)."
    live = "A gradient that is not near zero (in pictures of a layer)."
    return [
        *causes,
        {"label": "each alone", "colour": SEVERAL, "meaning": several},
        {"label": "not near zero", "colour": NOT_NEAR_ZERO, "meaning": live},
    ]


def _pictures(report: Report) -> Iterator[dict[str, str]]:
    yield {"caption": _HEATMAP, "alt": "kernels × causes", "data": _png(draw_heatmap(report))}
    yield {"caption": _FLOW, "alt": "gradient flow", "data": _png(draw_flow(report))}
    labels = kernel_labels(report)
    for path in _kernels_with_findings(report)[:_LAYER_PICTURES]:
        caption = _LAYER.format(labels[path])
        yield {"caption": caption, "alt": f"kernel of {labels[path]}", "data": _png(draw_layer(report, path))}


def _kernels_with_findings(report: Report) -> list[str]:
    """Paths of the kernels whose layer a finding names, the worst finding first."""
    names = report.kernels["layer"]
    return [
        str(path) for layer in dict.fromkeys(report.findings["layer"]) for path in names.index[names == layer]
    ]


def _png(ax: Axes) -> str:
    """The picture as base64; its figure is closed, so that no notebook shows it."""
    figure, buffer = ax.get_figure(), io.BytesIO()
    assert isinstance(figure, Figure)
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _table(name: str, about: str, frame: pd.DataFrame) -> dict[str, Any]:
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    columns = [
        {"text": str(column), "kind": "number" if right else ""}
        for column, right in zip(frame.columns, numeric, strict=True)
    ]
    return {"name": name, "about": about, "columns": columns, "rows": rows}


def _cell(value: Any) -> dict[str, str]:
    if isinstance(value, tuple):
        numeric = all(isinstance(part, numbers.Integral) for part in value)
        text = (shape_text(value) if numeric else ", ".join(map(str, value))) if value else NOTHING
        return {"text": text, "kind": "text" if len(text) > 40 else ""}
    if pd.isna(value):
        return {"text": NOTHING, "kind": "number"}
    if isinstance(value, numbers.Real):
        text = f"{value:,}" if isinstance(value, numbers.Integral) else f"{value:.3g}"
        return {"text": text, "kind": "number"}
    return {"text": str(value), "kind": "text" if len(str(value)) > 60 else ""}
