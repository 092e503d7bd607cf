"""The page about health holds what the rules' docstrings say."""

from __future__ import annotations

import re

import pytest

from tests.docs.health_rules import PAGE, own_rules, page, stated


def test_the_table_of_rules_is_fresh():
    """`python -m tests.docs.health_rules` writes it anew."""
    assert PAGE.read_text("utf-8") == page(), "stale: run `python -m tests.docs.health_rules`"


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.__name__)
def test_a_docstring_says_all_about_its_rule(rule):
    """Its findings are those that it has a remedy for; it has a threshold and a source."""
    said = stated(rule)
    assert set(said) == {"of what", "Findings", "Threshold", "Source"} and all(said.values())
    assert set(re.findall(r"`(\w+)`", said["Findings"])) == set(rule.remedies)
