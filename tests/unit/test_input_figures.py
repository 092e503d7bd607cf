"""Means, deviations and signs of input channels, and what they make of a fresh layer."""

import math

import numpy as np
import pytest

import trainobs
from tests.mechanisms.chains import case_of, dense, step
from tests.reference.inputs import channels, fresh_units_off
from tests.unit.problems import PROBLEMS
from tests.unit.sites import Told
from trainobs.analysis import SiteFigures
from trainobs.statistics import gather
from trainobs.thresholds import NearZero


@pytest.mark.parametrize(
    "problem",
    [
        "conv2d same strided",
        "conv2d channels first grouped",
        "einsum with a bias per step",
        "layer normalisation",
        "lookup",
    ],
)
def test_figures_of_channels_are_those_of_the_oracle(problem):
    """Of every weight: kernels with windows and groups, biases, scales and tables."""
    model, x, y = PROBLEMS[problem]()
    record, near_zero = trainobs.capture_batch(model, x, y), NearZero()
    told = Told(model, record, x)
    for weight, site in gather(record, near_zero).sites.items():
        inputs, ones = SiteFigures(site, near_zero, 1.0).inputs, site.info.op.constant_input
        found = channels(np.ones((3, 1)) if ones else told.given(weight, 1.0)["input"])
        np.testing.assert_allclose(inputs.mean, found["mean"], 1e-5, 1e-6, err_msg=weight)
        np.testing.assert_allclose(inputs.deviation, found["deviation"], 1e-3, 1e-4, err_msg=weight)
        np.testing.assert_array_equal(inputs.one_signed, found["one_signed"], err_msg=weight)
        window, groups = math.prod(site.kernel.shape[:-2]), site.info.op.groups
        expected = fresh_units_off(found, window=window, groups=groups)
        assert inputs.fresh_units_off(3.0) == pytest.approx(expected, rel=1e-3, abs=1e-6), weight


@pytest.mark.parametrize("mean", [0.0, 1.0, 5.0, -30.0])
def test_units_of_fresh_layers_are_dead_as_often_as_told(mean):
    """Drawn a thousand times: data of a deviation of 1, and a mean."""
    x = np.random.default_rng(0).normal(mean, 1.0, size=(1000, 8)).astype(np.float32)
    case = case_of(step(x, dense(8, 1000), dense(1000, 1, activation="linear")))
    figures = case.sites["d0/kernel"]
    assert figures.inputs.fresh_units_off(3.0) == pytest.approx(float(np.mean(figures.dead)), abs=0.04)


def test_few_inputs_of_one_sign():
    """A unit is dead by its weights' signs alone: of two inputs in one of four."""
    x = np.random.default_rng(0).exponential(size=(1000, 2)).astype(np.float32)
    case = case_of(step(x, dense(2, 1000), dense(1000, 1, activation="linear")))
    figures = case.sites["d0/kernel"]
    assert figures.inputs.fresh_units_off(3.0) == 0.25
    assert float(np.mean(figures.dead)) == pytest.approx(0.25, abs=0.04)


def test_a_deviation_that_rounding_leaves_is_none():
    """Constant inputs, of a size that float32 squares are rounded by."""
    x = np.full((100, 2), 1234.567, np.float32)
    case = case_of(step(x, dense(2, 3), dense(3, 1, activation="linear")))
    assert case.sites["d0/kernel"].inputs.deviation.tolist() == [0, 0]
