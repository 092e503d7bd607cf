"""The checks of a training: the latest reports, and every figure as a tidy table."""

from __future__ import annotations

import collections
import math

import pandas as pd

from trainobs.health._report import HealthReport
from trainobs.health._weight_health import FIGURES

_KEPT_REPORTS = 100


class History:
    """Grows with each check; reports have no tensors, and only the last 100 are kept."""

    def __init__(self) -> None:
        self._reports: collections.deque[HealthReport] = collections.deque(maxlen=_KEPT_REPORTS)
        self._rows: list[tuple[int, str, str, str, float]] = []

    @property
    def reports(self) -> tuple[HealthReport, ...]:
        """The last ones, oldest first."""
        return tuple(self._reports)

    def add(self, report: HealthReport) -> None:
        """Note a check."""
        self._reports.append(report)
        step = report.step or 0
        self._rows += [(step, "", "", "loss", report.loss), (step, "", "", "global_norm", report.global_norm)]
        for row in report.layers.reset_index().to_dict("records"):
            known = [(name, row[name]) for name in FIGURES if not math.isnan(row[name])]
            self._rows += [(step, row["layer"], row["weight"], name, float(value)) for name, value in known]

    def table(self) -> pd.DataFrame:
        """`step`, `layer`, `weight`, `figure`, `value`: a row for each figure that was known."""
        return pd.DataFrame(self._rows, columns=["step", "layer", "weight", "figure", "value"])
