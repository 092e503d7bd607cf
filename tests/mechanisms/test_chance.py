"""What a batch of few positions, or a layer of few units, can't show; and what it can."""

import itertools

import numpy as np
import pytest

from tests.mechanisms.chains import Dense, case_of, dense, inputs, step
from trainobs.analysis import Chance
from trainobs.diagnosis import diagnose

LIMIT = 2.0**-10


def stack(activation, samples, *, units=8, depth=4, seed=0, **planted):
    """A stack with Keras' default weights; options of its third layer."""
    rng = np.random.default_rng(seed)
    sizes = [10, *[units] * depth, 1]
    layers = [_glorot(rng, *pair, activation) for pair in itertools.pairwise(sizes)]
    layers[-1].activation = "linear"
    for name, value in planted.items():
        setattr(layers[2], name, value)
    return step(rng.normal(size=(samples, 10)), *layers)


def _glorot(rng, inputs, units, activation):
    limit = np.sqrt(6 / (inputs + units))
    return Dense(rng.uniform(-limit, limit, (inputs, units)).astype(np.float32), activation)


def told(record):
    """Severity, cause and layer of the findings."""
    return [(f.severity, f.cause, f.layer) for f in diagnose(case_of(record)).findings]


# ---- by definition -------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "positions"), [(1, 10), (8, 13), (24, 15), (64, 16), (1000, 20)])
def test_positions_that_are_enough(units, positions):
    """log₂(units) + 10: of healthy units less than 1 in 1000 models has one that is off at all of them."""
    chance = Chance(units, 1, LIMIT)
    assert chance.positions == positions and chance.is_enough(positions)
    assert units * 2.0**-positions <= LIMIT < units * 2.0 ** -(positions - 1)


def test_the_tail_is_that_of_coins():
    """Against coins that were tossed."""
    tossed = np.random.default_rng(0).integers(0, 2, (200_000, 16)).sum(axis=1)
    for dead in (10, 12, 13):
        expected = np.mean(tossed >= dead)
        assert Chance(16, 1, expected * 0.9).may_do(dead, 16)
        assert not Chance(16, 1, expected * 1.1).may_do(dead, 16)


@pytest.mark.parametrize(
    ("dead", "units", "positions", "doubt"),
    [
        (6, 8, 64, "units"),  # 14 % of such layers
        (8, 8, 64, ""),  # nothing passes it
        (8, 8, 4, "positions"),
        (64, 64, 4, ""),  # chance does not switch off 64 units at once
        (60, 64, 4, "positions"),  # a sparse layer may be off so far at four samples
        (60, 64, 64, ""),
        (33, 64, 64, "units"),
    ],
)
def test_doubt(dead, units, positions, doubt):
    """Of what there are too few."""
    assert Chance(units, 3, LIMIT).doubt(dead, units, positions) == doubt


# ---- fresh small nets ----------------------------------------------------------------------------

NETS = list(itertools.product((8, 16, 32), (1, 2, 4, 16, 32), (1, 2, 4, 6)))


@pytest.mark.parametrize(("units", "samples", "depth"), NETS)
def test_fresh_small_nets_raise_no_alarm(units, samples, depth):
    """Sixty of them."""
    found = told(stack("relu", samples, units=units, depth=depth, seed=NETS.index((units, samples, depth))))
    assert {severity for severity, _, _ in found} <= {"info"}, found


def test_rows_that_are_all_the_same_say_it_once():
    """A fresh net over 512 copies of one row: half of its units are off, and more rows would say no more."""
    rows = np.repeat(np.random.default_rng(0).normal(size=(1, 10)), 512, axis=0)
    rng = np.random.default_rng(1)
    first, last = _glorot(rng, 10, 32, "relu"), _glorot(rng, 32, 1, "linear")
    found = told(step(rows, first, last))
    assert {severity for severity, _, _ in found} <= {"info"}, found


def test_how_many_rows_differ_is_said():
    """With a kernel all of whose few units are off, by its weights, over copies of one row."""
    rows = np.ones((64, 8))
    off = Dense(np.float32(-0.5) - np.eye(8, 4, dtype=np.float32), "relu")
    found = diagnose(case_of(step(rows, off, Dense(np.ones((4, 1), np.float32), "linear")))).findings
    dead = next(f for f in found if f.cause == "dead_activation")
    assert dead.severity == "info" and "the same at all of them" in dead.evidence
    assert "12 different positions would show it" in dead.evidence


