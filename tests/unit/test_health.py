"""Figures, rules and acts of the health monitors, against oracles and planted faults."""

from __future__ import annotations

import math
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import trainobs
from tests.faults import models
from trainobs.errors import InvalidArgument, NotRecorded
from trainobs.health import GradientHealth, HealthReport, HealthSettings, HealthWarning, check_health
from trainobs.health._clipping import clip_value
from trainobs.health._oscillation import LossHistory, oscillation
from trainobs.health._samples import distance, samples_of, shift

layers = keras.layers


def flat() -> tuple[np.ndarray, np.ndarray]:
    return models.small_digits()


def small_mlp(activation="relu", optimizer=None, **options) -> keras.Model:
    """Two hidden layers over the small digits, of He's scale."""
    model = models.mlp(32, 32, inputs=64, activation=activation, kernel_initializer="he_normal", **options)
    model.compile(optimizer or keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model


def fitted(model, health, *, x=None, y=None, epochs=1, batch_size=64, **options):
    """Fit quietly on the small digits, and return what was warned of."""
    x, y = flat() if x is None else (x, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HealthWarning)
        model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[health], **options)
    return [str(warning.message) for warning in caught if warning.category is HealthWarning]


def rules(report: HealthReport, *severities: str) -> set[str]:
    found = report.findings
    return set(found["rule"] if not severities else found[found["severity"].isin(severities)]["rule"])


def severity(report: HealthReport, rule: str) -> str:
    return report.findings[report.findings["rule"] == rule]["severity"].iloc[0]


# ---- gradient figures against the tape -----------------------------------------------------------


def shared_layer() -> keras.Model:
    start, shared = keras.Input((64,)), layers.Dense(64, activation="tanh", name="shared")
    return models.classifier(start, shared(shared(start)))


class Scale(layers.Layer):
    """A layer of a kind that is not known."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


MODELS = {
    "dense": (lambda: small_mlp(), models.small_digits),
    "conv and batch normalisation": (
        lambda: models.normalised_cnn(layers.BatchNormalization()),
        models.small_images,
    ),
    "shared": (shared_layer, models.small_digits),
    "lstm": (lambda: models.recurrent(layers.LSTM(6)), models.rows_of_digits),
    "gru": (lambda: models.recurrent(layers.GRU(6)), models.rows_of_digits),
    "embedding": (models.text_model, models.sentences),
    "attention": (models.attention_model, models.sentences),
    "unknown": (lambda: models.between(Scale()), models.small_digits),
    "penalty": (lambda: small_mlp(kernel_regularizer="l2"), models.small_digits),
}


def true_gradients(model: keras.Model, x, y) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    paths = [variable.path for variable in model.trainable_variables]
    return {path: tf.convert_to_tensor(g).numpy() for path, g in zip(paths, gradients, strict=True)}


@pytest.mark.parametrize("name", MODELS)
def test_gradient_figures_are_those_of_the_tape(name):
    """Each weight counts once: norms, means and maxima, and the global norm, are the true ones."""
    make, data = MODELS[name]
    model, (x, y) = make(), data()
    x, y = tf.constant(x[:32]), tf.constant(y[:32])
    true = true_gradients(model, x, y)
    report = check_health(model, x, y)
    assert sorted(report.layers.index) == sorted(true)
    np.testing.assert_allclose(report.global_norm, tf.linalg.global_norm(list(true.values())), rtol=1e-4)
    table = report.layers
    for path, gradient in true.items():
        row = table.loc[path]
        whole = gradient if row["role"] != "table" else gradient[np.unique(x)]
        np.testing.assert_allclose(row["gradient_norm"], np.linalg.norm(gradient), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(row["gradient_mean_abs"], np.mean(np.abs(whole)), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(row["gradient_max_abs"], np.max(np.abs(whole)), rtol=1e-4, atol=1e-9)
        assert row["size"] == gradient.size and row["non_finite"] == 0


def test_frozen_weights_have_no_gradient_figures():
    """A weight that does not train is in the table, with nothing to say, and no finding."""
    model = small_mlp()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    report = check_health(model, *(part[:64] for part in flat()))
    row = report.layers.iloc[0]
    assert not row["trainable"] and math.isnan(row["gradient_norm"]) and report.healthy
    assert report.layers["trainable"].tolist() == [False, False, True, True, True, True]


def test_a_gradient_that_is_zero_by_design_is_no_finding():
    """A bias that a normalisation takes away again does not vanish."""
    start = keras.Input((64,))
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Dense(16, name="hidden")(start)))
    report = check_health(models.classifier(start, hidden), *(part[:64] for part in flat()))
    assert report.layers.loc["hidden/bias", "gradient_norm"] < 1e-7
    assert report.layers.loc["hidden/bias", "cancelled"]
    assert "vanishing" not in rules(report) and not report.flow["vanishing"]


# ---- weights, units, activations -----------------------------------------------------------------


def test_weight_scales():
    """He's ratio and Glorot's are those of the initialisers' formulas."""
    start = keras.Input((8, 8, 1))
    he = keras.initializers.HeNormal(seed=0)
    hidden = layers.Conv2D(32, 3, kernel_initializer=he, name="conv")(start)
    hidden = layers.Flatten()(hidden)
    hidden = layers.Dense(64, kernel_initializer="glorot_uniform", name="dense")(hidden)
    model = models.classifier(start, hidden)
    table = check_health(model, *(part[:16] for part in models.small_images())).layers
    kernel = model.get_layer("conv").kernel.numpy()
    assert table.loc["conv/kernel", "weight_rms"] == pytest.approx(np.sqrt(np.mean(kernel**2)))
    assert table.loc["conv/kernel", "he_ratio"] == pytest.approx(1, abs=0.1)
    assert table.loc["conv/kernel", "he_ratio"] == pytest.approx(np.sqrt(np.mean(kernel**2) * 9 / 2))
    assert table.loc["dense/kernel", "glorot_ratio"] == pytest.approx(1, abs=0.02)
    assert math.isnan(table.loc["dense/bias", "he_ratio"])


