"""A second look at a batch: where gradients end and values break, to the line; and nothing is left of it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture.test_nothing_left import assert_untouched, surface
from trainobs.capture import second_look

X = np.random.default_rng(0).normal(size=(16, 6, 4)).astype("float32")
Y = X.mean((1, 2))[:, None]


class Cell(keras.layers.Layer):
    """A recurrent cell whose output is a function of what it added up."""

    def __init__(self, put_out, **options):
        super().__init__(**options)
        self.state_size = self.output_size = 8
        self.put_out = put_out

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1], 8))

    def call(self, x, states):
        added = 0.5 * states[0] + x @ self.w
        return self.put_out(added), [added]


def spikes(v):
    return tf.cast(v > 0, tf.float32)


def stopped(v):
    return tf.stop_gradient(v)


def off(v):
    return tf.nn.relu(v - 100.0)


def rounded(v):
    return tf.round(v)


def recurrent(put_out, unroll=False):
    cell = Cell(put_out, name="cell")
    rnn = keras.layers.RNN(cell, unroll=unroll, name="rnn")
    model = keras.Sequential([keras.Input((6, 4)), rnn, keras.layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    return model


def looked(model, x=X, y=Y):
    look = second_look(model, x, y, None)
    assert look is not None
    return look


def path_of(model, layer):
    return next(v.path for v in model.trainable_variables if f"/{layer}/" in f"/{v.path}")


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize(
    ("put_out", "kind", "operation", "code"),
    [
        (spikes, "cut", "Greater", "return tf.cast(v > 0, tf.float32)"),
        (stopped, "cut", "StopGradient", "return tf.stop_gradient(v)"),
        (rounded, "cut", "Round", "return tf.round(v)"),
        (off, "zero", "Relu", "return tf.nn.relu(v - 100.0)"),
    ],
    ids=["comparison", "stop_gradient", "rounding", "dead"],
)
def test_a_gradient_ends_inside_of_a_loop(put_out, kind, operation, code, unroll):
    """The operation and line of the user's, whether the loop is one of the graph or of Python."""
    model = recurrent(put_out, unroll)
    ending = looked(model).ending(path_of(model, "cell"))
    assert (ending.kind, ending.place.operation, ending.place.code) == (kind, operation, code)
    assert ending.place.layer == "cell"
    assert ending.place.file == __file__


def test_a_gradient_that_arrives_has_no_ending():
    """Nothing is said of a weight that learns."""
    model = recurrent(tf.tanh)
    assert looked(model).ending(path_of(model, "cell")) is None
    assert looked(model).broken() is None


class Scaled(keras.layers.Layer):
    """An operation of TensorFlow's is given the variable itself."""

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="glorot_uniform")

    def call(self, x):
        return tf.round(tf.multiply(self.w, x))


