"""The thresholds: the numbers that their docstrings state, presets, and the errors they raise."""

import dataclasses
import math

import numpy as np
import pytest

from trainobs.errors import InvalidArgument, TrainobsError
from trainobs.thresholds import NearZero, Thresholds


def weight_threshold(near_zero: NearZero, g_out: float, classes: int, batch: int) -> float:
    """rtol · a* · g* · √T / n of a Dense kernel: a term per position."""
    g_star = near_zero.gradient_scale(g_out, classes)
    return near_zero.rtol * near_zero.activation_scale * g_star * math.sqrt(batch) / batch


def test_near_zero_has_the_defaults_of_the_definitions():
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
def test_near_zero_refuses_what_is_no_positive_number(field):
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


# ---- Thresholds ----------------------------------------------------------------------------------


def test_presets():
    """Each differs from the default only where the tool has a value of its own."""
    assert Thresholds.preset("common") == Thresholds()
    assert Thresholds.preset("deepdiagnosis").dead_units_warning == 0.7
    assert Thresholds.preset("deepdiagnosis").dead_units == 0.7
    assert Thresholds.preset("thedeepchecker").update_ratio == (1e-4, 0.1)
    assert Thresholds.preset("autotrainer").first_last == (1e-3, 70.0)
    assert Thresholds.preset("sagemaker").near_zero == NearZero(slope_atol=1e-7)


def test_a_preset_can_be_changed():
    """Fields that are named win over the preset's."""
    changed = Thresholds.preset("sagemaker", vanishing=1e-6, vanishing_of="norm")
    assert changed == dataclasses.replace(Thresholds.preset("sagemaker"), vanishing=1e-6, vanishing_of="norm")


def test_an_unknown_preset_is_refused():
    """The error lists the ones that there are."""
    with pytest.raises(InvalidArgument) as caught:
        Thresholds.preset("keras")
    assert str(caught.value) == (
        "There is no preset 'keras'. There are: common, sagemaker, autotrainer, thedeepchecker, "
        "deepdiagnosis. For values of your own, pass them to `Thresholds(…)`."
    )


@pytest.mark.parametrize("name", Thresholds.PRESETS)
def test_presets_name_fields(name):
    """No preset has a value under a name that there is not, or the default's value."""
    default, changed = Thresholds(), Thresholds.PRESETS[name]
    for field, value in changed.items():
        same = getattr(default, field) == value
        assert not same or (name, field) == ("autotrainer", "first_norm")


@pytest.mark.parametrize("field", dataclasses.fields(Thresholds)[1:], ids=lambda field: field.name)
def test_every_threshold_refuses_nonsense(field):
    """The error names the field, what it takes, what came and what the default is."""
    for value in (-1, math.nan, "a", (2.0, 1.0), True, [0.1, 1.0]):
        with pytest.raises(InvalidArgument) as caught:
            Thresholds(**{field.name: value})
        text = str(caught.value)
        assert text.startswith(f"Thresholds: `{field.name}` must be ")
        assert text.endswith(f". Received: {field.name}={value!r}. The default is {field.default!r}.")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"vanishing": 0}, "a positive, finite number"),
        ({"exploding": math.inf}, "a positive, finite number"),
        ({"vanishing_of": "max"}, "one of ('norm', 'mean_abs')"),
        ({"global_norm": (10, 0.1)}, "a pair (low, high) of positive, finite numbers with low < high"),
        ({"first_last": 3}, "a pair (low, high) of positive, finite numbers with low < high"),
        ({"dead_units": 1.5}, "a number from 0 to 1"),
        ({"zero_gradients": 70}, "a number from 0 to 1"),
        ({"shift": None}, "a number from 0 to 1"),
        ({"clip_most": 0}, "a positive integer"),
        ({"clip_window": 2.0}, "a positive integer"),
    ],
)
def test_what_a_threshold_takes(wrong, expected):
    """A number, a share, a count, a pair, or the name of a measure."""
    with pytest.raises(InvalidArgument) as caught:
        Thresholds(**wrong)
    ((name, value),) = wrong.items()
    default = getattr(Thresholds(), name)
    assert str(caught.value) == (
        f"Thresholds: `{name}` must be {expected}. Received: {name}={value!r}. The default is {default!r}."
    )


def test_what_is_off_by_default_may_be_off():
    """None is a value of the two thresholds whose default it is."""
    assert Thresholds(first_last=None, zero_gradients=None) == Thresholds()


def test_a_warning_comes_before_the_error():
    """The share of dead units that is an error is not below the one that warns."""
    with pytest.raises(InvalidArgument) as caught:
        Thresholds(dead_units_warning=0.9)
    assert str(caught.value) == (
        "Thresholds: `dead_units` must be at least `dead_units_warning`. Received: dead_units=0.5, "
        "dead_units_warning=0.9. Raise the former."
    )


def test_near_zero_inside_is_checked():
    """It is an object of its own."""
    with pytest.raises(InvalidArgument) as caught:
        Thresholds(near_zero=0.01)
    assert str(caught.value) == "Thresholds: `near_zero` must be a trainobs.NearZero. Received: 0.01."


class TestOf:
    """The two arguments of a front door, as one."""

    def test_either_or_none(self):
        """Each of them alone, or the defaults."""
        near_zero, thresholds = NearZero(rtol=0.5), Thresholds(vanishing=1e-3)
        assert Thresholds.of(None, None) == Thresholds()
        assert Thresholds.of(None, near_zero) == Thresholds(near_zero=near_zero)
        assert Thresholds.of(thresholds, None) is thresholds

    def test_both(self):
        """They may both be given where they agree."""
        thresholds = Thresholds(near_zero=NearZero(rtol=0.5))
        assert Thresholds.of(thresholds, NearZero(rtol=0.5)) is thresholds
        with pytest.raises(InvalidArgument, match="`near_zero` and `thresholds.near_zero` differ: .* one"):
            Thresholds.of(thresholds, NearZero())

    def test_other_things(self):
        """The error says what to pass."""
        with pytest.raises(InvalidArgument) as caught:
            Thresholds.of("common", None)
        assert str(caught.value) == (
            "`thresholds` must be a trainobs.Thresholds. Received: 'common'. For a preset pass "
            "`Thresholds.preset(name)`."
        )
        with pytest.raises(InvalidArgument) as caught:
            Thresholds.of(None, 0.01)
        assert str(caught.value) == "`near_zero` must be a trainobs.NearZero. Received: 0.01."


def test_rounding_is_allowed_for():
    """Half precision may leave a larger residual, and so may a very long sum."""
    thresholds = Thresholds()
    assert thresholds.residual_limit("float32", 100) == thresholds.residual
    assert thresholds.residual_limit("bfloat16", 100) == 8 * thresholds.residual_limit("float16", 100) == 0.08
    assert thresholds.residual_limit("float32", 1e6) == pytest.approx(10 * 1e3 / 2**24)