def test_dead_units_are_those_that_never_fire():
    """The share of ReLU units that are 0 for the whole batch."""
    model, (x, y) = small_mlp(), flat()
    models.shift_bias(model, 0, -100.0, units=9)
    values = model.layers[0](x[:64]).numpy()
    expected = float(np.mean(np.all(values == 0, axis=0)))
    table = check_health(model, x[:64], y[:64]).layers
    assert expected >= 9 / 32 and table["dead_units"].iloc[0] == pytest.approx(expected)
    assert table["dead_units"].iloc[[1, 3]].isna().all()  # a bias does not say it again


def test_dead_units_with_a_floor():
    """SageMaker's preset counts units that fire at less than 1 % of the positions."""
    model, (x, y) = small_mlp(), flat()
    x, y = x[:200], y[:200]
    values = model.layers[0](x).numpy()
    unit = int(np.argmax(np.max(values, axis=0)))
    model.layers[0].bias.assign(-np.eye(32)[unit] * np.sort(values[:, unit])[-2])  # fires at one position
    silent = float(np.mean(np.sum(model.layers[0](x).numpy() > 0, axis=0) <= 2))
    never = float(np.mean(np.all(model.layers[0](x).numpy() == 0, axis=0)))
    assert check_health(model, x, y).layers["dead_units"].iloc[0] == pytest.approx(never)
    preset = check_health(model, x, y, settings=HealthSettings.preset("sagemaker"))
    assert preset.layers["dead_units"].iloc[0] == pytest.approx(silent) and silent > never


def test_saturated_values_are_those_with_a_small_slope():
    """The share of tanh values with a slope of at most 1e-2."""
    model, (x, y) = small_mlp("tanh"), flat()
    models.scale_kernel(model, 0, 4.0)
    values = model.layers[0](x[:64]).numpy().astype(np.float64)
    expected = float(np.mean(1 - values**2 <= 1e-2))
    table = check_health(model, x[:64], y[:64]).layers
    assert 0.05 < expected < 0.95
    assert table["saturated"].iloc[0] == pytest.approx(expected, abs=2e-3)
    assert table["dead_units"].isna().all()


def test_activation_moments():
    """Mean and standard deviation of the layer's output."""
    model, (x, y) = small_mlp(), flat()
    values = model.layers[0](x[:64]).numpy()
    row = check_health(model, x[:64], y[:64]).layers.iloc[0]
    np.testing.assert_allclose(
        [row["activation_mean"], row["activation_std"]], [values.mean(), values.std()], rtol=1e-5
    )


