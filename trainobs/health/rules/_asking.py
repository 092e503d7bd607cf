"""Every rule is asked about the figures of a check."""

from __future__ import annotations

from collections.abc import Iterator

from trainobs.errors import InvalidArgument
from trainobs.findings import SEVERITIES, Finding, ranked
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule, registered_rules


def findings(measured: Measured) -> list[Finding]:
    """What all rules find, the most severe first; those of one severity in the order of the rules."""
    return ranked(finding for rule in registered_rules() for finding in _checked(rule(), measured))


def _checked(rule: Rule, measured: Measured) -> Iterator[Finding]:
    """The findings of one rule; those of others' rules are checked here, where their author is named."""
    for finding in rule.findings(measured):
        if not isinstance(finding, Finding) or finding.severity not in SEVERITIES:
            raise InvalidArgument(
                f"{type(rule).__name__}.findings must yield findings made by `self.finding(…)`, with a "
                f"severity out of {SEVERITIES}. Received: {finding!r}."
            )
        yield finding
