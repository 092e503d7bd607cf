"""The frozen result of one check."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

import pandas as pd

from trainobs.findings import COLUMNS, DTYPES, SEVERITIES, Finding
from trainobs.health._figures import figures
from trainobs.health._gradients import Moved
from trainobs.health._measured import Measured
from trainobs.health._samples import Samples
from trainobs.health._verdict import one_verdict
from trainobs.health._weight_health import global_norm, table_of
from trainobs.health.rules import findings
from trainobs.records import StepRecord
from trainobs.thresholds import Thresholds

_MOST_LINES = 8
#: What is logged: name in the log, column, and whether it belongs to a layer.
_LOGGED = (
    ("norm", "gradient_norm", False),
    ("mean_abs", "gradient_mean_abs", False),
    ("weight_rms", "weight_rms", False),
    ("update_ratio", "update_ratio", False),
    ("dead", "dead_units", True),
    ("saturated", "saturated", True),
    ("shift", "shift", True),
)


@dataclasses.dataclass(frozen=True, eq=False)
class HealthReport:
    """What one check of a training says. It has tables of numbers, no tensors.

    Made by `check_health` and `GradientHealth`; not meant to be constructed by hand.

    Attributes
    ----------
    step : int or None
        The step that was checked; None for a model.
    layers : pandas.DataFrame
        A row per weight (index `weight`, the variable's path) with its figures; columns in docs/health.md.
    findings : pandas.DataFrame
        The columns of `Report.findings`, the most severe first: `severity` ("error", "warning", "info"),
        `cause` (as in docs/findings.md, or a rule's name in docs/health.md), `layer`, `share`, `affects`,
        `evidence`, `remedy`, `weight`, `value`, `threshold`. Of rules `share` is nan and `affects` empty.
    flow : dict of str to tuple of str
        Names of the layers whose gradients are "vanishing", "exploding" or "non_finite".
    global_norm : float
        √(Σ ‖g‖²) over the trainable weights that were recorded.
    loss : float
        The batch's own loss.
    oscillation : float
        See `Thresholds.oscillation_swing`; nan while it is not known.
    thresholds : Thresholds
        What figures were compared with.
    """

    step: int | None
    layers: pd.DataFrame
    findings: pd.DataFrame
    flow: dict[str, tuple[str, ...]]
    global_norm: float
    loss: float
    oscillation: float
    thresholds: Thresholds

    @property
    def healthy(self) -> bool:
        """Whether there is no error and no warning."""
        return not self.findings["severity"].isin(("error", "warning")).any()

    def scalars(self) -> dict[str, float]:
        """The figures by name, for a log.

        Returns
        -------
        dict of str to float
            "loss", "global_norm", "errors", "warnings", and "norm/<weight>", "mean_abs/<weight>",
            "weight_rms/<weight>", "update_ratio/<weight>", "non_finite/<weight>" (where there are any),
            "dead/<layer>", "saturated/<layer>", "shift/<layer>" where they are known.
        """
        severities = self.findings["severity"]
        flat = {
            "loss": self.loss,
            "global_norm": self.global_norm,
            "errors": float((severities == "error").sum()),
            "warnings": float((severities == "warning").sum()),
        }
        if not math.isnan(self.oscillation):
            flat["oscillation"] = self.oscillation
        for name, column, of_layer in _LOGGED:
            known = self.layers[self.layers[column].notna()]
            values = known.groupby("layer", sort=False)[column].max() if of_layer else known[column]
            flat |= {f"{name}/{key}": float(value) for key, value in values.items()}
        broken = self.layers.loc[self.layers["non_finite"] > 0, "non_finite"]
        return flat | {f"non_finite/{weight}": float(count) for weight, count in broken.items()}

    def __repr__(self) -> str:
        lines = [
            f"trainobs health{self._where()}: {self._verdict} ({self._counts or 'no finding'})",
            f"  loss {self.loss:.4g} · norm of all gradients {self.global_norm:.4g}",
        ]
        for how, names in self.flow.items():
            lines += [f"  gradients {how.replace('_', '-')}: {', '.join(names)}"] if names else []
        shown = self.findings.head(_MOST_LINES)
        for row in shown.itertuples():
            lines.append(f"  {row.severity:7} {row.evidence}")
            lines += [f"          → {row.remedy}"] if row.severity != "info" else []
        if len(self.findings) > len(shown):
            lines.append(f"  … and {len(self.findings) - len(shown)} more in `.findings`")
        return "\n".join(lines)

    @property
    def _verdict(self) -> str:
        return "healthy" if self.healthy else "not healthy"

    @property
    def _counts(self) -> str:
        """How many findings there are of each severity."""
        counts = self.findings["severity"].value_counts()
        return ", ".join(f"{name}: {counts[name]}" for name in SEVERITIES if name in counts)

    def _where(self) -> str:
        return "" if self.step is None else f", step {self.step}"

    def _repr_html_(self) -> str:
        table = self.findings[["severity", "evidence", "remedy"]]
        shown = table.to_html(index=False, justify="left", border=0) if len(table) else "<p>No finding.</p>"
        title = f"Gradient health{self._where()}: {self._verdict}"
        numbers = f"loss {self.loss:.4g} · norm of all gradients {self.global_norm:.4g}"
        return f"<h4>{html.escape(title)}</h4><p>{html.escape(numbers)}</p>{shown}"


#: Given what rules find, the causes that an explanation finds; None where none was made.
Ask = Callable[[list[Finding]], Sequence[Finding] | None]


def report_of(
    record: StepRecord,
    thresholds: Thresholds,
    *,
    step: int | None,
    first: bool,
    moved: Moved,
    before: Samples | None = None,
    oscillation: float = math.nan,
    ask: Ask = lambda found: None,
) -> HealthReport:
    """Check one recorded step (for the parameters see `figures`, `Measured` and `Ask`)."""
    weights = figures(record, thresholds, moved, before)
    norm = global_norm(weights)
    measured = Measured(weights, thresholds, record.loss, norm, oscillation, first)
    found = findings(measured)
    return HealthReport(
        step=step,
        layers=table_of(weights),
        findings=_table_of_findings(one_verdict(found, ask(found))),
        flow=measured.flow(),
        global_norm=norm,
        loss=record.loss,
        oscillation=oscillation,
        thresholds=thresholds,
    )


def _table_of_findings(rows: list[Finding]) -> pd.DataFrame:
    """A row per finding; its columns have their types without a row too."""
    table = pd.DataFrame([vars(finding) for finding in rows], columns=list(COLUMNS))
    return table.astype(DTYPES)