@pytest.mark.parametrize(
    "make", [lambda: small_mlp(), lambda: models.recurrent(layers.LSTM(6))], ids=["dense", "lstm"]
)
def test_update_ratio_is_measured(make):
    """‖ΔW‖ / ‖W‖ from the weights before and after the step, whatever the optimizer does."""
    model = make()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    x, y = flat() if len(model.input_shape) == 2 else models.rows_of_digits()
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    health = GradientHealth(every=100, act=())
    model.fit(x[:64], y[:64], batch_size=64, verbose=0, callbacks=[health])
    for variable in model.trainable_variables:
        old, ratio = before[variable.path], health.report.layers.loc[variable.path, "update_ratio"]
        if np.any(old):
            assert ratio == pytest.approx(
                np.linalg.norm(variable.numpy() - old) / np.linalg.norm(old), rel=1e-4
            )
        else:
            assert math.isnan(ratio)


def test_update_ratio_of_a_model_is_that_of_gradient_descent():
    """Learning rate times gradient norm against the weight's norm."""
    row = check_health(small_mlp(), *(part[:64] for part in flat())).layers.iloc[0]
    norm = row["weight_rms"] * np.sqrt(row["size"])
    assert row["update_ratio"] == pytest.approx(0.05 * row["gradient_norm"] / norm)


class TestShift:
    def test_distance_is_that_of_kolmogorov_and_smirnov(self):
        """As SciPy has it, for samples with and without equal values."""
        stats = pytest.importorskip("scipy.stats")
        random = np.random.default_rng(0)
        for move in (0.5, 1.0, 3.0):
            first = np.sort(np.maximum(random.normal(size=500), 0))
            second = np.sort(np.maximum(random.normal(move, size=400), 0))
            assert distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)

    def test_scale_and_chance(self):
        """Units of measurement don't matter, and what chance alone may do is 0."""
        random = np.random.default_rng(0)
        first, second = np.sort(random.normal(size=1000)), np.sort(random.normal(1, size=1000))
        assert (
            distance(first * 1e-5, second * 1e-5) == distance(first, second) == pytest.approx(0.38, abs=0.05)
        )
        assert distance(first, np.sort(random.normal(size=1000))) == 0

    def test_large_effect(self):
        """The threshold's source: 0.8 standard deviations are a distance of 0.31."""
        random = np.random.default_rng(0)
        first, second = np.sort(random.normal(size=100_000)), np.sort(random.normal(0.8, size=100_000))
        assert distance(first, second) == pytest.approx(math.erf(0.4 / math.sqrt(2)), abs=0.01)

    def test_samples(self):
        """A sample stands for its layer: the same values at two checks have no distance, moved ones have."""
        model, (x, y) = small_mlp(), flat()
        record = trainobs.capture_batch(model, x[:512], y[:512])
        models.shift_bias(model, 0, 1.0)
        moved = trainobs.capture_batch(model, x[:512], y[:512])
        first, second = samples_of(record.sites), samples_of(moved.sites)
        name = model.layers[0].name
        assert shift(first[name], first[name]) == 0 and shift(first[name], second[name]) > 0.3
        assert math.isnan(shift({}, second[name]))


