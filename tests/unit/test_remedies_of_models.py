"""Each remedy of models and data: what it changes is what it says."""

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from tests.unit.remedy_models import named, nested, some_digits, stack
from trainobs import remedies
from trainobs.errors import InvalidArgument, ModelNotReady


def test_swapped_activations():
    """Of layers that have one, and of layers that are one; kernels stay."""
    model = nested()
    new = remedies.swap_activation(model, "elu", layers=["relu", "deep"])
    assert named(new, "relu").activation is keras.activations.elu
    assert named(new, "deep").activation is keras.activations.elu
    np.testing.assert_array_equal(named(new, "deep").kernel, named(model, "deep").kernel)
    with pytest.raises(InvalidArgument, match="no activation 'rule'"):
        remedies.swap_activation(model, "rule", layers=["relu"])
    with pytest.raises(InvalidArgument, match=r"no layers \['h9'\]"):
        remedies.swap_activation(model, layers=["h9"])
    with pytest.raises(InvalidArgument, match=r"Write \['relu'\]"):
        remedies.swap_activation(model, layers="relu")
    with pytest.raises(InvalidArgument, match="no activation of its own"):
        remedies.swap_activation(stack(), layers=["h1", "head"]) and remedies.swap_activation(
            keras.Sequential([keras.Input((3, 2)), layers.LSTM(4, name="rnn")]), layers=["rnn"]
        )


def test_new_kernels_have_the_size_that_theory_asks_for():
    """He before ReLU, Glorot before tanh, LeCun before SELU; biases 0, gammas 1; the seed counts."""
    sizes = {"relu": 2 / 64, "tanh": 2 / (64 + 2000), "selu": 1 / 64}
    for activation, variance in sizes.items():
        model = keras.Sequential([keras.Input((64,)), layers.Dense(2000, activation, name="wide")])
        model.layers[0].bias.assign(np.full(2000, 3.0))
        new = remedies.reinitialise(model, layers=["wide"], seed=5)
        assert np.var(new.layers[0].kernel) == pytest.approx(variance, rel=0.02)
        assert not np.any(new.layers[0].bias)
        again, other = (remedies.reinitialise(model, layers=["wide"], seed=seed) for seed in (5, 6))
        np.testing.assert_array_equal(again.layers[0].kernel, new.layers[0].kernel)
        assert not np.allclose(other.layers[0].kernel, new.layers[0].kernel)
    norm = keras.Sequential([keras.Input((4,)), layers.LayerNormalization(name="norm")])
    norm.layers[0].gamma.assign(np.zeros(4))
    assert np.all(np.asarray(remedies.reinitialise(norm, layers=["norm"]).layers[0].gamma) == 1)


def test_only_dead_units_are_drawn_anew():
    """The columns of the others, and their biases, stay."""
    model, mask = stack(), np.arange(24) % 3 == 0
    model.get_layer("h2").bias.assign(np.full(24, -7.0))
    old, new = model.get_layer("h2"), remedies.reinitialise_units(model, {"h2": mask}).get_layer("h2")
    np.testing.assert_array_equal(np.asarray(new.kernel)[:, ~mask], np.asarray(old.kernel)[:, ~mask])
    assert not np.any(np.asarray(new.kernel)[:, mask] == np.asarray(old.kernel)[:, mask])
    np.testing.assert_array_equal(new.bias, np.where(mask, 0.0, -7.0))
    with pytest.raises(InvalidArgument, match="of size 3"):
        remedies.reinitialise_units(model, {"h2": np.ones(3, bool)})


def test_a_bias_is_reset_where_units_are_dead():
    """Biases of other units, and all kernels, stay; without `units` all are reset."""
    model, mask = stack(), np.arange(24) % 3 == 0
    old = model.get_layer("h2")
    old.bias.assign(np.full(24, -7.0))
    some = remedies.reset_bias(model, layers=["h2"], units={"h2": mask}).get_layer("h2")
    np.testing.assert_array_equal(some.bias, np.where(mask, 0.0, -7.0))
    every = remedies.reset_bias(model, layers=["h2"]).get_layer("h2")
    assert not np.any(every.bias) and np.all(np.asarray(old.bias) == -7.0)
    for new in (some, every):
        np.testing.assert_array_equal(new.kernel, old.kernel)
    with pytest.raises(InvalidArgument, match="of size 3"):
        remedies.reset_bias(model, layers=["h2"], units={"h2": np.ones(3, bool)})
    bare = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False, name="bare")])
    with pytest.raises(InvalidArgument, match="has a bias"):
        remedies.reset_bias(bare, layers=["bare"])


