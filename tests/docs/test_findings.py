"""docs/findings.md says what the mechanisms' docstrings say."""

from tests.docs.findings import PAGE, described, page
from trainobs.mechanisms import registered_mechanisms


def test_the_table_is_not_stale():
    """Write it anew with ``python -m tests.docs.findings``."""
    assert PAGE.read_text("utf-8") == page()


def test_every_cause_has_a_row():
    """One class of each cause describes it."""
    causes = {mechanism.cause for mechanism in registered_mechanisms()}
    assert causes == {mechanism.cause for mechanism in registered_mechanisms() if described(mechanism)}
