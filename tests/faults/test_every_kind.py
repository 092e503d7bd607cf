"""Planted faults in every kind of layer and way to train: one finding, at its layer; none if healthy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.faults import models
from tests.faults.models import (
    Between,
    OwnStep,
    attention_model,
    between,
    classifier,
    dense,
    mlp,
    normalised_cnn,
    normalised_mlp,
    per_row_mlp,
    recurrent,
    rows_of_digits,
    sentences,
    set_part,
    small_digits,
    small_images,
    text_model,
    trained,
)

layers, ops = keras.layers, keras.ops
N = 128


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


def explain(model, x, y, samples=N):
    return trainobs.explain_near_zero_gradients(model, x[:samples], y[:samples])


def problems(report):
    """Findings as (cause, layer), without those that only inform."""
    found = report.findings[report.findings.severity != "info"]
    return list(zip(found.cause, found.layer, strict=True))


def informs(report):
    """Those that only inform."""
    found = report.findings[report.findings.severity == "info"]
    return list(zip(found.cause, found.layer, strict=True))


def root(report, weight):
    """Root cause and layer of the row whose path ends like this."""
    (row,) = [row for path, row in report.layers.iterrows() if path.endswith(weight)]
    return row.root_cause, row.root_layer


def evidence(report):
    return report.findings.evidence.iloc[0]


def fitted(model, x, y, **options):
    """The report on the first step of a fit."""
    recorder = trainobs.Recorder(every=1)
    model.fit(x[:N], y[:N], batch_size=N, callbacks=[recorder], verbose=0, **options)
    return trainobs.explain_near_zero_gradients(recorder)


class TestWeightsOfTheLoss:
    @pytest.mark.parametrize(
        "options",
        [{"sample_weight": np.zeros(N)}, {"class_weight": dict.fromkeys(range(10), 0.0)}],
        ids=["samples", "classes"],
    )
    def test_all_zero(self, options):
        """Weights of 0 for every sample or class keep all gradients from the output."""
        report = fitted(mlp(32, 32, inputs=64), *small_digits(), **options)
        last = report.layers.layer.iloc[-1]
        assert problems(report) == [("masked", last)]
        assert set(report.layers.root_cause) == {"masked"}
        assert "weight 0" in evidence(report)

    @pytest.mark.parametrize(
        "options",
        [
            {"sample_weight": (np.arange(N) % 2).astype("float32")},
            {"class_weight": {i: float(i % 2) for i in range(10)}},
        ],
        ids=["samples", "classes"],
    )
    def test_some_zero(self, options):
        """Weights of 0 for some are said, and are no fault."""
        report = fitted(mlp(32, 32, inputs=64), *small_digits(), **options)
        assert problems(report) == []
        assert [cause for cause, _ in informs(report)] == ["masked"]

    def test_mask_of_padding(self):
        """Padding that a mask takes out of a loss per token is said, and is no fault."""
        x, _ = sentences(padded=True)
        start = keras.Input((12,), dtype="int32")
        hidden = layers.Embedding(50, 16, mask_zero=True)(start)
        model = classifier(start, layers.GRU(16, return_sequences=True)(hidden))
        report = explain(model, x, x % 10)
        assert problems(report) == []
        assert ("masked", "head") in informs(report)


def zeros_of_constant(x):
    return x * ops.zeros((1, 32))


class TestMaskedInside:
    @pytest.mark.parametrize("where", ["middle", "end"])
    @pytest.mark.parametrize("make", [between, Between])
    def test_raw_product_with_zeros(self, make, where):
        """A product with zeros between two layers stops both directions, whoever computes it."""
        report = explain(make(zeros_of_constant, where), *small_digits())
        ((cause, layer),) = problems(report)
        reader = "second" if where == "middle" else "head"
        assert cause == "masked"
        assert layer.startswith("multiply") or layer == f"operations before {reader}"
        for weight in ("first/kernel", f"{reader}/kernel"):
            assert root(report, weight) == ("masked", layer)

    def test_multiply_layer(self):
        """A Multiply layer is named when the mask it is given is zero."""
        x, y = small_digits()
        start, mask = keras.Input((64,)), keras.Input((32,))
        hidden = layers.Multiply(name="gate")([dense(32, "first")(start), mask])
        model = models.compiled(keras.Model([start, mask], dense(10, "head", "softmax")(hidden)))
        report = trainobs.explain_near_zero_gradients(model, [x[:N], np.zeros((N, 32), "float32")], y[:N])
        assert problems(report) == [("masked", "gate")]
        assert root(report, "first/kernel") == root(report, "head/kernel") == ("masked", "gate")

    def test_branch_that_multiplies(self):
        """Where the other factor of a product is a dead layer, that layer is the cause."""
        start = keras.Input((64,))
        switch = dense(32, "switch")
        model = classifier(start, layers.Multiply()([dense(32, "first")(start), switch(start)]))
        switch.bias.assign(switch.bias - 100.0)
        report = explain(model, *small_digits())
        assert problems(report) == [("dead_activation", "switch")]
        assert root(report, "first/kernel") == ("dead_activation", "switch")


CUTS = {
    "stop_gradient": ops.stop_gradient,
    "round": ops.round,
    "cast": lambda x: ops.cast(ops.cast(8 * x, "int32"), "float32"),
    "sign": ops.sign,
}
RAW_CUTS = {
    "sign": tf.sign,
    "stop_gradient": tf.stop_gradient,
    "round": tf.round,
    "cast": lambda x: tf.cast(tf.cast(8 * x, tf.int32), tf.float32),
    "argmax": lambda x: tf.one_hot(tf.argmax(x, -1), 32),
}


class TestDisconnected:
    @pytest.mark.parametrize("where", ["middle", "end"])
    @pytest.mark.parametrize("cut", CUTS)
    def test_operation_of_a_functional_model(self, cut, where):
        """An operation without a gradient is named, and all that is cut off by it."""
        report = explain(between(CUTS[cut], where), *small_digits())
        ((cause, layer),) = problems(report)
        assert cause == "disconnected"
        assert layer.startswith(cut)
        cut_off = ["first"] if where == "middle" else ["first", "second"]
        assert list(report.findings.iloc[0].affects) == cut_off
        for name in cut_off:
            assert root(report, f"{name}/kernel") == root(report, f"{name}/bias") == ("disconnected", layer)

    @pytest.mark.filterwarnings("ignore:Gradients do not exist")
    @pytest.mark.parametrize("where", ["middle", "end"])
    @pytest.mark.parametrize("cut", CUTS)
    def test_of_a_recorded_step(self, cut, where):
        """The same, of a step that trained: there no gradient is read that training does without."""
        report = fitted(between(CUTS[cut], where), *small_digits())
        ((cause, layer),) = problems(report)
        assert cause == "disconnected"
        assert layer.startswith(cut)
        assert (
            list(report.findings.iloc[0].affects) == ["first"] if where == "middle" else ["first", "second"]
        )

    @pytest.mark.parametrize("explained", [explain, fitted], ids=["batch", "recorded step"])
    def test_activation_that_is_a_step(self, explained):
        """A layer whose own activation has a slope of zero everywhere."""
        start = keras.Input((64,))
        model = classifier(start, layers.Dense(32, ops.sign, name="second")(dense(32, "first")(start)))
        report = explained(model, *small_digits())
        assert [layer for _, layer in problems(report)] == ["second"]
        assert root(report, "first/kernel")[1] == root(report, "second/kernel")[1] == "second"
        assert report.layers["p_activation"]["second/kernel"] == 1
        unknown = explained is fitted  # training computes no gradient that such an activation ignores
        assert np.isnan(report.layers["p_backprop"]["second/kernel"]) == unknown

    def test_gradients_that_a_frozen_start_does_without(self):
        """What training computes no gradient of is not said to get none."""
        model = mlp(32, 32, inputs=64)
        first = model.layers[0]
        first.trainable = False
        report = fitted(models.compiled(model), *small_digits())
        assert problems(report) == []
        rows = report.layers[report.layers.layer == first.name]
        assert len(rows) == 2
        assert rows[["p_backprop", "p_activation_backprop"]].isna().all(axis=None)

    @pytest.mark.parametrize("where", ["middle", "end"])
    @pytest.mark.parametrize("cut", RAW_CUTS)
    def test_operation_of_a_subclass(self, cut, where):
        """In a subclass it is said between which layers the operation stands."""
        report = explain(Between(RAW_CUTS[cut], where), *small_digits())
        layer = f"operations before {'second' if where == 'middle' else 'head'}"
        assert problems(report) == [("disconnected", layer)]
        assert root(report, "first/kernel") == ("disconnected", layer)
        assert root(report, "head/kernel") == (None, None) or np.isnan(root(report, "head/kernel")[0])

    def test_argmax_of_a_functional_model(self):
        """The layer behind argmax reads what another layer made, not data."""
        operation = lambda x: ops.one_hot(ops.argmax(x, -1), 32)  # noqa: E731
        assert problems(explain(between(operation), *small_digits())) == [("disconnected", "argmax")]

    @pytest.mark.parametrize("cut", ["stop_gradient", "round"])
    def test_right_before_the_output(self, cut):
        """Behind the last layer an operation cuts all layers off: one finding, and the loss is not blamed."""
        x, y = small_digits()
        model = Between(RAW_CUTS[cut], "output")
        model.compile("adam", "mse")
        report = explain(model, x, np.eye(10, dtype="float32")[y])
        assert problems(report) == [("disconnected", "operations before the output")]
        assert set(report.layers.root_cause) == {"disconnected"}

    def test_branch_that_nothing_reads(self):
        """A branch is named where it ends, a layer that is never called by itself."""

        class Unused(Between):
            def __init__(self):
                self.branch = None
                super().__init__(lambda x: x)

            def call(self, x):
                if self.branch is None:
                    self.branch = [dense(8, "side1"), dense(8, "side2"), dense(8, "never")]
                    self.branch[2].build((None, 8))
                x = self.first(x)
                self.branch[1](self.branch[0](x))
                return self.head(self.second(x))

        report = explain(Unused(), *small_digits())
        assert set(problems(report)) == {("disconnected", "side2"), ("disconnected", "never")}
        assert root(report, "side1/kernel") == ("disconnected", "side2")


class TestUnderflow:
    def report(self, policy, **settings):
        x, y = rows_of_digits()
        x, y = np.concatenate([x] * 3)[:4096], np.concatenate([y] * 3)[:4096, None]
        return trainobs.explain_near_zero_gradients(
            per_row_mlp(policy, **settings), x, np.repeat(y, 8, 1), batch_size=4096
        )

    @pytest.mark.parametrize("model_class", [keras.Sequential, OwnStep])
    def test_float16_without_loss_scaling(self, model_class):
        """Half precision flushes most gradients to zero: one finding, where it begins."""
        report = self.report("mixed_float16", model_class=model_class, auto_scale_loss=False)
        assert problems(report) == [("underflow", "d1")]
        assert root(report, "d0/kernel") == root(report, "d1/kernel") == ("underflow", "d1")
        assert "float16" in evidence(report)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float32"])
    def test_none_with_loss_scaling_or_a_wider_range(self, policy):
        """The same model is healthy with loss scaling, and in types whose numbers reach further down."""
        assert problems(self.report(policy)) == []


class TestAttention:
    def test_tiny_embeddings(self):
        """Scores of tiny embeddings are all alike: query and key learn nothing, and attention is named."""
        report = explain(attention_model(1e-2), *sentences())
        assert problems(report) == [("vanishing", "attention")]
        for weight in ("query/kernel", "key/kernel"):
            assert root(report, weight) == ("vanishing", "attention")

    def test_saturated_scores(self):
        """Huge queries make attention hard: query and key learn nothing."""
        model = attention_model()
        query = model.get_layer("attention")._query_dense
        query.kernel.assign(1e5 * query.kernel)
        report = explain(model, *sentences())
        assert problems(report) == [("vanishing", "attention")]
        assert root(report, "query/kernel") == ("vanishing", "attention")

    @pytest.mark.parametrize(("zero", "told"), [("query", "info"), ("value", "error")])
    def test_zero_kernel(self, zero, told):
        """Where one of the projections is zero, the others' gradients are lost by it; queries will grow, but
        without values the ReLUs behind are off, so that these never do."""
        model = attention_model()
        layer = getattr(model.get_layer("attention"), f"_{zero}_dense")
        layer.kernel.assign(0 * layer.kernel)
        report = explain(model, *sentences())
        (finding,) = report.findings.itertuples()
        assert (finding.severity, finding.cause, finding.layer) == (told, "zero_weights", zero)
        assert root(report, "key/kernel") == ("zero_weights", zero)

    def test_table_near_zero(self):
        """Embeddings near zero are one fault, seen by all that reads them."""
        report = explain(attention_model(1e-3), *sentences())
        assert problems(report) == [("zero_weights", "embed")]
        assert root(report, "value/kernel") == ("zero_weights", "embed")


#: Kind of layer, its gate by name, the columns of its bias (of 16 units), the value, and the cause.
GATES = {
    "LSTM input": (layers.LSTM, "input gate", slice(0, 16), -100.0),
    "LSTM forget": (layers.LSTM, "forget gate", slice(16, 32), -100.0),
    "LSTM candidate": (layers.LSTM, "candidate", slice(32, 48), -100.0),
    "LSTM output": (layers.LSTM, "output gate", slice(48, 64), -100.0),
    "GRU update, closed": (layers.GRU, "update gate", slice(0, 16), 100.0),
    "GRU update, open": (layers.GRU, "update gate", slice(0, 16), -100.0),
    "GRU reset": (layers.GRU, "reset gate", slice(16, 32), -100.0),
}


class TestRecurrent:
    @pytest.mark.parametrize("case", GATES)
    def test_stuck_gate(self, case):
        """A gate that its bias holds is the one finding, and is named; what it multiplies suffers from it."""
        kind, gate, columns, value = GATES[case]
        layer = kind(16, name="rnn")
        model = recurrent(layer)
        set_part(layer.cell.bias, columns, value, row=0 if kind is layers.GRU else None)
        report = explain(model, *rows_of_digits())
        assert problems(report) == informs(report) + problems(report) == [("saturated_activation", "rnn")]
        assert f"the {gate} of rnn" in evidence(report)
        assert "bias" in evidence(report)
        parts = report.parts("rnn").loc["rnn/" + ("gru" if kind is layers.GRU else "lstm") + "_cell/kernel"]
        assert parts.loc[gate].near_zero == 1.0
        assert parts.loc[gate].share_activation > 0.5
        assert set(report.layers.root_cause.dropna()) == {"saturated_activation"}

    def test_nothing_comes_through_time(self):
        """A forget gate of zero before padding loses all that was read before it."""
        x, y = rows_of_digits()
        x = x * (np.arange(8) < 5)[:, None].astype("float32")
        layer = layers.LSTM(16, name="rnn")
        model = recurrent(layer)
        set_part(layer.cell.bias, slice(16, 32), -100.0)
        report = explain(model, x, y)
        assert problems(report) == [("saturated_activation", "rnn")]
        assert "the forget gate of rnn" in evidence(report)
        for weight in ("lstm_cell/kernel", "head/kernel"):
            assert root(report, weight) == ("saturated_activation", "rnn")

    def test_zero_recurrent_kernel(self):
        """A recurrent kernel of zero before padding carries nothing on; without padding it will recover."""
        x, y = rows_of_digits()
        layer = layers.SimpleRNN(16, name="rnn")
        model = recurrent(layer)
        layer.cell.recurrent_kernel.assign(0 * layer.cell.recurrent_kernel)
        assert problems(explain(model, x, y)) == []
        report = explain(model, x * (np.arange(8) < 5)[:, None].astype("float32"), y)
        assert problems(report) == [("zero_weights", "rnn")]
        assert "recurrent kernel" in evidence(report)
        assert root(report, "head/kernel") == ("zero_weights", "rnn")

    def test_unscaled_input(self):
        """Pixels of 0 to 255 saturate the tanh of a SimpleRNN."""
        x, y = rows_of_digits()
        report = explain(recurrent(layers.SimpleRNN(16, name="rnn")), 255 * x, y)
        assert problems(report) == [("unscaled_input", "rnn")]

    def test_saturated_by_its_kernel(self):
        """A huge kernel of a SimpleRNN saturates it."""
        start, layer = keras.Input((8, 8)), layers.SimpleRNN(16, name="rnn")
        model = classifier(start, layer(layers.Dense(16)(start)))
        layer.cell.kernel.assign(300 * layer.cell.kernel)
        report = explain(model, *rows_of_digits())
        assert problems(report) == [("saturated_activation", "rnn")]
        assert report.parts("rnn").off_by_weights.iloc[0] > 0.5

    def test_dead_cell(self):
        """The dead ReLU candidate of an LSTM is the one finding, by its bias."""
        layer = layers.LSTM(16, activation="relu", name="rnn")
        model = recurrent(layer)
        set_part(layer.cell.bias, slice(32, 48), -100.0)
        report = explain(model, *rows_of_digits())
        assert problems(report) == [("dead_activation", "rnn")]
        assert "the candidate of rnn" in evidence(report)
        assert "nan" not in evidence(report)
        assert report.parts("rnn").loc["rnn/lstm_cell/kernel"].loc["candidate"].dead_units == 16
        assert set(report.layers.root_cause.dropna()) == {"dead_activation"}


NORMS = {
    "BatchNormalization": lambda: layers.BatchNormalization(name="norm"),
    "LayerNormalization": lambda: layers.LayerNormalization(name="norm"),
    "GroupNormalization": lambda: layers.GroupNormalization(4, name="norm"),
}


class TestScales:
    @pytest.mark.parametrize("activation", ["relu", "tanh"])
    @pytest.mark.parametrize("kind", NORMS)
    def test_zero_gamma_before_an_activation(self, kind, activation):
        """Gamma of zero takes signal and gradient: the normalisation is named, not the kernel before it."""
        norm = NORMS[kind]()
        model = normalised_cnn(norm, activation)
        norm.gamma.assign(0 * norm.gamma)
        report = explain(model, *small_images())
        assert problems(report) == [("zero_weights", "norm")]
        assert "gamma of norm" in evidence(report)
        for weight in ("conv1/kernel", "norm/gamma", "norm/beta", "conv2/kernel", "head/kernel"):
            assert root(report, weight) == ("zero_weights", "norm")

    @pytest.mark.parametrize("kind", NORMS)
    def test_zero_gamma_behind_an_activation(self, kind):
        """The same where the normalisation follows a layer with an activation of its own."""
        norm = NORMS[kind]()
        model = normalised_mlp(norm)
        norm.gamma.assign(0 * norm.gamma)
        report = explain(model, *small_digits())
        assert problems(report) == [("zero_weights", "norm")]
        for weight in ("first/kernel", "norm/gamma", "second/kernel", "head/kernel"):
            assert root(report, weight) == ("zero_weights", "norm")

    def test_zero_gamma_that_learns(self):
        """With a live beta, gamma of zero gets a gradient itself: it is said, and will grow."""
        norm = layers.BatchNormalization(name="norm")
        model = normalised_mlp(norm)
        norm.gamma.assign(0 * norm.gamma)
        norm.beta.assign(norm.beta + 0.5)
        report = explain(model, *small_digits())
        assert problems(report) == []
        assert informs(report) == [("zero_weights", "norm")]
        assert "will grow" in evidence(report)
        assert root(report, "first/kernel") == ("zero_weights", "norm")

    def test_beta_far_below_zero(self):
        """Beta that kills the ReLU behind it is a dead activation by bias, of the kernel's units."""
        norm = layers.BatchNormalization(name="norm")
        model = normalised_cnn(norm)
        norm.beta.assign(norm.beta - 100.0)
        report = explain(model, *small_images())
        assert problems(report) == [("dead_activation", "conv1")]
        assert "bias of norm 1e+02" in evidence(report)
        for weight in ("conv1/kernel", "norm/gamma", "norm/beta", "conv2/kernel"):
            assert root(report, weight) == ("dead_activation", "conv1")

    def test_scale_of_a_users_layer_that_begins_small(self):
        """It takes the gradient of the branch before it, but learns itself: it is said, and no fault."""

        class Scale(layers.Layer):
            def build(self, shape):
                start = keras.initializers.Constant(1e-6)
                self.gamma = self.add_weight(shape=(shape[-1],), initializer=start, name="gamma")

            def call(self, inputs):
                return inputs * self.gamma

        start = keras.Input((64,))
        hidden = dense(32, "first")(start)
        branch = Scale(name="scale")(dense(32, "second")(hidden))
        report = explain(classifier(start, layers.Add()([hidden, branch])), *small_digits())
        assert problems(report) == []
        assert informs(report) == [("vanishing", "scale")]
        assert "will grow" in evidence(report)

    def test_kernel_larger_than_its_image(self):
        """Most of its weights meet padding only; that is no finding, whatever keeps the others near zero."""
        start = keras.Input((8, 8, 1))
        hidden = layers.Conv2D(8, 3, activation="relu", name="first")(start)
        hidden = layers.MaxPooling2D(3)(hidden)
        hidden = layers.Conv2D(16, 7, padding="same", activation="relu", name="wide")(hidden)
        model = classifier(start, layers.Flatten()(hidden))
        assert problems(explain(model, *small_images())) == []
        head = model.get_layer("head")
        head.kernel.assign(0 * head.kernel)
        assert informs(explain(model, *small_images())) == [("zero_weights", "head")]

    def test_slope_for_inputs_that_are_never_negative(self):
        """A PReLU that meets no negative input has nothing to learn from: by its input, and no fault."""
        start = keras.Input((64,))
        positive = layers.Dense(32, kernel_initializer=keras.initializers.RandomUniform(0, 0.3))
        model = classifier(start, layers.PReLU(name="prelu")(positive(start)))
        report = explain(model, *small_digits())
        assert problems(report) == []
        row = report.layers.loc["prelu/alpha"]
        assert row.near_zero == row.share_input == 1.0
        assert row.root_layer == "prelu"


