"""The thresholds: the numbers its docstring states, and the errors it raises."""

import dataclasses
import math

import numpy as np
import pytest

from trainobs.errors import InvalidArgument, TrainobsError
from trainobs.thresholds import NearZero


def weight_threshold(near_zero: NearZero, g_out: float, classes: int, batch: int) -> float:
    """rtol · a* · g* · √T / n of a Dense kernel: a term per position."""
    g_star = near_zero.gradient_scale(g_out, classes)
    return near_zero.rtol * near_zero.activation_scale * g_star * math.sqrt(batch) / batch


def test_defaults_are_those_of_the_definitions():
    """The page definitions.md names the same defaults."""
    assert dataclasses.asdict(NearZero()) == {
        "rtol": 1e-3,
        "activation_scale": 1.0,
        "slope_scale": 1.0,
        "slope_atol": 1e-2,
        "gradient_floor": 1e-3,
    }


def test_threshold_at_the_floor_is_lost_in_adams_epsilon():
    """At the floor, with 10 classes and batch 64, a gradient is near zero up to 4e-8, below Adam's 1e-7."""
    threshold = weight_threshold(NearZero(), 0.0, classes=10, batch=64)
    assert threshold == pytest.approx(4e-8, rel=0.02)
    assert threshold < 1e-7


def test_random_terms_of_relative_size_rtol_add_up_to_the_threshold():
    """T terms of size rtol · a* · g* / n and random sign have the threshold as root mean square."""
    near_zero, n = NearZero(), 64
    terms = near_zero.rtol * near_zero.gradient_scale(1.0, 10) / n
    signs = np.random.default_rng(0).choice([-1, 1], (4000, n))
    rms = np.sqrt(np.mean((signs * terms).sum(axis=1) ** 2))
    assert rms == pytest.approx(weight_threshold(near_zero, 1.0, 10, n), rel=0.05)


def test_gradient_scale_is_g_out_per_element_with_a_floor():
    """g* = max(g_out, floor) / √K."""
    near_zero = NearZero(gradient_floor=0.01)
    assert near_zero.gradient_scale(1.0, 4) == 0.5
    assert near_zero.gradient_scale(0.0, 4) == near_zero.gradient_scale(0.01, 4) == 0.005
    assert near_zero.gradient_scale(3.0, 1) == 3.0


@pytest.mark.parametrize("classes", [10, 1000])
def test_g_out_of_an_undecided_classifier_is_about_one(classes):
    """The docstring's "about 1 for a wrong classifier whatever its number of classes"."""
    gradient = np.full(classes, 1 / classes) - np.eye(classes)[0]
    assert np.linalg.norm(gradient) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(NearZero)])
def test_values_that_are_no_positive_number_are_refused(field):
    """The error names the field, what came and what the default is."""
    default = getattr(NearZero(), field)
    for value in (0, -1.0, math.inf, math.nan, "1e-3", None):
        with pytest.raises(InvalidArgument) as caught:
            NearZero(**{field: value})
        assert str(caught.value) == (
            f"NearZero: `{field}` must be a positive, finite number. "
            f"Received: {field}={value!r}. The default is {default}."
        )
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, TrainobsError)


def test_numpy_numbers_are_accepted():
    """A scalar of NumPy is a number like any other."""
    assert NearZero(rtol=np.float32(0.5), gradient_floor=np.int64(2)).gradient_scale(0.0, 1) == 2


def test_thresholds_are_frozen_and_compare_by_value():
    """Two equal objects are one key, and none can be changed."""
    near_zero = NearZero(rtol=0.5)
    assert near_zero == NearZero(rtol=0.5) and hash(near_zero) == hash(NearZero(rtol=0.5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        near_zero.rtol = 1.0
