"""From a report to treatments: what fits each finding's mechanism, worst first."""

from __future__ import annotations

from collections.abc import Iterator

from trainobs.explanation import Explanation
from trainobs.findings import Finding
from trainobs.mechanisms import Frozen
from trainobs.remedies._remedy import remedies_against
from trainobs.remedies._situation import Situation
from trainobs.remedies._treatment import Treatment


def treatments(report: Explanation) -> list[Treatment]:
    """All treatments of a report's findings, the worst finding's first; each once per finding.

    Parameters
    ----------
    report : Report

    Returns
    -------
    list of Treatment
    """
    once: dict[tuple[str, str, str], Treatment] = {}
    for finding in report.diagnosis.findings:
        if is_open(finding):
            for treatment in _of_finding(finding, report):
                once.setdefault((finding.cause, finding.layer, treatment.call), treatment)
    return list(once.values())


def is_open(finding: Finding) -> bool:
    """Whether something may be done about a finding: of infos, only about what was frozen."""
    return finding.severity != "info" or finding.cause == Frozen.cause


def _of_finding(finding: Finding, report: Explanation) -> Iterator[Treatment]:
    mechanism = report.diagnosis.mechanisms[finding.cause, finding.layer]
    situation = Situation(report, mechanism)
    for remedy in remedies_against(mechanism):
        yield from remedy().prescribe(mechanism, situation)