class TestTables:
    @pytest.mark.parametrize("tokens", [50, 5000])
    def test_rows_that_were_not_looked_up(self, tokens):
        """Rows of tokens that do not occur are near zero by input; that is no finding, however many."""
        x, y = sentences()
        start = keras.Input((12,), dtype="int32")
        embedded = layers.Embedding(tokens, 16, name="embed")(start)
        report = explain(classifier(start, layers.GlobalAveragePooling1D()(embedded)), x, y)
        assert report.findings.empty
        row = report.layers.loc["embed/embeddings"]
        assert row.near_zero >= 1 - 19 / tokens
        assert row.share_input == pytest.approx(1.0)
        assert row.root_cause is None

    def test_zero_table(self):
        """A table of zeros is the cause of what reads it, and of its own."""
        model = text_model(table=0.0)
        report = explain(model, *sentences())
        assert problems(report) == [("zero_weights", "embed")]
        for weight in ("embed/embeddings", "hidden/kernel", "head/kernel"):
            assert root(report, weight) == ("zero_weights", "embed")
        assert "table of embed" in evidence(report)

    @pytest.mark.parametrize("reader", [None, lambda x: layers.LSTM(16)(x)], ids=["mean", "LSTM"])
    def test_padding(self, reader):
        """Padding that is masked is no fault."""
        report = explain(text_model(mask=True, reader=reader), *sentences(padded=True))
        assert problems(report) == []