def test_a_beta_in_between_is_reset():
    """Where the beta of a normalisation keeps units off, that is the bias."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, use_bias=False, name="d"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Dense(1),
        ]
    )
    model.get_layer("norm").beta.assign(np.full(8, -50.0))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    report = trainobs.explain_near_zero_gradients(model, x, x[:, :1])
    assert "8 of norm" in report.remedies()["changes"].iloc[0]
    (first,) = remedies.treatments(report)[:1]
    new, *_ = first.apply((model, x, x[:, :1]))
    assert not np.any(new.get_layer("norm").beta)


def saturated(stddev=0.2, bias=0.0, scale=1.0):
    """What is tried first on a net whose tanh layer may be saturated, and what it advises."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=stddev)
    shift = keras.initializers.Constant(bias)
    deep = layers.Dense(16, "tanh", kernel_initializer=start, bias_initializer=shift, name="deep")
    model = keras.Sequential([keras.Input((8,)), layers.Rescaling(scale), deep, layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(128, 8)).astype("float32")
    report = trainobs.explain_near_zero_gradients(model, x, x[:, :1])
    assert report.findings["cause"].iloc[0] == "saturated_activation"
    return report.remedies()["remedy"].iloc[0], report.findings["remedy"].iloc[0]


def test_what_is_tried_first_follows_from_why_values_are_saturated():
    """The bias, the kernel, or what the layer reads."""
    assert saturated(bias=20.0) == ("reset the bias", "Reset the bias to 0.")
    assert saturated(stddev=30.0)[0] == "re-initialise"


def test_units_of_layers_with_two_kernels_are_those_of_the_last():
    """A separable convolution's depthwise kernel has units of its own, but no activation."""
    keras.utils.set_random_seed(0)
    convolution = layers.SeparableConv2D(6, 3, activation="relu", name="sep")
    model = keras.Sequential([keras.Input((8, 8, 3)), convolution, layers.Flatten(), layers.Dense(1)])
    convolution.bias.assign(np.full(6, -50.0))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((16, 8, 8, 3)).astype("float32")
    report = trainobs.explain_near_zero_gradients(model, x, x[:, 0, 0, :1])
    trials = report.try_remedies(model, x, x[:, 0, 0, :1], steps=1, remedies=["reset", "re-initialise dead"])
    told = trials.set_index("remedy")
    assert told.loc["reset the bias", "gone"]
    assert "last axis" in told.loc["re-initialise dead units", "failed"]


def test_a_normalisation_stands_between_kernel_and_activation():
    """Preactivations have mean 0 and variance 1 over the batch, then comes the activation."""
    model, (x, _) = stack("tanh"), some_digits()
    model.get_layer("h2").kernel.assign(100 * model.get_layer("h2").kernel)
    new = remedies.insert_normalisation(model, layers=["h2"])
    block = new.get_layer("h2_block")
    assert [layer.name for layer in block.layers] == ["h2", "h2_normalised", "h2_activation"]
    before = model.get_layer("h1")(x)
    np.testing.assert_array_equal(block.layers[0].kernel, model.get_layer("h2").kernel)
    z = np.asarray(block.layers[1](block.layers[0](before), training=True))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-3)
    with pytest.raises(InvalidArgument, match="kind"):
        remedies.insert_normalisation(model, "group", layers=["h2"])


def test_a_residual_adds_what_it_reads():
    """Layers that change the shape are left alone; if all do, it says so."""
    model, (x, _) = stack(), some_digits()
    new = remedies.wrap_residual(model, layers=["h1", "h2"])
    assert [layer.name for layer in new.layers] == ["h1", "h2_residual", "h3", "head"]
    read = model.get_layer("h1")(x)
    made = read + model.get_layer("h2")(read)
    np.testing.assert_allclose(new.layers[1](new.layers[0](x)), made, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidArgument, match="None of these layers"):
        remedies.wrap_residual(model, layers=["h1", "head"])


def test_optimizers():
    """What they are given, and what stays."""
    model = stack()
    assert remedies.clip_gradients(model, 0.5).optimizer.global_clipnorm == 0.5
    assert float(remedies.lower_learning_rate(model).optimizer.learning_rate) == pytest.approx(0.0002)
    rate = remedies.warm_up(model, steps=100).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 50, 100, 500)] == pytest.approx([0, 0.001, 0.002, 0.002])
    scaled = remedies.scale_loss(model).optimizer
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert scaled.inner_optimizer.beta_1 == 0.8
    with pytest.raises(InvalidArgument, match="schedule"):
        remedies.lower_learning_rate(remedies.warm_up(model))
    with pytest.raises(ModelNotReady, match="not compiled"):
        remedies.clip_gradients(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))


@pytest.fixture
def half_precision():
    """Models made meanwhile compute in float16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("half_precision")
@pytest.mark.parametrize("scaled", [True, False])
def test_optimizers_that_scale_the_loss(scaled):
    """The one inside is changed, its wrapper kept; a model that was compiled without one gets none."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10)])
    inner = keras.optimizers.Adam(0.002)
    outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=64.0) if scaled else inner
    model.compile(outer, "mse", auto_scale_loss=False)
    for change, name, value in (
        (remedies.clip_gradients, "global_clipnorm", 1.0),
        (remedies.lower_learning_rate, "learning_rate", 0.0002),
    ):
        new = change(model).optimizer
        assert isinstance(new, keras.optimizers.LossScaleOptimizer) == scaled
        if scaled:
            assert new.get_config()["initial_scale"] == 64.0
        found = getattr(new.inner_optimizer if scaled else new, name)
        assert float(found) == pytest.approx(value)


def test_data():
    """Standardised by feature; integers stay; broken samples go, with their targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(50, [[1.0, 20.0, 0.0]], (200, 3)).astype("float32")
    new = remedies.standardise(x)
    np.testing.assert_allclose(new.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(new.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(remedies.standardise(x[:5], like=x), new[:5], atol=1e-5)
    tokens = rng.integers(0, 9, (20, 4))
    assert remedies.standardise({"text": tokens})["text"] is tokens
    x[3, 1], y = np.nan, np.arange(200)
    kept, targets = remedies.drop_non_finite(x, y)
    assert kept.shape == (199, 3) and 3 not in targets
    with pytest.raises(InvalidArgument, match="Every sample"):
        remedies.drop_non_finite(x[3:4], y[3:4])
