"""Every planted fault is found, first and alone, and nothing is found in healthy models.

A third of the cases; all of them with ``pytest -m "slow or not slow" tests/faults/test_suite.py``, and as
figures with ``python -m tests.faults.suite``.
"""

import pytest

from tests.faults.suite.faults import faulty_cases
from tests.faults.suite.healthy import healthy_cases
from tests.faults.suite.scoring import judge

CASES = [*faulty_cases(), *healthy_cases()]


def test_there_are_enough_cases():
    """And each has a name of its own."""
    assert len(faulty_cases()) >= 150
    assert len(healthy_cases()) >= 50
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras warns of some of the faults
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[] if number % 3 == 0 else pytest.mark.slow)
        for number, case in enumerate(CASES)
    ],
)
def test_case(case):
    """The planted fault is the first finding, at its layer, and the only one; all sentences are sound."""
    outcome = judge(case)
    assert outcome.is_right, (outcome.expected, outcome.found)
    assert not outcome.wrong