class TestConvolutions:
    def depthwise(self, units):
        start, depthwise = (
            keras.Input((8, 8, 1)),
            layers.DepthwiseConv2D(3, activation="relu", name="depthwise"),
        )
        hidden = depthwise(layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(start))
        model = classifier(start, layers.Flatten()(layers.Conv2D(8, 1, activation="relu")(hidden)))
        set_part(depthwise.bias, slice(0, units), -100.0)
        return explain(model, *small_images())

    def test_dead_channel_of_a_depthwise_convolution(self):
        """One dead channel of eight is no finding; its row counts it, and its weights are off."""
        report = self.depthwise(1)
        assert problems(report) == []
        units = report.units("depthwise")
        assert units.dead.tolist() == [True] + [False] * 7
        assert units.share_activation[0] > 0.5
        assert units.near_zero[0] == 1.0
        assert units.near_zero[1:].max() < 0.5

    def test_dead_depthwise_convolution(self):
        """All channels dead is one, by the bias."""
        report = self.depthwise(8)
        assert problems(report) == [("dead_activation", "depthwise")]
        for weight in ("conv/kernel", "depthwise/kernel", "depthwise/bias", "head/kernel"):
            assert root(report, weight) == ("dead_activation", "depthwise")

    def test_zero_transposed_convolution(self):
        """A transposed kernel of zeros is one finding, for its bias too."""
        start, up = (
            keras.Input((8, 8, 1)),
            layers.Conv2DTranspose(8, 3, strides=2, activation="relu", name="up"),
        )
        hidden = up(layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(start))
        model = classifier(start, layers.Flatten()(hidden))
        up.kernel.assign(0 * up.kernel)
        report = explain(model, *small_images())
        assert problems(report) == [("zero_weights", "up")]
        for weight in ("conv/kernel", "up/kernel", "up/bias", "head/kernel"):
            assert root(report, weight) == ("zero_weights", "up")