class TestOscillation:
    def test_share_of_turning_points(self):
        """Only turns with a swing on both sides count."""
        assert oscillation([1, 2, 1, 2, 1], 0.03) == 1
        assert oscillation([1, 1.01, 1, 1.01, 1], 0.03) == 0
        assert oscillation([3, 2, 1, 2, 3], 0.03) == pytest.approx(1 / 3)
        assert oscillation([1, 2, 1, 2, 1], 0.03, noise=2.0) == 0
        assert math.isnan(oscillation([1, 2], 0.03)) and math.isnan(oscillation([1, math.nan, 1], 0.03))

    def test_points_from_running_means(self):
        """The mean loss of a stretch comes from the running means at its ends, epoch by epoch."""
        losses = np.random.default_rng(0).random(40)
        means = np.cumsum(losses) / np.arange(1, 41)
        history = LossHistory(HealthSettings(oscillation_steps=10))
        for steps in (1, 11, 15, 21, 40):
            history.add(steps, means[steps - 1])
        history.begin_epoch()
        history.add(12, 7.0)
        expected = [losses[:11].mean(), losses[11:21].mean(), losses[21:].mean(), 7.0]
        np.testing.assert_allclose(list(history.points), expected)

    @pytest.mark.parametrize(("rate", "oscillates"), [(0.01, False), (2.5, True)])
    def test_in_a_fit(self, rate, oscillates):
        """A learning rate beyond the stable one makes the loss swing."""
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(rate), "mae")
        settings = HealthSettings(oscillation_steps=1)
        health = GradientHealth(every=1, act=(), settings=settings)
        x = np.full((8, 1), 1.0, "float32")
        fitted(model, health, x=x, y=3 * x, epochs=1, batch_size=1)
        assert math.isnan(health.report.oscillation)  # too few points
        fitted(model, health, x=np.tile(x, (3, 1)), y=3 * np.tile(x, (3, 1)), batch_size=1)
        assert ("oscillation" in rules(health.report)) == oscillates


# ---- rules ---------------------------------------------------------------------------------------


def checked(model, **options) -> HealthReport:
    x, y = flat()
    return check_health(model, x[:64], y[:64], **options)


def test_a_healthy_model_has_no_warning():
    """Of any kind; and the report says so."""
    for make, data in list(MODELS.values())[:4]:
        x, y = data()
        report = check_health(make(), x[:64], y[:64])
        assert report.healthy and not rules(report, "error", "warning"), report
        assert "healthy" in repr(report) and "<h4>" in report._repr_html_()
        assert not any(report.flow.values())


def test_non_finite():
    """NaN weights make NaN gradients: an error that names them."""
    model = small_mlp("tanh")
    model.layers[1].kernel.assign(np.full((32, 32), np.nan, "float32"))
    report = checked(model)
    assert severity(report, "non_finite") == "error" and not report.healthy
    assert report.flow["non_finite"] == tuple(layer.name for layer in model.layers)
    assert report.findings["message"].iloc[0].startswith("The loss is nan")


def test_half_precision_overflows_by_design():
    """Gradients of a loss whose scale is too large: a warning, for the step is skipped."""
    model = models.per_row_mlp("mixed_float16")
    x, y = models.rows_of_digits()
    assert "non_finite" not in rules(check_health(model, x[:64], np.repeat(y[:64, None], 8, 1)))
    for layer in model.layers:
        layer.kernel.assign(20 * layer.kernel)
    report = check_health(model, x[:64], np.repeat(y[:64, None], 8, 1))
    assert severity(report, "non_finite") == "warning" and "skips such a step" in repr(report)


def test_vanishing():
    """Gradients that are lost on the way: of some layers a warning, of all an error."""
    model = small_mlp("sigmoid")
    models.shift_bias(model, 1, 60.0)
    report = checked(model)
    first, second, last = (layer.name for layer in model.layers)
    assert severity(report, "vanishing") == "warning"
    assert report.flow["vanishing"] == (first, second) and last not in report.flow["vanishing"]
    model.layers[2].kernel.assign(np.zeros((32, 10), "float32"))
    model.layers[2].bias.assign(np.eye(10, dtype="float32")[3] * 100)
    x, y = flat()
    lost = check_health(model, x[y == 3], y[y == 3])
    assert severity(lost, "vanishing") == "error" and "global_norm_low" in rules(lost)


def test_no_gradient():
    """A weight from which no path leads to the loss."""

    class Apart(layers.Layer):
        def build(self, shape):
            self.used = self.add_weight(shape=(shape[-1],), initializer="ones", name="used")
            self.unused = self.add_weight(shape=(3,), initializer="ones", name="unused")

        def call(self, x):
            return x * self.used

    report = checked(models.between(Apart(name="apart")))
    (row,) = report.findings[report.findings["rule"] == "no_gradient"].itertuples()
    assert row.weight == "apart/unused" and row.severity == "warning"


