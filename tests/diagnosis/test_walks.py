"""From a weight to where its gradient is lost, on steps that NumPy computes; no Keras model."""

import pytest

from tests.mechanisms.chains import WIDTH, case_of, dense, inputs, step
from trainobs import mechanisms as m
from trainobs.diagnosis import chain, diagnose
from trainobs.diagnosis._downstream import Downstream
from trainobs.diagnosis._factors import also_sufficient, is_joint, main_factor
from trainobs.diagnosis._upstream import Upstream
from trainobs.thresholds import NearZero, Thresholds

HEAD = {"units": 3, "seed": 2, "activation": "linear"}


def origin(record, weight, **options):
    """The first origin of a weight, and its chain."""
    origins = diagnose(case_of(record, **options)).origins[weight]
    return origins[0].mechanism, chain(origins)


def test_backprop_ends_at_the_layer_that_is_off():
    """The layers before a dead one suffer from it."""
    record = step(inputs(), dense(), dense(seed=1, bias=-50.0), dense(**HEAD))
    mechanism, told = origin(record, "d0/kernel")
    assert (type(mechanism), mechanism.layer) == (m.DeadActivation, "d1")
    assert told == "d0/kernel ← backprop ← d1 ← off: bias (8 of 8 units, 64 positions)"


def test_input_ends_at_the_layer_that_is_off():
    """The layers behind a dead one read zeros."""
    record = step(inputs(), dense(bias=-50.0), dense(seed=1), dense(**HEAD))
    mechanism, told = origin(record, "d2/kernel")
    assert mechanism.layer == "d0" and told.startswith("d2/kernel ← input ← ")


def test_units_without_input_are_off_for_the_same_reason():
    """A layer that reads nothing live is off, but not at fault."""
    case = case_of(step(inputs(), dense(bias=-50.0), dense(seed=1), dense(**HEAD)))
    upstream = Upstream(case)
    found = upstream.why_off(case.sites["d1/kernel"])
    assert found.mechanism.layer == "d0" and found.steps.shown[:2] == ("d1", "off: input")
    assert upstream.why_zero(case.sites["d1/kernel"]).key == found.key


def test_a_zero_kernel_on_the_way():
    """It takes the gradient of what is before it."""
    record = step(inputs(), dense(), dense(seed=1, scale=0.0), dense(**HEAD))
    mechanism, told = origin(record, "d0/kernel")
    assert mechanism == m.ZeroWeights("d1", "kernel", 0.0, pytest.approx(0.5))
    assert told == "d0/kernel ← backprop ← d1 ← off: weights"


def test_a_cut_is_named_by_the_layer_behind_it():
    """No gradient comes to what is before it."""
    record = step(inputs(), dense(), dense(seed=1, cut=True), dense(**HEAD))
    mechanism, told = origin(record, "d0/kernel")
    assert mechanism == m.Disconnected("d1", "before") and told == "d0/kernel ← d1 ← disconnected"


def test_factors():
    """Which one the walk follows; whether others would do alone."""
    case = case_of(step(inputs(), dense(), dense(seed=1, bias=-50.0), dense(**HEAD)))
    before, dead, behind = (case.sites[f"d{number}/kernel"] for number in range(3))
    assert [main_factor(f) for f in (before, dead, behind)] == ["backprop", "activation", "input"]
    assert not is_joint(dead) and also_sufficient(dead, "activation") == []


def test_a_silent_loss_ends_every_walk():
    """At the output, whatever stands between."""
    case = case_of(step(inputs(), dense(), dense(**HEAD), loss_gradient=1e-7))
    (found,) = Downstream(case, Upstream(case)).why_silent(0, "d0")
    assert isinstance(found.mechanism, m.ZeroLossGradient) and found.mechanism.layer == "d1"


def test_two_sufficient_causes_are_both_told():
    """Input and activation would each do alone."""
    record = step(0 * inputs(), dense(), dense(seed=1, bias=-50.0), dense(**HEAD))
    told = {key: chain(origins) for key, origins in diagnose(case_of(record)).origins.items()}
    assert any("also: " in line for line in told.values())


# ---- thresholds reach every comparison -----------------------------------------------------------


def test_activations_are_held_against_their_reference():
    """Data of 0.01 is near zero where activations of 100 are usual: the walk comes to the data."""
    record = step(inputs(0.01), dense(), dense(seed=1), dense(**HEAD))
    assert not any(isinstance(m_, m.ZeroInput) for m_ in diagnose(case_of(record)).mechanisms.values())
    thresholds = Thresholds(near_zero=NearZero(activation_scale=100.0))
    case = case_of(record, thresholds)
    assert case.is_near_zero(0.05) and not case_of(record).is_near_zero(0.05)
    assert {o[0].mechanism.layer for w, o in diagnose(case).origins.items() if "kernel" in w} == {"d0"}


@pytest.mark.parametrize(("limit", "dead"), [(0.5, True), (0.9, False)])
def test_findings_have_their_thresholds(limit, dead):
    """Of a layer with three quarters of its units dead by their bias."""
    bias = [-50.0] * (3 * WIDTH // 4) + [0.0] * (WIDTH // 4)
    record = step(inputs(), dense(), dense(seed=1, bias=bias), dense(**HEAD))
    found = diagnose(case_of(record, Thresholds(dead_units=limit))).mechanisms
    assert (("dead_activation", "d1") in found) is dead
