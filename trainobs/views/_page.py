"""An explanation as one HTML file that loads nothing from outside."""

from __future__ import annotations

import base64
import io
import numbers
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trainobs.views._definitions import DEFINITIONS, FLOW, HEATMAP, LAYER, MEANINGS
from trainobs.views._flow import draw_flow
from trainobs.views._fragment import fragment
from trainobs.views._heatmap import draw_heatmap
from trainobs.views._labels import NOTHING, headline, kernel_labels, shape_text
from trainobs.views._layer import draw_layer
from trainobs.views._palette import COLOURS, LABELS, NOT_NEAR_ZERO, SEVERAL
from trainobs.views._templates import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainobs.explanation import Explanation

_LAYER_PICTURES = 6

#: What stands in a table.
Cell = str | int | float | tuple[object, ...] | None


def write_page(report: Explanation, path: str | os.PathLike[str]) -> None:
    """Write the report as one HTML file: the fragment, pictures, full tables and definitions.

    Parameters
    ----------
    report : Explanation
    path : str or path-like
        The file to write; an existing one is replaced.
    """
    page = rendered(
        "page.html.jinja",
        headline=headline(report),
        fragment=Markup(fragment(report)),
        pictures=list(_pictures(report)),
        causes=_all_causes(),
        definitions=DEFINITIONS,
        tables=[
            _table("layers", "a row per weight", report.layers.reset_index()),
            _table("flow", "from the loss back to the input", report.flow),
            _table("findings", "ranked", report.findings),
            _table("chains", "where each gradient is lost", report.chains.reset_index()),
        ],
    )
    pathlib.Path(path).write_text(page, encoding="utf-8")


def _all_causes() -> list[dict[str, str]]:
    causes = [{"label": LABELS[c], "colour": COLOURS[c], "meaning": text} for c, text in MEANINGS.items()]
    several = "Several causes, each of which alone would do (in pictures of a layer)."
    live = "A gradient that is not near zero (in pictures of a layer)."
    return [
        *causes,
        {"label": "each alone", "colour": SEVERAL, "meaning": several},
        {"label": "not near zero", "colour": NOT_NEAR_ZERO, "meaning": live},
    ]


def _pictures(report: Explanation) -> Iterator[dict[str, str]]:
    yield {"caption": HEATMAP, "alt": "kernels × causes", "data": _png(draw_heatmap(report))}
    yield {"caption": FLOW, "alt": "gradient flow", "data": _png(draw_flow(report))}
    labels = kernel_labels(report)
    for path in _kernels_with_findings(report)[:_LAYER_PICTURES]:
        caption = LAYER.format(labels[path])
        yield {"caption": caption, "alt": f"kernel of {labels[path]}", "data": _png(draw_layer(report, path))}


def _kernels_with_findings(report: Explanation) -> list[str]:
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


def _table(name: str, about: str, frame: pd.DataFrame) -> dict[str, object]:
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    columns = [
        {"text": str(column), "kind": "number" if right else ""}
        for column, right in zip(frame.columns, numeric, strict=True)
    ]
    return {"name": name, "about": about, "columns": columns, "rows": rows}


def _cell(value: Cell) -> dict[str, str]:
    if isinstance(value, tuple):
        text = _tuple_text(value)
        return {"text": text, "kind": "text" if len(text) > 40 else ""}
    if isinstance(value, bool):
        return {"text": "yes" if value else "no", "kind": ""}
    if pd.isna(value):
        return {"text": NOTHING, "kind": "number"}
    if isinstance(value, numbers.Real):
        text = f"{value:,}" if isinstance(value, numbers.Integral) else f"{value:.3g}"
        return {"text": text, "kind": "number"}
    return {"text": str(value), "kind": "text" if len(str(value)) > 60 else ""}


def _tuple_text(values: tuple[object, ...]) -> str:
    """A shape, or names."""
    if not values:
        return NOTHING
    shape = [value for value in values if isinstance(value, numbers.Integral)]
    return shape_text(tuple(map(int, shape))) if len(shape) == len(values) else ", ".join(map(str, values))