def test_exploding_and_norm_bands():
    """A loss that is too large is all three: exploding weights, a large norm, large mean gradients."""
    model = small_mlp()
    model.compile(keras.optimizers.SGD(0.05), models_scaled_loss)
    report = checked(model)
    assert {"exploding", "global_norm_high", "mean_gradient_high"} <= rules(report)
    assert severity(report, "exploding") == "error" and severity(report, "global_norm_high") == "warning"
    assert report.flow["exploding"] == tuple(layer.name for layer in model.layers)
    assert "update_high" in rules(report)


def models_scaled_loss(y, prediction):
    """A thousandfold cross-entropy."""
    return 1000 * keras.losses.sparse_categorical_crossentropy(y, prediction)


@pytest.mark.parametrize(("units", "expected"), [(None, "error"), (10, "warning")])
def test_dead_units(units, expected):
    """More than 20 % of the units warn, more than 50 % are an error."""
    model = small_mlp()
    name = models.shift_bias(model, 0, -100.0, units=units)
    report = checked(model)
    assert severity(report, "dead_units") == expected
    assert name in report.findings[report.findings["rule"] == "dead_units"]["message"].iloc[0]


def test_saturated():
    """More than half of a hidden layer's values; never the output's."""
    model = small_mlp("tanh")
    models.scale_kernel(model, 0, 100.0)
    report = checked(model)
    assert set(report.findings[report.findings["rule"] == "saturated"]["layer"]) == {model.layers[0].name}
    sigmoid = models.mlp(inputs=64, head="sigmoid", units=1, loss="mse")
    models.shift_bias(sigmoid, 0, -50.0)
    x, _ = flat()
    own = check_health(sigmoid, x[:64], np.zeros((64, 1)))
    assert own.layers["saturated"].iloc[0] == 1 and "saturated" not in rules(own)


@pytest.mark.parametrize(("factor", "rule"), [(0.01, "initial_weights_low"), (100.0, "initial_weights_high")])
def test_initial_weights(factor, rule):
    """Kernels far from the usual scales, at the first check only."""
    model = small_mlp()
    models.scale_kernel(model, 1, factor)
    assert rule in rules(checked(model))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    assert rule not in rules(checked(model))


def test_update_ratio_rules():
    """A learning rate that is far too small or too large."""
    assert "update_low" in rules(checked(small_mlp(optimizer=keras.optimizers.SGD(1e-9))))
    assert "update_high" in rules(checked(small_mlp(optimizer=keras.optimizers.SGD(100.0))))


def test_shift_rule():
    """Activations that moved since the recorded step before."""
    model, recorder = small_mlp(), trainobs.Recorder(every=1)
    x, y = flat()
    move = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: models.shift_bias(model, 0, 5.0) if batch == 1 else None
    )
    model.fit(x[:256], y[:256], batch_size=64, verbose=0, callbacks=[recorder, move])
    assert "shift" not in rules(check_health(recorder, step=1))
    moved = check_health(recorder, step=2)
    assert severity(moved, "shift") == "info"
    assert moved.layers["shift"].iloc[0] > 0.3 and not math.isnan(moved.layers["update_ratio"].iloc[0])


def test_autotrainer_rules():
    """First against last kernel, and the share of exactly-zero gradients, which are off by default."""
    model = small_mlp("sigmoid")
    for index in (1, 2):
        models.scale_kernel(model, index, 1e-3)
    settings = HealthSettings.preset("autotrainer")
    assert "first_last_low" in rules(checked(model, settings=settings))
    assert "first_last_low" not in rules(checked(model))
    dead = small_mlp()
    models.shift_bias(dead, 1, -100.0)
    assert "zero_gradients" in rules(checked(dead, settings=settings))
    large = small_mlp()
    models.scale_kernel(large, 2, 1e3)
    assert "first_last_high" in rules(checked(large, settings=settings))


# ---- settings ------------------------------------------------------------------------------------


def test_presets():
    """Each differs from the default only where the tool has a value of its own."""
    assert HealthSettings.preset("common") == HealthSettings()
    assert HealthSettings.preset("deepdiagnosis").dead_warning == 0.7
    assert HealthSettings.preset("thedeepchecker").update_ratio == (1e-4, 0.1)
    assert HealthSettings.preset("sagemaker", vanishing=1e-6).vanishing == 1e-6
    with pytest.raises(InvalidArgument, match="There is no preset 'keras'. There are: common, sagemaker"):
        HealthSettings.preset("keras")