class TestOtherGradients:
    def test_penalty_hides_nothing(self):
        """Large L2 penalties do not hide that the data's gradient has vanished."""
        penalty = keras.regularizers.L2(0.1)
        report = explain(
            mlp(*[32] * 8, inputs=64, activation="sigmoid", kernel_regularizer=penalty), *small_digits()
        )
        assert [cause for cause, _ in problems(report)] == ["vanishing"]
        first = report.layers.iloc[0]
        assert first.near_zero == 1.0
        assert first.share_backprop > 0.5
        assert first.root_cause == "vanishing"

    @pytest.mark.parametrize("how", ["clipnorm", "clipvalue", "global_clipnorm"])
    def test_clipping_of_the_optimizer(self, how):
        """What an optimizer clips is no gradient near zero: gradients are judged before."""
        model = mlp(32, 32, inputs=64)
        model.compile(keras.optimizers.Adam(**{how: 1e-9}), "sparse_categorical_crossentropy")
        assert fitted(model, *small_digits()).findings.empty

    def test_clipping_of_the_step(self):
        """The same where the train step clips."""
        model = OwnStep([keras.Input((64,)), dense(32, "first"), dense(10, "head", "softmax")])
        model.clip = 1e-9
        models.compiled(model)
        assert fitted(model, *small_digits()).findings.empty

    def test_constraint(self):
        """A constraint on kernels is no fault."""
        model = mlp(32, 32, inputs=64, kernel_constraint=keras.constraints.UnitNorm())
        assert fitted(model, *small_digits()).findings.empty


