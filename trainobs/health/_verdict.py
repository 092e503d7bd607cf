"""One verdict: what rules say of a check, beside why gradients are near zero."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from trainobs.analysis import condensed
from trainobs.findings import Finding, ranked
from trainobs.records import StepRecord
from trainobs.report import Report
from trainobs.statistics import gather
from trainobs.thresholds import Thresholds

#: Findings of rules that speak of symptoms whose causes an explanation looks for.
_SYMPTOMS = ("vanishing", "no_gradient", "dead_units", "saturated", "zero_gradients")


_EVERY = 10
Causes = tuple[Finding, ...] | None


def explained(record: StepRecord, thresholds: Thresholds) -> tuple[Finding, ...]:
    """The findings of `explain_near_zero_gradients` of a recorded step."""
    statistics = gather(record, thresholds.near_zero, pinv=False, condense=condensed)
    return Report(statistics, thresholds).diagnosis.findings if statistics.sites or statistics.others else ()


class Asking:
    """When a callback asks for causes, which takes longer than a check.

    It does if a rule warns, if nothing is trained, and at every tenth check, the first one included.
    """

    def __init__(self) -> None:
        self._checks = 0

    def causes(self, record: StepRecord, thresholds: Thresholds, found: list[Finding]) -> Causes:
        """The causes of this step; None where it does not ask."""
        due, self._checks = self._checks % _EVERY == 0, self._checks + 1
        serious = any(finding.severity != "info" for finding in found)
        trained = any(s.trainable for s in record.sites) or any(w.trainable for w in record.weights)
        return explained(record, thresholds) if due or serious or not trained else None


def one_verdict(by_rules: Iterable[Finding], causes: Sequence[Finding] | None) -> list[Finding]:
    """The findings of both, the worst first; where they are of one severity, causes come before symptoms.

    A symptom at a layer that no cause is found for, or only one that informs, informs too: a unit that is off
    on this batch may fire on the next, a gradient that a loss no longer sends is not lost.

    Parameters
    ----------
    by_rules : iterable of Finding
    causes : sequence of Finding or None
        None where it was not asked for them.
    """
    if causes is None:
        return ranked(by_rules)
    troubled = [finding for finding in causes if finding.severity != "info"]
    layers = {layer for finding in troubled for layer in (finding.layer, *finding.affects)}
    held = [_informing(finding) if _is_lone_symptom(finding, layers) else finding for finding in by_rules]
    return ranked([*causes, *held])


def _is_lone_symptom(finding: Finding, layers: set[str]) -> bool:
    anywhere = bool(layers) and not finding.layer  # a finding of the whole model
    return finding.cause in _SYMPTOMS and not anywhere and finding.layer not in layers


def _informing(finding: Finding) -> Finding:
    return dataclasses.replace(finding, severity="info")