def test_a_weight_that_an_operation_reads_by_itself():
    """It is not taken for one that is never read."""
    model = keras.Sequential([keras.Input((4,)), Scaled(name="scaled"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    ending = looked(model, X[:, 0]).ending(path_of(model, "scaled"))
    assert (ending.kind, ending.place.operation) == ("cut", "Round")


class Branches(keras.Model):
    """One of two layers, chosen for each sample."""

    def __init__(self):
        super().__init__()
        self.used, self.never = keras.layers.Dense(1, name="used"), keras.layers.Dense(1, name="never")

    def build(self, shape):
        self.used.build(shape)
        self.never.build(shape)

    def call(self, x):
        def one(row):
            return tf.cond(
                tf.reduce_sum(row) > -1e9, lambda: self.used(row[None]), lambda: self.never(row[None])
            )

        return tf.map_fn(one, x)[:, 0]


def test_a_branch_that_no_sample_takes():
    """Its weights are never read."""
    model = Branches()
    model.build((None, 4))
    model.compile("adam", "mse")
    assert looked(model, X[:, 0]).ending(path_of(model, "never")).kind == "never"
    (found,) = trainobs.explain_near_zero_gradients(model, X[:, 0], Y).findings.itertuples()
    assert (found.severity, found.cause, found.layer) == ("warning", "disconnected", "never")
    assert "in a branch that no sample took" in found.evidence


def ranks(target, prediction):
    order = tf.argsort(prediction)
    return tf.reduce_sum(tf.abs(target - tf.cast(order, tf.float32)))


def test_a_gradient_ends_in_the_loss():
    """Operations behind the last layer are known too."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="scores")])
    model.compile("adam", ranks)
    (found,) = trainobs.explain_near_zero_gradients(model, X[:, 0], X[:, 1, :3]).findings.itertuples()
    assert (found.cause, found.layer) == ("disconnected", "scores")
    assert "test_inside.py" in found.evidence and "`order = tf.argsort(prediction)`" in found.evidence


class RootNorm(keras.layers.Layer):
    """Divides by a norm, of which some are exactly zero."""

    def call(self, x):
        some = tf.cast(tf.range(tf.shape(x)[0])[:, None] % 2, tf.float32)
        norm = tf.sqrt(tf.reduce_sum(x * x, -1, keepdims=True) * some)
        return x / (1e-3 + norm)


def logs_of(x):
    return tf.math.log(x)


def log_where(x):
    logs = tf.math.log(x)
    return tf.where(x > 0, logs, tf.zeros_like(x))


@pytest.mark.parametrize(
    ("culprit", "direction", "operation", "code"),
    [
        (RootNorm(name="culprit"), "gradient", "Sqrt", "norm = tf.sqrt("),
        (keras.layers.Lambda(log_where, output_shape=(8,), name="culprit"), "gradient", "Log", "logs = "),
        (
            keras.layers.Lambda(lambda x: tf.math.log(x), output_shape=(8,), name="culprit"),
            "output",
            "Log",
            "(",
        ),
        (keras.layers.Lambda(tf.sqrt, output_shape=(8,), name="culprit"), "gradient", "Sqrt", ""),
    ],
    ids=["own norm", "log under where", "log", "no line"],
)
def test_what_made_nan(culprit, direction, operation, code):
    """The operation that makes it of finite values, forward or backward, and its layer."""
    first = keras.layers.Dense(8, "relu", name="first")
    between = keras.layers.Dropout(0.0, name="between")
    model = keras.Sequential([keras.Input((4,)), first, between, culprit, keras.layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    broken = looked(model, X[:, 0]).broken()
    assert (broken.direction, broken.place.operation, broken.place.layer) == (direction, operation, "culprit")
    assert code in broken.place.code
    report = trainobs.explain_near_zero_gradients(model, X[:, 0], Y)
    (found,) = report.findings.itertuples()
    assert (found.cause, found.layer) == ("non_finite", "culprit")
    assert operation in found.evidence
    assert report.remedies().empty


class Gate(keras.layers.Layer):
    """A layer of unknown kind that is off."""

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1], 8))

    def call(self, x):
        return tf.nn.relu(x @ self.w - 50.0)


def test_what_made_the_zeros_that_a_layer_reads():
    """Not the data, but the layer before it: one finding for both."""
    model = keras.Sequential([keras.Input((4,)), Gate(name="gate"), keras.layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    (found,) = trainobs.explain_near_zero_gradients(model, X[:, 0], Y).findings.itertuples()
    assert (found.cause, found.layer, found.affects) == ("masked", "gate", ("out",))
    assert "`return tf.nn.relu(x @ self.w - 50.0)`" in found.evidence


def test_zeros_in_the_data_are_made_by_no_operation():
    """Also where operations hand them on."""
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.Flatten(), keras.layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    assert looked(model, 0 * X).zeros_from("out") is None


class Between(keras.Model):
    """Plain operations between two layers."""

    def __init__(self, operation):
        super().__init__()
        self.first, self.last = (
            keras.layers.Dense(8, "tanh", name="first"),
            keras.layers.Dense(1, name="last"),
        )
        self.operation = operation

    def call(self, x):
        return self.last(self.operation(self.first(x)))


def shrunk(x):
    shifted = x + 1.0
    small = 1e-4 * shifted
    return 2.0 * small + 1.0


@pytest.mark.parametrize(
    ("operation", "cause", "told"),
    [
        (rounded, "disconnected", "The gradient ends at Round in test_inside.py"),
        (shrunk, "vanishing", "`small = 1e-4 * shifted`"),
        (
            lambda x: tf.nn.softmax(tf.reduce_sum(x, -1, keepdims=True)),
            "constant_output",
            "is over one element",
        ),
    ],
    ids=["cut", "drop", "one element"],
)
def test_operations_between_layers(operation, cause, told):
    """What takes the gradient there is told with its line."""
    model = Between(operation)
    model.compile("adam", "mse")
    report = trainobs.explain_near_zero_gradients(model, X[:, 0], Y)
    (found,) = report.findings.query("cause == @cause").itertuples()
    assert found.layer == "operations before last"
    assert told in found.evidence
    assert "first" in found.affects


# ---- attention that has nothing to choose ----------------------------------------------------------


def attending(mask=None, times=6, **options):
    """Attention to the time steps of a token stream, or to a part of them; its values are live."""
    start = keras.Input((times, 4))
    tokens = keras.layers.Dense(8, name="tokens")(start)
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention", **options)
    attended = attention(tokens, tokens, attention_mask=mask)
    pooled = keras.layers.GlobalAveragePooling1D(name="pool")(tokens + attended)
    model = keras.Model(start, keras.layers.Dense(1, name="out")(pooled))
    model.compile("adam", "mse")
    return model


FIRST_ONLY = np.broadcast_to(np.arange(6) == 0, (16, 6, 6))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"times": 1}, "is over one element"),
        ({"mask": FIRST_ONLY}, "a mask leaves one element"),
        ({"mask": FIRST_ONLY, "dropout": 0.1}, "a mask leaves one element"),
        ({"mask": 0 * FIRST_ONLY}, "a mask covers whole"),
    ],
    ids=["one token", "one left", "one left, dropout", "none left"],
)
def test_attention_that_has_nothing_to_choose(options, told):
    """Only queries and keys are held, which is no error of the whole; values and outputs learn."""
    model = attending(**options)
    x = X[:, : model.input_shape[1]]
    report = trainobs.explain_near_zero_gradients(model, x, Y)
    (found,) = report.findings.itertuples()
    assert (found.severity, found.cause, set(found.affects)) == (
        "warning",
        "constant_output",
        {"query", "key"},
    )
    assert told in found.evidence
    live = report.layers.query("root_cause.isna()").layer
    assert {"tokens", "value", "attention_output", "out"} <= set(live)


def test_attention_that_may_choose():
    """With two elements left, and with scores so large that they choose one."""
    two = np.broadcast_to(np.arange(6) < 2, (16, 6, 6))
    assert not len(trainobs.explain_near_zero_gradients(attending(two), X, Y).findings)
    model = attending()
    query = model.get_layer("attention").query_dense
    query.kernel.assign(1e7 * query.kernel)
    assert "constant_output" not in set(trainobs.explain_near_zero_gradients(model, X, Y).findings.cause)


def test_a_recording_shows_attention_to_one_token():
    """Without a model at hand, by what makes the keys."""
    recorder = trainobs.Recorder(at=[0])
    attending(times=1).fit(X[:, :1], Y, batch_size=16, verbose=0, callbacks=[recorder])
    (found,) = trainobs.explain_near_zero_gradients(recorder).findings.itertuples()
    assert (found.cause, found.layer) == ("constant_output", "attention")


# ---- gradients of gradients ----------------------------------------------------------------------


class Equation(keras.Sequential):
    """Learns a function whose second derivative is given, and its value at the border."""

    def __init__(self, activation, border):
        hidden = [keras.layers.Dense(8, activation, name=f"h{n}") for n in range(2)]
        super().__init__([keras.Input((1,)), *hidden, keras.layers.Dense(1, name="u")])
        self.border = border

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as second:
                second.watch(x)
                with tf.GradientTape() as first:
                    first.watch(x)
                    u = self(x)
                slope = first.gradient(u, x)
            bend = second.gradient(slope, x)
            loss = tf.reduce_mean((bend + tf.sin(x)) ** 2)
            if self.border:
                loss += tf.reduce_mean((self(x[:2]) - y[:2]) ** 2)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


LINE = np.linspace(-1, 1, 16, dtype="float32")[:, None]


@pytest.mark.parametrize("border", [True, False], ids=["border", "inside only"])
def test_an_equation_that_a_smooth_network_can_learn(border):
    """Its terms do not add up, which is no finding: that a bias at the end has no gradient is no cut."""
    model = Equation("tanh", border)
    model.compile("adam")
    assert trainobs.explain_near_zero_gradients(model, LINE, np.sin(LINE)).findings.empty


@pytest.mark.parametrize(("border", "severity"), [(True, "warning"), (False, "error")])
def test_the_second_derivative_of_relu_is_zero(border, severity):
    """Said with the line that takes it, whether or not another part of the loss sends gradients."""
    model = Equation("relu", border)
    model.compile("adam")
    (found,) = trainobs.explain_near_zero_gradients(model, LINE, np.sin(LINE)).findings.itertuples()
    assert (found.severity, found.cause, found.layer) == (severity, "disconnected", "u")
    assert "the second derivative of relu is 0" in found.evidence
    assert "`bend = second.gradient(slope, x)`" in found.evidence


@pytest.mark.parametrize("compiled", [True, False], ids=["graph", "eager"])
def test_a_gradient_penalty_is_told_apart(compiled):
    """In a loop of the user's: a warning for no layer, though terms do not add up."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    recorder, x = trainobs.Recorder(every=1), tf.constant(X[:, 0])

    def step():
        with recorder.watch(model):
            with tf.GradientTape() as tape:
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    prediction = model(x)
                slopes = inner.gradient(prediction, x)
                penalty = tf.reduce_mean((tf.norm(slopes, axis=1) - 1) ** 2)
                loss = tf.reduce_mean((prediction - Y) ** 2) + penalty
            tape.gradient(loss, model.trainable_variables)

    (tf.function(step) if compiled else step)()
    report = trainobs.explain_near_zero_gradients(recorder)
    assert report.kernels["residual"].max() > 1e-2
    assert report.findings.empty


# ---- its costs, and what is left -----------------------------------------------------------------


def test_a_healthy_model_is_not_looked_at_again(monkeypatch):
    """Only a finding asks for a second look."""
    looks = []
    monkeypatch.setattr(trainobs.capture, "second_look", lambda *given: looks.append(given))
    assert trainobs.explain_near_zero_gradients(recurrent(tf.tanh), X, Y).findings.empty
    assert not looks
    trainobs.explain_near_zero_gradients(recurrent(spikes), X, Y)
    assert len(looks) == 1


def test_nothing_is_left():
    """Weights, optimizer, random states and every method are as they were."""
    keras.utils.set_random_seed(1)
    model = recurrent(lambda v: spikes(v + tf.random.normal(tf.shape(v)) * np.random.normal()))
    model.fit(X, Y, verbose=0)
    before = surface(model)
    values = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    states = random.getstate(), np.random.get_state()[1].copy()
    tf.random.set_seed(1)
    second_look(model, X, Y, None)
    assert np.array_equal(tf.random.normal((2,)), _first_draw())
    assert_untouched(before, model)
    for value, variable in zip(values, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert not tf.config.functions_run_eagerly()


def _first_draw():
    tf.random.set_seed(1)
    return tf.random.normal((2,))


class NeedsGraph(keras.Sequential):
    """A model whose step runs in a graph only."""

    def train_step(self, data):
        assert tf.inside_function()
        return super().train_step(data)


def test_a_step_that_needs_a_graph_is_not_looked_at():
    """Then it is said what is known without."""
    cut = keras.layers.Lambda(tf.round, output_shape=(3,), name="round")
    model = NeedsGraph([keras.Input((4,)), keras.layers.Dense(3), cut, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    assert second_look(model, X[:, 0], Y, None) is None
    (found,) = trainobs.explain_near_zero_gradients(model, X[:, 0], Y).findings.itertuples()
    assert (found.cause, found.layer) == ("disconnected", "round")