@pytest.mark.parametrize("seed", range(4))
def test_one_sample_of_seed_003(seed):
    """The sigmoid net is the one with the problem; the ReLU net is fresh and healthy."""
    assert ("error", "vanishing") in [found[:2] for found in told(stack("sigmoid", 1, depth=6, seed=seed))]
    assert {severity for severity, _, _ in told(stack("relu", 1, seed=seed))} <= {"info"}


# ---- real faults, few samples --------------------------------------------------------------------


def test_a_deep_bias_is_no_chance():
    """No healthy input gets above it: one sample shows that."""
    assert told(stack("relu", 1, seed=1, bias=-50.0))[0] == ("error", "dead_activation", "d2")


def test_a_wide_layer_that_is_off_as_a_whole_is_no_chance():
    """Each of its 64 units would have to be off by chance, over four samples."""
    negative = -abs(_glorot(np.random.default_rng(1), 64, 64, "relu").kernel)
    assert told(stack("relu", 4, units=64, kernel=negative))[0] == ("error", "dead_activation", "d2")


@pytest.mark.parametrize(("samples", "severity"), [(4, "info"), (64, "error")])
def test_a_narrow_layer_takes_more_samples(samples, severity):
    """Eight units that are all off: over four samples it is said how many it takes."""
    negative = -abs(_glorot(np.random.default_rng(1), 8, 8, "relu").kernel)
    record = stack("relu", samples, kernel=negative)
    first = diagnose(case_of(record)).findings[0]
    assert (first.severity, first.cause, first.layer) == (severity, "dead_activation", "d2")
    assert ("15 positions would show it" in first.evidence) is (severity == "info")


@pytest.mark.parametrize(
    ("samples", "zero", "severity"), [(1, 8, {"info"}), (1, 10, {"error"}), (64, 8, {"error"})]
)
def test_inputs_that_are_zero_at_few_samples(samples, zero, severity):
    """A picture may be black in most places; all of it, or all of many in the same, is a fault."""
    x = np.random.default_rng(0).normal(size=(samples, 10)) * (np.arange(10) >= zero)
    record = step(x, _glorot(np.random.default_rng(1), 10, 8, "tanh"), dense(units=1, activation="linear"))
    found = [f for f in told(record) if f[1] == "zero_input"]
    assert {found[0][0]} == severity if found else severity == {"info"}


def test_zero_weights_are_no_chance():
    """They show by themselves, at one sample too."""
    zero = np.zeros((8, 8), np.float32)
    assert told(stack("relu", 1, kernel=zero))[0] == ("error", "zero_weights", "d2")


# ---- severity follows the symptom ----------------------------------------------------------------


def test_a_layer_suffers_by_its_used_weights():
    """Below a dead layer no weight learns; without a loss nothing suffers."""
    chain = (dense(), dense(seed=1, bias=-50.0), dense(units=3, seed=2, activation="linear"))
    assert {"d0", "d1"} <= case_of(step(inputs(), *chain)).suffering
    assert not case_of(step(inputs(), *chain, loss_gradient=1e-6)).suffering
    assert not case_of(step(inputs(), dense(), dense(units=3, seed=2, activation="linear"))).suffering


def test_a_decay_without_a_symptom_informs():
    """Half of a weight's gradients near zero are no layer that suffers."""
    for depth in range(2, 7):
        record = stack("sigmoid", 64, depth=depth)
        suffers = bool(case_of(record).suffering)
        assert (("error", "vanishing") in [found[:2] for found in told(record)]) is suffers


def test_a_live_bias_does_not_save_a_kernel():
    """The kernel of a narrow input is what learns: biases only modify it."""
    chain = (dense(1, 8, activation="sigmoid"), dense(units=3, seed=2, activation="linear"))
    case = case_of(step(inputs(1e-5, width=1), *chain))
    assert case.weights["d0/bias"].used_near_zero < 0.5 and "d0" in case.suffering
