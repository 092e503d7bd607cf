"""The projector theorem: the pseudo-inverse estimate of dJ/dZ is P · dJ/dZ, exact where n ≤ rank."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import trainobs
from tests.property.synthetic import property_settings
from tests.reference.linear import ConvProblem, DenseProblem, weight_sums
from tests.reference.pseudo_inverse import projector
from trainobs.linear_ops import ConvOp, DenseOp, weight_vjp
from trainobs.statistics._pseudo_inverse import Inverse

FLOAT32 = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A spec, the oracle's problem of the same map, and shapes."""

    op: DenseOp | ConvOp
    reference: DenseProblem | ConvProblem
    input_shape: tuple
    kernel_shape: tuple
    seed: int
    dead_inputs: int

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Input and true dJ/dZ, normal at random; some inputs may repeat others or be zero."""
        rng = np.random.default_rng(self.seed)
        a = rng.normal(size=self.input_shape)
        if self.dead_inputs:
            a[..., 0] = 0 if self.dead_inputs == 1 else a[..., -1]
        return a, rng.normal(size=self.reference.output_shape(self.input_shape, self.kernel_shape))

    @property
    def rcond(self) -> float:
        """Below this part of the largest singular value the product counts zero."""
        positions = math.prod(self.reference.output_shape(self.input_shape, self.kernel_shape)[:-1])
        return max(positions, math.prod(self.kernel_shape[:-1])) * FLOAT32


@st.composite
def dense_problems(draw: st.DrawFn) -> Problem:
    """Dense kernels with more or fewer positions than inputs."""
    positions = draw(st.sampled_from([(1,), (3,), (12,), (2, 4)]))
    inputs, units = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    rest = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2))
    return Problem(DenseOp(), DenseProblem(), (*positions, inputs), (inputs, units), *rest)


@st.composite
def conv_problems(draw: st.DrawFn) -> Problem:
    """Convolutions along one or two axes, of every padding, stride, dilation and grouping."""
    rank = draw(st.integers(1, 2))
    padding = draw(st.sampled_from(["valid", "same"] + ["causal"] * (rank == 1)))
    stride, dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    groups, channels, units = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    window, size = (draw(st.integers(1, 3)),) * rank, (draw(st.integers(5, 7)),) * rank
    op = ConvOp((stride,) * rank, padding, (dilation,) * rank, groups)
    reference = ConvProblem((stride,) * rank, padding, (dilation,) * rank, groups)
    samples = draw(st.integers(1, 2))
    input_shape, kernel_shape = (samples, *size, channels * groups), (*window, channels, units * groups)
    rest = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2))
    return Problem(op, reference, input_shape, kernel_shape, *rest)


def estimated(op, a: np.ndarray, gradient: np.ndarray, shape: tuple) -> tuple[np.ndarray, int]:
    """The estimate of dJ/dZ, of that shape, and its rank."""
    inverse = Inverse.of(op, a, gradient.shape[:-2], math.prod(shape[:-1]))
    return inverse.solve(gradient, shape), inverse.rank


def check_estimate(problem: Problem) -> None:
    """The estimate is P · D for every unit, its rank is the trace of P, and it explains dJ/dW."""
    a, d = problem.arrays()
    gradient = weight_sums(problem.reference, a, d, problem.kernel_shape)
    estimate, rank = estimated(problem.op, a, gradient, d.shape)
    projections = projector(problem.reference, a, problem.kernel_shape, d.shape, problem.rcond)
    for unit, projection in enumerate(projections):
        expected = projection @ d[..., unit].ravel()
        np.testing.assert_allclose(estimate[..., unit].ravel(), expected, rtol=1e-6, atol=1e-6)
    assert rank == round(min(np.trace(projection) for projection in projections))
    if rank == math.prod(d.shape[:-1]):
        np.testing.assert_allclose(estimate, d, rtol=1e-6, atol=1e-6)
    again = weight_vjp(problem.op, tf.constant(a), tf.constant(estimate), problem.kernel_shape)
    np.testing.assert_allclose(again, gradient, rtol=1e-6, atol=1e-6)
    assert np.linalg.norm(estimate) <= np.linalg.norm(d) * (1 + 1e-6)


@given(dense_problems())
@property_settings(max_examples=60)
def test_estimate_is_the_projection_for_dense_kernels(problem: Problem):
    """P projects onto the columns of the input."""
    check_estimate(problem)


@given(conv_problems())
@property_settings(max_examples=60)
def test_estimate_is_the_projection_for_convolutions(problem: Problem):
    """The same with the patches of each group as the matrix that is inverted."""
    check_estimate(problem)


@given(st.integers(1, 6), st.integers(0, 2), st.integers(0, 2**32 - 1))
@property_settings(max_examples=20)
def test_estimate_is_exact_where_the_rows_are_independent(positions: int, more: int, seed: int):
    """With no more positions than inputs nothing is lost."""
    rng = np.random.default_rng(seed)
    a, d = rng.normal(size=(positions, positions + more + 1)), rng.normal(size=(positions, 3))
    estimate, rank = estimated(DenseOp(), a, a.T @ d, d.shape)
    assert rank == positions
    np.testing.assert_allclose(estimate, d, rtol=1e-6, atol=1e-6)


def test_mean_error_is_that_of_the_lost_dimensions():
    """Over random dJ/dZ the mean square of the relative error is 1 − rank/n."""
    rng = np.random.default_rng(0)
    a, d = rng.normal(size=(64, 16)), rng.normal(size=(64, 2000))
    estimate, rank = estimated(DenseOp(), a, a.T @ d, d.shape)
    errors = np.linalg.norm(estimate - d, axis=0) / np.linalg.norm(d, axis=0)
    assert rank == 16
    assert abs(np.sqrt(np.mean(errors**2)) - np.sqrt(1 - 16 / 64)) < 5e-3


def test_a_pinv_report_equals_the_measured_one_where_the_rank_suffices():
    """With fewer samples than inputs everywhere nothing is lost, so neither is a figure."""
    stack = layers.Dense(8, "tanh"), layers.Dense(7, "sigmoid"), layers.Dense(3)
    model = keras.Sequential([keras.Input((9,)), *stack])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(5, 9))
    measured, estimated = (
        trainobs.explain_near_zero_gradients(model, x, np.ones((5, 3)), backprop=backprop).kernels
        for backprop in ("tape", "pinv")
    )
    assert (estimated["pinv_trust"] == 1).all()
    columns = [
        name for name in measured if measured[name].dtype.kind in "fi" and name not in ("residual", "gain")
    ]
    np.testing.assert_allclose(estimated[columns], measured[columns], rtol=1e-3, atol=1e-6)
