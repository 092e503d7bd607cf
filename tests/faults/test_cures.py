"""The remedy that is ranked first removes the finding: some cases by default, all of them at night."""

import warnings

import pytest

from tests.faults.suite.cures import WITHOUT_CURE, cure, fixable_cases
from trainobs.mechanisms import registered_mechanisms

#: One of each cause that few remedies fit; the others take half a minute each.
QUICK = (
    "zero table: embedding",
    "zero gamma: BN-CNN",
    "softmax twice: MLP",
    "linear output, clipped crossentropy: MLP",
    "unnormalised input of tanh: tabular MLP",
    "tiny input: tabular MLP",
    "NaN in the data: regression",
    "an infinite weight: MLP",
    "frozen: MLP",
)
CASES = {case.name: case for case in fixable_cases()}


def assert_cured(name):
    """The first remedy does it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cure(CASES[name], steps=2)
    assert found is None or found.gone, found


@pytest.mark.parametrize("name", QUICK)
def test_cured(name):
    """A case that is quickly tried."""
    assert_cured(name)


@pytest.mark.slow
def test_nine_in_ten_are_cured():
    """Of all fixable cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cures = [found for case in CASES.values() if (found := cure(case)) is not None]
    lost = [found for found in cures if not found.gone]
    assert len(cures) >= 150
    assert len(lost) <= 0.1 * len(cures), lost


def test_every_cause_has_a_cure_or_a_reason():
    """What no remedy is listed for is stated to have no cure, and nothing else is."""
    mechanisms = registered_mechanisms()
    treated = {mechanism.cause for mechanism in mechanisms if mechanism.treatments}
    untreated = {mechanism.cause for mechanism in mechanisms} - treated
    assert untreated == {*WITHOUT_CURE, "unexplained"}
