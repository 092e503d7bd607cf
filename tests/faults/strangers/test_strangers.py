"""Strangers' models: a plain tape shows what a case says, and trainobs names it, or the miss is known.

A third of the cases; all of them with ``pytest -m "slow or not slow" tests/faults/strangers``, and as
figures with ``python -m tests.faults.strangers``.
"""

import re
from pathlib import Path

import pytest

from tests.faults.strangers.cases import Case
from tests.faults.strangers.known_misses import AT_MOST, KNOWN_MISSES
from tests.faults.strangers.scoring import ALL, FAMILIES, Outcome, build, judge
from tests.faults.strangers.tape import contradictions

# Keras and NumPy warn of some of the faults.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

THIRD = [
    pytest.param(case, id=case.name, marks=[] if number % 3 == 0 else pytest.mark.slow)
    for number, case in enumerate(ALL)
]


def test_there_are_enough_cases():
    """Healthy and broken ones, each with a name of its own and an address where its like was found."""
    healthy = [case for case in ALL if case.kind == "healthy"]
    assert len(healthy) >= 50 and len(ALL) - len(healthy) >= 50
    assert len({case.name for case in ALL}) == len(ALL)
    assert all(family.CASES for family in FAMILIES)
    assert [case.name for case in ALL if not re.search(r"https://|CHI 2021|TOSEM 2021", case.source)] == []


def test_known_misses_only_shrink():
    """Each is a case, and has a reason; a case that is right now is struck from the list."""
    assert len(KNOWN_MISSES) <= AT_MOST
    assert set(KNOWN_MISSES) <= {case.name for case in ALL}
    assert all(KNOWN_MISSES.values())


def test_known_misses_are_told():
    """docs/faults.md names each."""
    page = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")
    assert [name for name in KNOWN_MISSES if name not in page] == []


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((("masked", "out"), ("dead_activation", "h1")), "right first"),
        ((("dead_activation", "h1"), ("masked", "model/out")), "half"),
        ((("masked", "h1"),), "wrong first"),
        ((), "nothing"),
    ],
)
def test_verdicts_of_a_fault(found, verdict):
    """Cause and layer count together; a layer's name may be a path."""
    case = Case("a", "", lambda: None, truth=(("masked", "out"),))
    assert Outcome(case, found).verdict == verdict


def test_exceptions_are_wrong():
    """Of faulty and of healthy models."""
    faulty, healthy = (Case("a", "", lambda: None, truth=truth) for truth in ((("masked", "*"),), ()))
    assert Outcome(faulty, (), "ValueError").verdict == "wrong first"
    assert Outcome(healthy, (), "ValueError").verdict == "false alarm"
    assert Outcome(healthy, ()).is_right


@pytest.mark.parametrize("case", THIRD)
def test_tape(case):
    """The truth of a case is what a plain tape shows of it."""
    assert contradictions(case, build(case)) == []


@pytest.mark.parametrize("case", THIRD)
def test_case(case):
    """The fault is named first, at its layer; a healthy model has no error and no warning.

    No sentence contradicts itself.
    """
    outcome = judge(case)
    assert not outcome.wrong
    assert outcome.is_right or case.name in KNOWN_MISSES, (outcome.verdict, outcome.found, outcome.raised)