@pytest.mark.parametrize(
    "wrong",
    [
        {"vanishing": 0},
        {"exploding": "a"},
        {"vanishing_of": "max"},
        {"global_norm": (10, 0.1)},
        {"dead_warning": 1.5},
        {"dead_warning": 0.9},
        {"clip_most": 0},
        {"first_last": 3},
        {"shift": None},
    ],
)
def test_settings_are_checked(wrong):
    """A value that cannot work is refused, with what was expected."""
    with pytest.raises(InvalidArgument, match=r"`\w+` must be .* Received"):
        HealthSettings(**wrong)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"act": ("shout",)}, "`act` must be a subset"),
        ({"log": 3}, "`log` must be callable"),
        ({"settings": "common"}, "HealthSettings.preset"),
        ({"every": 0}, "`every` must be a positive integer"),
        ({"act": "clip", "layers": "dense"}, "needs the norm of all gradients"),
    ],
)
def test_arguments_are_checked(arguments, text):
    """Of the callback, when it is made."""
    with pytest.raises(InvalidArgument, match=text):
        GradientHealth(**arguments)


def test_sources_are_checked():
    """A step goes with a recording, data with a model."""
    model = small_mlp()
    with pytest.raises(InvalidArgument, match="`step` goes with"):
        check_health(model, *flat(), step=3)
    with pytest.raises(InvalidArgument, match="needs data"):
        check_health(model)
    with pytest.raises(NotRecorded):
        check_health(trainobs.Recorder())
    with pytest.raises(InvalidArgument, match="holds its own data"):
        check_health(trainobs.Recording(()), *flat())
    recorder = trainobs.Recorder(keep="statistics")
    model.fit(*flat(), batch_size=256, verbose=0, callbacks=[recorder])
    with pytest.raises(InvalidArgument, match="not its tensors"):
        check_health(recorder)


# ---- the callback --------------------------------------------------------------------------------


class TestCallback:
    def test_training_is_bit_equal(self):
        """With and without the callback, seeded alike, all weights are the same bits."""
        weights = []
        for callbacks in ([], [GradientHealth(every=3, act=("warn",), settings=HealthSettings())]):
            keras.utils.clear_session()
            keras.utils.set_random_seed(1)
            model = models.normalised_cnn(layers.BatchNormalization())
            x, y = models.small_images()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HealthWarning)
                model.fit(x[:640], y[:640], epochs=2, batch_size=32, verbose=0, callbacks=callbacks)
            weights.append(model.get_weights())
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))

    def test_history_and_reports(self):
        """Tidy figures of each check, and reports that hold no tensors."""
        health = GradientHealth(every=10, act=())
        fitted(small_mlp(), health)
        assert [report.step for report in health.reports] == [0, 10, 20]
        assert health.report is health.reports[-1] and "20" in repr(health)
        history = health.history
        norms = history[history["figure"] == "global_norm"]["value"]
        assert norms.tolist() == [report.global_norm for report in health.reports]
        assert not history["value"].isna().any()
        assert not [v for r in health.reports for v in vars(r).values() if isinstance(v, np.ndarray)]
        assert {"gradient_norm", "update_ratio", "dead_units", "shift"} <= set(history["figure"])

    def test_reports_are_those_of_a_recorder(self):
        """A check sees what a Recorder records beside it, also where several steps are one execution."""
        model = small_mlp()
        model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=4)
        health, recorder = GradientHealth(every=6, act=()), trainobs.Recorder(every=6)
        model.fit(*flat(), batch_size=64, verbose=0, callbacks=[health, recorder])
        assert tuple(report.step for report in health.reports) == recorder.recording.steps
        for report in health.reports:
            assert report.global_norm == check_health(recorder, step=report.step).global_norm

    def test_warns_once(self):
        """A finding is warned of once per rule and layer, with what to do."""
        model = small_mlp()
        name = models.shift_bias(model, 0, -100.0)
        texts = fitted(model, GradientHealth(every=5))
        dead = [text for text in texts if f"units of {name} never fire" in text]
        assert len(dead) == 1 and "use leaky ReLU" in dead[0] and dead[0].startswith("Step 0: ")
        assert fitted(model, GradientHealth(every=5, act=())) == []

    def test_a_healthy_fit_is_quiet(self):
        """No warning in a training that goes well."""
        model = models.normalised_cnn(layers.BatchNormalization())
        x, y = models.small_images()
        assert fitted(model, GradientHealth(every=10), x=x, y=y, epochs=2) == []

    def test_stops(self):
        """Training ends at an error, and it is said why."""
        model = small_mlp()
        models.shift_bias(model, 0, -100.0)
        health = GradientHealth(every=4, act=("stop",))
        texts = fitted(model, health, epochs=3)
        assert len(health.reports) == 1 and int(model.optimizer.iterations) == 1
        assert texts[0].startswith("Training stops at step 0: ")
        assert "dead_units" in rules(health.report, "error")

    def test_layers(self):
        """Only the layers asked for are checked."""
        model = small_mlp()
        health = GradientHealth(layers=model.layers[1].name, act=())
        fitted(model, health)
        assert set(health.report.layers["layer"]) == {model.layers[1].name}


