"""The distance of the terms' sum from the tape's gradient, where numbers are as small as float32 goes."""

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from trainobs.thresholds import Thresholds


def report_of(loss_scale: float) -> trainobs.Report:
    """Of two layers and a loss of this scale."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "tanh"), layers.LayerNormalization(), layers.Dense(2)]
    )
    model.compile("sgd", lambda y, prediction: loss_scale * keras.losses.mean_squared_error(y, prediction))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
    return trainobs.explain_near_zero_gradients(model, x, y)


@pytest.mark.parametrize("loss_scale", [1.0, 1e-18, 1e-24, 1e-34, 0.0])
def test_terms_whose_squares_float32_can_not_hold_are_explained(loss_scale: float) -> None:
    """The squares of terms below 1e-19 are 0 in float32: that is no distance from the tape's gradient."""
    report = report_of(loss_scale)
    assert report.layers["residual"].max() < 1e-4
    assert "unexplained" not in set(report.findings["cause"])


def test_sums_of_many_terms_are_rounded_more() -> None:
    """Float32 loses bits with every term, in TensorFlow's own sum too: λ·√T·u, Higham & Mary's bound."""
    limit = Thresholds().residual_limit
    assert [limit(dtype, 100.0) for dtype in ("float32", "float16", "bfloat16")] == [1e-4, 1e-2, 8e-2]
    assert limit("float32", 250_880) == pytest.approx(2.985e-4, rel=1e-3)
    values = np.random.default_rng(0).random(250_880, np.float32)
    sums = [np.cumsum(part, dtype=np.float32)[-1] for part in (values, values[::-1])]
    errors = np.abs(np.array(sums) / values.sum(dtype=float) - 1)
    assert 0 < errors.max() < limit("float32", values.size)


def test_a_gradient_that_no_term_explains_is_told() -> None:
    """A kernel that a loss uses outside of its layer is unexplained, however small that use."""
    keras.utils.set_random_seed(0)

    class Tied(keras.Sequential):
        def compute_loss(self, *args: object, **kwargs: object) -> object:
            extra = keras.ops.sum(self.layers[0].kernel ** 3)
            return super().compute_loss(*args, **kwargs) + 1e-12 * extra

    model = Tied([keras.Input((6,)), layers.Dense(5, "relu", name="tied"), layers.Dense(2)])
    model.compile("sgd", "mse")
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel, bias - 100])  # dead: its terms are all 0
    report = trainobs.explain_near_zero_gradients(model, np.ones((8, 6), np.float32), np.ones((8, 2)))
    assert ("unexplained", "tied") in set(
        zip(report.findings["cause"], report.findings["layer"], strict=True)
    )


@pytest.mark.parametrize(
    ("regularizer", "decays"), [(keras.regularizers.L2(0.5), True), (keras.regularizers.L1(0.5), False)]
)
def test_the_size_of_a_penalty(regularizer: keras.regularizers.Regularizer, decays: bool) -> None:
    """As NumPy has it: 2λ‖w‖ and λ√size; only an L2 penalty is in proportion to its weight."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, kernel_regularizer=regularizer, name="own"), layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
    report = trainobs.explain_near_zero_gradients(model, x, y, batch_size=8)
    kernel = model.layers[0].get_weights()[0]
    figures, other = (report.statistics.sites[f"sequential/{name}/kernel"] for name in ("own", "dense"))
    expected = np.linalg.norm(kernel) if decays else 0.5 * np.sqrt(kernel.size)
    positions = figures.positions
    assert figures.sums["penalty"] / positions == pytest.approx(expected, rel=1e-5)
    along = figures.sums["penalty_along"] / figures.sums["penalty"]
    assert along == pytest.approx(1) if decays else along < 0.99
    assert other.sums["penalty"] == 0


@pytest.mark.parametrize(("strength", "cause"), [(1e-3, None), (20.0, "penalty_dominates")])
def test_a_penalty_that_a_loss_adds_up(strength: float, cause: str | None) -> None:
    """In an own train step, as TensorFlow's guides have it: told apart without a regulariser."""
    keras.utils.set_random_seed(0)

    class Own(keras.Sequential):
        def compute_loss(self, *args: object, **kwargs: object) -> object:
            penalties = [keras.ops.sum(v**2) / 2 for v in self.trainable_variables]
            return super().compute_loss(*args, **kwargs) + strength * sum(penalties)

    model = Own([keras.Input((6,)), layers.Dense(8, "tanh", name="first"), layers.Dense(2)])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6)).astype(np.float32), rng.normal(size=(64, 2)).astype(np.float32)
    report = trainobs.explain_near_zero_gradients(model, x, y)
    assert report.layers["residual"].max() < 1e-4
    (key,) = (key for key in report.statistics.sites if key.endswith("first/kernel"))
    figures = report.statistics.sites[key]
    expected = strength * np.linalg.norm(model.layers[0].get_weights()[0])
    assert figures.sums["penalty"] / figures.positions == pytest.approx(expected, rel=1e-3)
    assert set(report.findings["cause"]) == ({cause} if cause else set())
