"""Gradients whose squares float32 can't hold: their sizes and gains are those of float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests.mechanisms.chains import case_of, dense, inputs, step
from trainobs.capture.reading._reads import _four_sums
from trainobs.diagnosis import diagnose
from trainobs.records import sums_of
from trainobs.statistics._squares import sum_of_squares

#: Down to float32's smallest normal number; below it, processors take numbers for 0.
SIZES = [1e25, 1.0, 1e-19, 1e-25, 1.2e-38]


def values(size):
    """Numbers of a size and up to ten times as large, of both signs."""
    rng = np.random.default_rng(0)
    return (size * rng.uniform(1, 10, (20, 7)) * rng.choice([-1, 1], (20, 7))).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_sums_of_squares(size):
    """On the device, of columns; of a whole tensor of a step; and of an array."""
    given = values(size)
    squares = given.astype(np.float64) ** 2
    columns = tf.function(sum_of_squares)(tf.constant(given), [0])
    np.testing.assert_allclose(columns, squares.sum(axis=0), rtol=1e-5)
    assert float(tf.function(_four_sums)(tf.constant(given))[0]) == pytest.approx(squares.sum())
    assert sums_of(given).square_sum == pytest.approx(squares.sum())


def test_what_is_no_number_stays_none():
    """NaN is not taken for a number; zeros are 0."""
    given = tf.constant([[1e-30, 0.0, 1.0], [np.nan, 0.0, 2.0]])
    np.testing.assert_array_equal(sum_of_squares(given, [0]), [np.nan, 0.0, 5.0])


@pytest.mark.parametrize("size", [1.0, 1e-16, 1e-23])
def test_gains_do_not_depend_on_the_size_of_the_gradient(size):
    """Of slopes and of kernels, down to gradients of 1e-25 at the first layer."""
    layers = [dense(seed=at, activation="tanh") for at in range(3)]
    record = step(inputs(), *layers, loss_gradient=size)
    usual = case_of(step(inputs(), *layers)).flow.nodes
    for node, site, expected in zip(case_of(record).flow.nodes, record.sites[::2], usual, strict=True):
        d, g = (np.float64(part) for part in (site.preactivation_gradient, site.output_gradient))
        assert node.slope_gain == pytest.approx(np.linalg.norm(d) / np.linalg.norm(g), rel=1e-5)
        assert node.kernel_gain == pytest.approx(expected.kernel_gain, rel=1e-5, nan_ok=True)


def test_fifty_sigmoid_layers_vanish():
    """Less than 1e-30 of the gradient arrives at the first one; nothing is saturated."""
    layers = [dense(seed=at, activation="sigmoid", scale=0.7) for at in range(50)]
    case = case_of(step(inputs(), *layers))
    findings = diagnose(case).findings
    assert findings[0].cause == "vanishing" and "shrinks to 0.22 of itself" in findings[0].evidence
    assert not any("saturated" in finding.evidence or "nan" in finding.evidence for finding in findings)
    nodes = case.flow.nodes
    assert nodes[0].gradient_rms < 1e-30 and not any(np.isnan(node.slope_gain) for node in nodes)
