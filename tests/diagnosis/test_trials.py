"""How many gradients a trial brings back, counted on arrays."""

import dataclasses

import numpy as np
import pytest

from tests.mechanisms.chains import SAMPLES, WIDTH, case_of, dense, inputs, step
from trainobs.counterfactuals import AllCounted, TriedOut, Untried
from trainobs.diagnosis._trials import Trials

KEY = "d0/kernel"
HELD = {KEY: 1.0}
CHANGE = (AllCounted(),)


def case(batches: int = 1):
    """A chain whose first layer is off, so that its kernel has no gradient."""
    found = case_of(step(inputs(), dense(bias=-100.0), dense(seed=1, activation="linear")))
    statistics = dataclasses.replace(found.statistics, batches=batches)
    return dataclasses.replace(found, statistics=statistics)


def run(gradient: np.ndarray | float, loudness: float = 1.0) -> TriedOut:
    """A run in which the kernel has this gradient, and the loss is that many times as loud."""
    square = loudness**2 * WIDTH / SAMPLES
    return TriedOut({KEY: np.broadcast_to(gradient, (WIDTH, WIDTH))}, ((square, SAMPLES * WIDTH),), SAMPLES)


def returned(after, before=None, held=HELD, **options):
    """The part that comes back."""
    runs = {frozenset(): before or run(0.0), frozenset(CHANGE): after}
    return Trials(case(**options), lambda changes: runs[frozenset(changes)]).returned(CHANGE, held)


def test_all_or_none_come_back():
    """Gradients of a usual size, and of zero."""
    assert returned(run(0.1)) == 1.0
    assert returned(run(0.0)) == 0.0


def test_a_part_comes_back():
    """Weight by weight."""
    gradient = np.zeros((WIDTH, WIDTH))
    gradient[:2] = 0.1
    assert returned(run(gradient)) == 0.25


def test_near_zero_is_measured_with_the_loss_of_the_run():
    """A louder loss alone returns nothing."""
    just_live = 2.02 * case().weights[KEY].threshold
    assert returned(run(just_live), batches=4) == 1.0
    assert returned(run(2 * just_live, loudness=4.0), batches=4) == 0.0


def test_a_single_batch_is_compared_with_its_report():
    """The very batch that is reported need not run once more as it was."""
    own = case()
    g_out, _ = own.statistics.loudest_output()
    just_live = 1.01 * own.weights[KEY].threshold
    as_loud = g_out / (SAMPLES * np.sqrt(WIDTH / SAMPLES / SAMPLES))
    assert returned(run(just_live, loudness=as_loud)) == 1.0
    assert returned(run(2 * just_live, loudness=4 * as_loud)) == 0.0


def test_a_batch_of_several_has_a_wider_limit():
    """Σ over more terms, and divided by more: the limit of one batch is √batches of that of all."""
    just_live = 1.01 * case().weights[KEY].threshold
    assert returned(run(just_live), batches=4) == 0.0
    assert returned(run(2 * just_live), batches=4) == 1.0


def test_nothing_is_said_of_nan():
    """Neither of a gradient, nor of a loss that falls silent."""
    assert isinstance(returned(run(np.nan)), Untried)
    assert isinstance(returned(run(0.1, loudness=0.0)), Untried)


def test_nothing_is_said_if_the_batch_does_not_show_it():
    """Run without a graph, the gradients are there before anything was changed."""
    assert isinstance(returned(run(0.1), before=run(0.1), batches=4), Untried)


def test_a_reason_is_handed_on():
    """Of a change that can't be made."""
    assert returned(Untried("no")) == Untried("no")


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_is_all_that_is_claimed(share):
    """Half of a gradient that is lost on two branches is held by each: one change may bring all back."""
    assert returned(run(0.1), held={KEY: share}) == 1.0


@pytest.mark.parametrize(("batches", "runs"), [(1, 1), (4, 2)])
def test_each_change_is_tried_once(batches, runs):
    """Runs are kept; of several batches the first runs as it was, too."""
    calls = []

    def counted(changes):
        calls.append(changes)
        return run(0.1 if changes else 0.0)

    trials = Trials(case(batches), counted)
    assert trials.returned(CHANGE, HELD) == trials.returned(CHANGE, HELD) == 1.0
    assert len(calls) == runs