def text_classifier(kind):
    start = keras.Input((12,), dtype="int32")
    return classifier(start, kind(16)(layers.Embedding(20, 32, mask_zero=True)(start)))


def images_to_images():
    x, _ = small_images()
    return x, (x > 0.5).astype("float32")


def three_targets():
    x, y = small_images()
    odd, ink = (y % 2).astype("float32"), x.mean((1, 2, 3))
    return x[:N], {"digit": y[:N], "odd": odd[:N], "ink": ink[:N]}


HEALTHY = {
    "Transformer": lambda: explain(models.transformer(), *sentences()),
    "LSTM with masking": lambda: explain(text_classifier(layers.LSTM), *sentences(padded=True)),
    "GRU with masking": lambda: explain(text_classifier(layers.GRU), *sentences(padded=True)),
    "trained GRU": lambda: explain(
        trained(text_classifier(layers.GRU), *sentences(padded=True), epochs=20), *sentences(padded=True)
    ),
    "trained LSTM over rows": lambda: explain(
        trained(recurrent(layers.LSTM(32)), *rows_of_digits(), epochs=5), *rows_of_digits()
    ),
    "ConvLSTM": lambda: explain(
        classifier(start := keras.Input((4, 8, 8, 1)), layers.Flatten()(layers.ConvLSTM2D(4, 3)(start))),
        np.repeat(small_images()[0][:, None], 4, 1),
        small_images()[1],
        samples=32,
    ),
    "U-Net": lambda: explain(models.unet(), *images_to_images(), samples=64),
    "trained MobileNet": lambda: explain(trained(models.mobile_net(), *small_images()), *small_images()),
    "MobileNet": lambda: explain(models.mobile_net(), *small_images()),
    "residual blocks that start as the identity": lambda: explain(models.residual_cnn(), *small_images()),
    "autoencoder": lambda: explain(
        mlp(32, 8, 32, inputs=64, head="sigmoid", units=64, loss="mse"), small_digits()[0], small_digits()[0]
    ),
    "three outputs": lambda: trainobs.explain_near_zero_gradients(models.three_outputs(), *three_targets()),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy(case):
    """A healthy model has no finding above "info"."""
    report = HEALTHY[case]()
    assert problems(report) == [], report.findings.evidence.tolist()
    assert report.layers.residual.max() < 1e-4


def test_healthy_pair_in_a_loop_of_its_own():
    """A generator and a discriminator that a hand-written loop trains are healthy."""
    generator = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(64, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(64, activation="sigmoid"),
        ]
    )
    discriminator = keras.Sequential(
        [keras.Input((64,)), layers.Dense(64), layers.LeakyReLU(0.2), layers.Dense(1)]
    )
    pairs = [(model, keras.optimizers.Adam(1e-3)) for model in (generator, discriminator)]
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    recorder = trainobs.Recorder(every=1)
    noise = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
    for _ in range(3):
        with recorder.watch(generator, discriminator):
            with tf.GradientTape(persistent=True) as tape:
                real, fake = (
                    discriminator(small_digits()[0][:64]),
                    discriminator(generator(noise, training=True)),
                )
                fooled = loss(tf.ones_like(fake), fake)
                told = loss(tf.ones_like(real), real) + loss(tf.zeros_like(fake), fake)
            gradients = [
                tape.gradient(value, model.trainable_variables)
                for value, (model, _) in zip((fooled, told), pairs, strict=True)
            ]
        for found, (model, optimizer) in zip(gradients, pairs, strict=True):
            optimizer.apply(found, model.trainable_variables)
    report = trainobs.explain_near_zero_gradients(recorder)
    assert problems(report) == []
    assert len(report.layers) == 10