class Breaking(keras.callbacks.Callback):
    """Breaks a fit off at a batch."""

    def __init__(self, batch: int, where: str) -> None:
        super().__init__()
        self.batch, self.where = batch, where

    def on_train_batch_begin(self, batch, logs=None):
        if self.where == "begin" and batch == self.batch:
            raise KeyError("broken")

    def on_train_batch_end(self, batch, logs=None):
        if self.where == "end" and batch == self.batch:
            raise KeyError("broken")


class TestClipping:
    def exploding(self, optimizer=None) -> keras.Model:
        """Gradients of a thousandfold loss, and a rate at which they do no harm."""
        model = small_mlp(optimizer=optimizer or keras.optimizers.SGD(1e-6))
        model.compile(model.optimizer, models_scaled_loss)
        return model

    def test_value(self):
        """The median of the healthy norms, or the middle of the band."""
        assert clip_value([0.01, 2.0, 4.0, 3.0, math.nan, 50.0], (0.1, 10.0)) == 3.0
        assert clip_value([], (0.1, 10.0)) == pytest.approx(1.0)

    @pytest.mark.parametrize("eager", [False, True])
    def test_updates_are_clipped(self, eager):
        """From the next step on, due or not, an update is at most rate × norm; the first one is not."""
        model = self.exploding()
        model.compile(model.optimizer, models_scaled_loss, run_eagerly=eager)
        sizes, held = [], [model.get_weights()]

        def measure(batch, logs):
            held.append(model.get_weights())
            change = [a - b for a, b in zip(held[-1], held[-2], strict=True)]
            sizes.append(float(tf.linalg.global_norm(change)) / 1e-6)

        health = GradientHealth(every=3, act=("clip",))
        x, y = flat()
        with pytest.warns(HealthWarning, match="from now on gradients are clipped to a global norm of 1"):
            model.fit(
                x[:512], y[:512], batch_size=64, verbose=0,
                callbacks=[health, keras.callbacks.LambdaCallback(on_train_batch_end=measure)],
            )  # fmt: skip
        assert sizes[0] > 100
        np.testing.assert_allclose(sizes[1:], 1.0, rtol=0.2)  # float32 weights round such small steps
        assert all(report.global_norm > 100 for report in health.reports)  # measured before clipping
        assert model.optimizer.global_clipnorm is None

    def test_nothing_stays(self):
        """After the fit model and optimizer have their own again: a step is not clipped."""
        model, health = self.exploding(), GradientHealth(every=2, act=("clip",))
        assert len(fitted(model, health)) == 1
        assert model.optimizer.global_clipnorm is None
        x, y = flat()
        before = model.get_weights()
        model.train_on_batch(x[:64], y[:64])
        change = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
        assert float(tf.linalg.global_norm(change)) / 1e-6 > 100
        assert len(fitted(model, health)) == 1  # and clips again in the next fit

    @pytest.mark.parametrize("where", ["begin", "end"])
    @pytest.mark.parametrize("batch", [5, 6])
    @pytest.mark.parametrize("order", [1, -1])
    def test_nothing_stays_after_an_exception(self, where, batch, order):
        """Of a callback before or behind it, in a due step or not: the next step is not clipped."""
        model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
        model.make_train_function()
        own = model.train_function
        x, y = flat()
        callbacks = [Breaking(batch, where), health][::order]
        with pytest.raises(KeyError), pytest.warns(HealthWarning):
            model.fit(x, y, batch_size=64, verbose=0, callbacks=callbacks)
        assert model.optimizer.global_clipnorm is None
        before = model.get_weights()
        model.train_on_batch(x[:64], y[:64])
        change = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
        assert float(tf.linalg.global_norm(change)) / 1e-6 > 100
        assert model.optimizer.global_clipnorm is None
        assert model.train_function is own

    @pytest.mark.parametrize("batches", [5, 6])
    @pytest.mark.parametrize("order", [1, -1])
    def test_nothing_stays_after_a_failing_step(self, batches, order):
        """Data that ends in an error, in a due step or not, or in one that a Recorder beside it wants."""
        model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
        model.make_train_function()
        own = model.train_function
        callbacks = [health, trainobs.Recorder(at=[5])][::order]
        x, y = flat()

        def data():
            for k in range(batches):
                yield x[64 * k : 64 * (k + 1)], y[64 * k : 64 * (k + 1)]
            yield x[:64], y[:63]

        with pytest.raises(Exception), pytest.warns(HealthWarning):  # noqa: B017, PT011 (Keras' versions differ)
            model.fit(data(), steps_per_epoch=20, verbose=0, callbacks=callbacks)
        assert model.optimizer.global_clipnorm is None
        assert model.train_function is own

    def test_beside_a_recorder(self):
        """Recorders before and behind record their steps, and those are clipped too."""
        for order in (slice(None), slice(None, None, -1)):
            model, health = self.exploding(), GradientHealth(every=3, act=("clip",))
            recorder = trainobs.Recorder(at=[3, 4])
            x, y = flat()
            with pytest.warns(HealthWarning):
                model.fit(x[:384], y[:384], batch_size=64, verbose=0, callbacks=[health, recorder][order])
            assert recorder.recording.steps == (3, 4)
            before, after = (recorder.recording.at(step).sites[0].kernel for step in (3, 4))
            assert np.linalg.norm(after - before) <= 1.2e-6
            assert model.optimizer.global_clipnorm is None

    def test_ends_when_norms_are_healthy_again(self):
        """After so many healthy checks in a row; and it begins at most so many times."""
        settings = HealthSettings(clip_release=2, clip_most=2)
        health = GradientHealth(every=1, act=("clip",), settings=settings)
        model = small_mlp(optimizer=keras.optimizers.SGD(1e-6))
        x, y = flat()
        weights = np.ones(640, "float32")
        weights[64:128] = weights[320:384] = 1000.0
        texts = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HealthWarning)
            model.fit(
                x[:640],
                y[:640],
                sample_weight=weights,
                batch_size=64,
                shuffle=False,
                verbose=0,
                callbacks=[health],
            )
        texts = [str(warning.message) for warning in caught if warning.category is HealthWarning]
        assert ["no longer" in text for text in texts] == [False, True, False]
        norms = [report.global_norm for report in health.reports]
        assert f"global norm of {norms[0]:.4g}" in texts[0]  # the only healthy one so far

    @pytest.mark.parametrize("own", [{"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 2.0}])
    def test_an_optimizer_that_clips_is_refused(self, own):
        """Two clippings would hide one another."""
        model = small_mlp(optimizer=keras.optimizers.SGD(0.1, **own))
        with pytest.raises(InvalidArgument, match="the optimizer clips already"):
            fitted(model, GradientHealth(act=("clip",)))

    def test_healthy_norms_are_not_clipped(self):
        """Nothing is done, and training is bit-equal, while norms are healthy."""
        weights = []
        for callbacks in ([], [GradientHealth(every=3, act=("clip",))]):
            keras.utils.set_random_seed(1)
            model = small_mlp()
            model.fit(*flat(), batch_size=64, verbose=0, callbacks=callbacks)
            weights.append(model.get_weights())
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_tables_are_typed():
    """Findings have their columns, also when there are none."""
    found = checked(small_mlp()).findings
    columns = "severity rule layer weight value threshold message recommendation"
    assert list(found.columns) == columns.split() and isinstance(found, pd.DataFrame)
