"""How often the first finding is the planted fault, and how often a finding is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import pandas as pd

import trainobs
from tests.faults.suite.cases import SAMPLES, Case, Finding, Planted
from tests.mechanisms.sentences import wrong_in_report


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was found in a case.

    Attributes
    ----------
    case : Case
    expected, consequences : the planted faults, and what follows from them
    found : tuple of (cause, layer)
        Without findings that only inform, unless one of their causes was planted.
    wrong : list of (sentence, what is wrong with it)
        See `tests.mechanisms.sentences`.
    """

    case: Case
    expected: tuple[Finding, ...]
    consequences: frozenset[Finding]
    found: tuple[Finding, ...]
    wrong: list[tuple[str, list[str]]] = dataclasses.field(default_factory=list)

    @property
    def hits(self) -> int:
        """Planted faults whose cause was found."""
        return sum(any(cause == other for other, _ in self.found) for cause, _ in self.expected)

    @property
    def true_findings(self) -> int:
        """Findings of a planted cause at its layer."""
        return sum(any(_is(found, fault) for fault in self.expected) for found in self.judged)

    @property
    def judged(self) -> list[Finding]:
        """Findings that are either right or wrong: not the consequences of a planted fault."""
        return [found for found in self.found if found not in self.consequences]

    @property
    def root_is_first(self) -> bool:
        """Whether the first finding is a planted fault, cause and layer."""
        return any(_is(found, fault) for found in self.found[:1] for fault in self.expected)

    @property
    def is_right(self) -> bool:
        """Nothing is missing, nothing is wrong, and the fault comes first."""
        whole = self.hits == len(self.expected) and self.true_findings == len(self.judged)
        return whole and (self.root_is_first or not self.expected)


def _is(found: Finding, fault: Finding) -> bool:
    return found[0] == fault[0] and fault[1] in (found[1], "*")


def judge(case: Case) -> Outcome:
    """Make a case, explain it, and compare."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    planted = case.make()
    report = _explained(planted)
    findings = report.findings
    causes = {cause for cause, _ in planted.faults}
    told = findings[(findings.severity != "info") | findings.cause.isin(causes)]
    found = tuple(zip(told.cause, told.layer, strict=True))
    return Outcome(case, planted.faults, planted.consequences, found, wrong_in_report(report))


def _explained(planted: Planted) -> trainobs.Report:
    x, y = planted.x, planted.y
    if planted.fit is None:
        few = slice(planted.samples)
        return trainobs.explain_near_zero_gradients(planted.model, x[few], y[few], batch_size=planted.samples)
    recorder = trainobs.Recorder(at=[0])
    planted.model.fit(x, y, batch_size=SAMPLES, callbacks=[recorder], verbose=0, **planted.fit)
    return trainobs.explain_near_zero_gradients(recorder)


def metrics(outcomes: Iterable[Outcome]) -> pd.Series:
    """Recall, precision and root layer of the faulty cases, false alarms of the healthy ones."""
    outcomes = list(outcomes)
    faulty = [o for o in outcomes if o.expected]
    healthy = [o for o in outcomes if not o.expected]
    judged = sum(len(o.judged) for o in faulty)
    return pd.Series(
        {
            "faulty models": len(faulty),
            "healthy models": len(healthy),
            "recall": sum(o.hits for o in faulty) / max(sum(len(o.expected) for o in faulty), 1),
            "precision": sum(o.true_findings for o in faulty) / max(judged, 1),
            "root first": sum(o.root_is_first for o in faulty) / max(len(faulty), 1),
            "false alarms": sum(len(o.found) for o in healthy),
        },
        dtype=object,
    )


def confusion(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """How many cases of each planted cause (rows) have which first finding (columns)."""
    rows = [
        {
            "planted": outcome.expected[0][0] if outcome.expected else "healthy",
            "found": outcome.found[0][0] if outcome.found else "nothing",
        }
        for outcome in outcomes
    ]
    table = pd.DataFrame(rows)
    return pd.crosstab(table["planted"], table["found"])
