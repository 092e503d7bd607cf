"""Statistics add: two batches, two steps of the same weights, two workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.synthetic import SAMPLES, Plant, draw, plants, property_settings, with_samples
from trainobs.errors import InvalidArgument
from trainobs.statistics import Statistics, gather
from trainobs.thresholds import NearZero

NEAR_ZERO = NearZero()
#: Counted against each batch's own g*, or norms: these do not equal those of the joined batch.
OF_THE_BATCH = ("backprop_zero", "slope_or_backprop_zero", "residual", "residual_scale")

cuts = st.lists(st.integers(0, SAMPLES - 1), min_size=3, max_size=3)


def parts(plant: Plant, cut: list[int]) -> list[Statistics]:
    """The statistics of three batches: some samples of a record, not empty, of different sizes."""
    record = draw(plant)
    samples = [np.arange(SAMPLES)[: 1 + size] for size in cut]
    return [gather(with_samples(record, (s + i) % SAMPLES), NEAR_ZERO) for i, s in enumerate(samples)]


def assert_equal_sums(one: Statistics, other: Statistics, rtol: float, leave_out: tuple = ()) -> None:
    """All sums of all sites and outputs agree."""
    assert list(one.sites) == list(other.sites)
    for weight, site in one.sites.items():
        expected = other.sites[weight].sums
        assert set(site.sums) == set(expected)
        for name in set(site.sums) - set(leave_out):
            scale = np.max(np.abs(expected[name]), initial=0)
            np.testing.assert_allclose(site.sums[name], expected[name], rtol, rtol * scale, err_msg=name)
    for a, b in zip(one.outputs, other.outputs, strict=True):
        assert a.gradient_sq == pytest.approx(b.gradient_sq, rel=max(rtol, 1e-15))
        assert a.positions == b.positions


@given(plants, cuts)
@property_settings(max_examples=25)
def test_addition_is_commutative(plant: Plant, cut: list[int]):
    """The order of two batches does not matter, to the last bit."""
    a, b, _ = parts(plant, cut)
    assert_equal_sums(a + b, b + a, rtol=0)
    assert (a + b).loss == (b + a).loss and (a + b).batches == 2


@given(plants, cuts)
@property_settings(max_examples=25)
def test_addition_is_associative(plant: Plant, cut: list[int]):
    """Workers may add their batches up first; only float64 rounding differs."""
    a, b, c = parts(plant, cut)
    assert_equal_sums((a + b) + c, a + (b + c), rtol=1e-14)
    assert ((a + b) + c).batches == (a + (b + c)).batches == 3


@given(plants, st.integers(1, SAMPLES - 1))
@property_settings(max_examples=40)
def test_two_halves_add_up_to_the_whole(plant: Plant, cut: int):
    """The sums of a batch cut in two are those of the whole batch."""
    record, samples = draw(plant), np.arange(SAMPLES)
    halves = [
        gather(with_samples(record, half), NEAR_ZERO, pinv=False) for half in (samples[:cut], samples[cut:])
    ]
    whole = gather(record, NEAR_ZERO, pinv=False)
    assert_equal_sums(halves[0] + halves[1], whole, rtol=2e-6, leave_out=OF_THE_BATCH)
    for weight, site in whole.sites.items():
        added = (halves[0] + halves[1]).sites[weight]
        assert added.positions == site.positions
        scale = np.abs(site.data_gradient).max()
        np.testing.assert_allclose(added.data_gradient, site.data_gradient, 1e-5, 1e-5 * scale)


@given(plants)
@property_settings(max_examples=15)
def test_a_batch_twice_has_the_figures_of_once(plant: Plant):
    """Every figure is a ratio of sums, so doubling the data changes none; counts double exactly."""
    once = gather(draw(plant), NEAR_ZERO)
    twice = once + once
    for weight, site in once.sites.items():
        for name, values in site.sums.items():
            np.testing.assert_array_equal(twice.sites[weight].sums[name], 2 * values, err_msg=name)
        np.testing.assert_array_equal(twice.sites[weight].data_gradient, site.data_gradient)
    assert twice.loudest_output() == once.loudest_output()


def test_statistics_of_different_models_do_not_add():
    """The error names the kernels of both."""
    kinds = ("dense relu", "conv relu")
    plant = dict(seed=0, zero_input=0, zero_slope=0, zero_gradient=0)
    plant |= dict(input_power=0, slope_power=0, gradient_power=0)
    one, other = (gather(draw(Plant(kind, **plant)), NEAR_ZERO) for kind in kinds)
    with pytest.raises(InvalidArgument, match="can be added only if they are of the same model") as caught:
        _ = one + other
    for weight in (*one.sites, *other.sites):
        assert weight in str(caught.value)
