"""The rules that are asked, and the one door through which each of them came in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TypeVar

from trainobs.errors import InvalidArgument
from trainobs.findings import SEVERITIES, Finding, ranked
from trainobs.health._measured import Measured
from trainobs.health.rules._rule import Rule

RuleClass = TypeVar("RuleClass", bound=type[Rule])
#: All rules, in the order in which a table shows their findings, among those of one severity.
_RULES: list[Rule] = []


def register_health_rule(rule: RuleClass) -> RuleClass:
    """Let every health check ask this rule too, after those that are there.

    Parameters
    ----------
    rule : subclass of Rule
        With a cause of its own. A class of the same module and name takes the place of the one that is there,
        so that a notebook's cell may run twice.

    Returns
    -------
    subclass of Rule
        The same class: `register_health_rule` can stand above the class as a decorator.

    Raises
    ------
    InvalidArgument
        If it is no such class, or another rule has one of its causes.
    """
    _check_form(rule)
    for held in _RULES:
        taken = sorted(set(held.remedies) & set(rule.remedies))
        if taken and not _replaces(rule, held):
            raise InvalidArgument(
                f"{rule.__name__}: the cause {taken[0]!r} is that of the rule {type(held).__name__}. Choose "
                f"another name in `remedies`."
            )
    places = [place for place, held in enumerate(_RULES) if _replaces(rule, held)] or [len(_RULES)]
    _RULES[places[0] : places[0] + 1] = [rule()]
    return rule


def registered_rules() -> tuple[Rule, ...]:
    """All rules, in order."""
    return tuple(_RULES)


def findings(measured: Measured) -> list[Finding]:
    """What all rules find, the most severe first; those of one severity in the order of the rules."""
    return ranked(finding for rule in _RULES for finding in _checked(rule, measured))


def _replaces(rule: type[Rule], held: Rule) -> bool:
    """Whether a class is a newer one of the same module and name."""
    there = type(held)
    return (rule.__module__, rule.__qualname__) == (there.__module__, there.__qualname__)


def _check_form(rule: object) -> None:
    if not (inspect.isclass(rule) and issubclass(rule, Rule)):
        raise InvalidArgument(
            f"A health rule is a subclass of trainobs.health.Rule, the class itself. Received: {rule!r}."
        )
    if inspect.isabstract(rule):
        raise InvalidArgument(
            f"{rule.__name__} has no method `findings(self, measured)`, which every health rule needs."
        )
    if any(p.default is p.empty for p in inspect.signature(rule).parameters.values()):
        raise InvalidArgument(
            f"{rule.__name__} takes arguments: {inspect.signature(rule)}. A health rule is made without any; "
            f"keep its numbers in class attributes."
        )
    remedies = getattr(rule, "remedies", None)
    if not isinstance(remedies, Mapping) or not remedies or not all(map(_is_pair_of_text, remedies.items())):
        raise InvalidArgument(
            f"{rule.__name__}: `remedies` must be a dict with an entry for each finding, its name and what "
            f"to do about it. Received: remedies={remedies!r}."
        )


def _is_pair_of_text(pair: tuple[object, object]) -> bool:
    return all(isinstance(text, str) and text for text in pair)


def _checked(rule: Rule, measured: Measured) -> Iterator[Finding]:
    """The findings of one rule; those of others' rules are checked here, where their author is named."""
    for finding in rule.findings(measured):
        if not isinstance(finding, Finding) or finding.severity not in SEVERITIES:
            raise InvalidArgument(
                f"{type(rule).__name__}.findings must yield findings made by `self.finding(…)`, with a "
                f"severity out of {SEVERITIES}. Received: {finding!r}."
            )
        yield finding
