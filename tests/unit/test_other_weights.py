"""Weights of layers that trainobs does not know: a row for each, whatever the layer does with them."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

import trainobs
from trainobs.explanation import LIKELIHOODS, OFF_COLUMNS, SHARES

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)


class Own(layers.Layer):
    """A layer of a user: `used` times what it receives, `unused` never."""

    def build(self, shape):
        """Two weights."""
        self.used = self.add_weight(shape=(shape[-1], 5), initializer="glorot_uniform", name="used")
        self.unused = self.add_weight(shape=(2, 3), initializer="ones", name="unused")

    def call(self, x):
        """A product and a function."""
        return keras.ops.tanh(x @ self.used)


class Squeezing(Own):
    """The same with three outputs."""

    def call(self, x):
        """Some of the columns."""
        return super().call(x)[:, :3]


class Looping(layers.Layer):
    """A layer that uses its weight in every turn of a loop."""

    def build(self, shape):
        """One square weight."""
        self.turned = self.add_weight(shape=(shape[-1], shape[-1]), initializer="orthogonal", name="turned")

    def call(self, x):
        """Three turns, in Python and in the graph."""
        x = keras.ops.tanh(x @ self.turned)
        turn = lambda i, h: (i + 1, keras.ops.tanh(h @ self.turned))  # noqa: E731
        return keras.ops.while_loop(lambda i, h: i < 2, turn, (0, x))[1]


class Nested(layers.Layer):
    """A layer with a sublayer that is known, one that is not, and a weight of its own."""

    def __init__(self, **options):
        """The sublayers."""
        super().__init__(**options)
        self.known, self.own = layers.Dense(5, "relu", name="known"), Own(name="inner")

    def build(self, shape):
        """A weight beside the sublayers."""
        self.known.build(shape)
        self.own.build((shape[0], 5))
        self.gate = self.add_weight(shape=(5,), initializer="ones", name="gate")

    def call(self, x):
        """Both, one behind the other."""
        return self.own(self.known(x)) * self.gate


class OwnModel(keras.Model):
    """A model with a weight of its own."""

    def __init__(self):
        """A known layer."""
        super().__init__()
        self.head = layers.Dense(3, name="head")

    def build(self, shape):
        """A weight of the model."""
        self.shift = self.add_weight(shape=(shape[-1],), initializer="ones", name="shift")
        self.head.build(shape)

    def call(self, x):
        """The shift, then the layer."""
        return self.head(x + self.shift)


def sequential(*stack: layers.Layer) -> keras.Model:
    """A compiled model of these layers and a Dense one."""
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(3, name="head")])
    model.compile("sgd", "mse")
    return model


def only(layer: layers.Layer) -> keras.Model:
    """A compiled model of one layer with three outputs."""
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    return model


def functional() -> keras.Model:
    """A compiled model of two calls of one layer of a user."""
    data, shared = keras.Input((4,)), Looping(name="shared")
    model = keras.Model(data, layers.Dense(3)(shared(data) + shared(2 * data)))
    model.compile("sgd", "mse")
    return model


def subclassed() -> keras.Model:
    """A compiled model with a weight of its own."""
    model = OwnModel()
    model.compile("sgd", "mse")
    model(X)
    return model


MODELS = {
    "own": lambda: sequential(Own(name="own")),
    "own behind another": lambda: sequential(layers.Dense(4, "relu"), Own(name="own")),
    "looping": lambda: sequential(Looping(name="looping")),
    "looping twice": functional,
    "nested": lambda: sequential(Nested(name="nested")),
    "model": subclassed,
    "penalised": lambda: sequential(penalised()),
    "silenced": lambda: silenced(),
    "nothing else": lambda: only(Squeezing(name="own")),
}


def penalised() -> layers.Layer:
    """A layer with a regulariser on its weight."""

    class Penalised(layers.Layer):
        """It scales what it receives."""

        def build(self, shape):
            """One weight."""
            self.scale = self.add_weight(
                shape=(shape[-1],), initializer="ones", regularizer="l2", name="scale"
            )

        def call(self, x):
            """The product."""
            return x * self.scale

    return Penalised(name="penalised")


def silenced() -> keras.Model:
    """Nothing comes back to the layers before the head, whose kernel is zero."""
    model = sequential(layers.Dense(4, name="first"), Own(name="own"))
    model.get_layer("head").kernel.assign(np.zeros((5, 3)))
    return model


every_model = pytest.mark.parametrize("name", MODELS)


def tape_gradients(model: keras.Model) -> dict[str, np.ndarray | None]:
    """By path, what a tape says about the loss without penalties; None where it says nothing."""
    with tf.GradientTape() as tape:
        loss = keras.ops.mean((model(X, training=True) - Y) ** 2)
    values = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    paths = (variable.path for variable in model.trainable_variables)
    return {p: None if g is None else g.numpy() for p, g in zip(paths, values, strict=True)}


def explained(model: keras.Model) -> trainobs.Report:
    """Its report."""
    return trainobs.explain_near_zero_gradients(model, X, Y)


def row_of(table: pd.DataFrame, weight: str) -> pd.Series:
    """The row of the weight of this name."""
    return table.loc[next(path for path in table.index if path.endswith(f"/{weight}"))]


@every_model
def test_every_trainable_weight_has_a_row(name):
    """The rows of the layers table are the model's trainable weights, each once."""
    model = MODELS[name]()
    table = explained(model).layers
    assert table.index.is_unique
    assert set(table.index) == {variable.path for variable in model.trainable_variables}
    shapes = {variable.path: tuple(variable.shape) for variable in model.trainable_variables}
    assert table["shape"].to_dict() == shapes
    assert table["size"].to_dict() == {path: np.prod(shape) for path, shape in shapes.items()}


@every_model
def test_gradient_rms_is_that_of_the_tape(name):
    """gradient_rms is the root mean square of the tape's gradient, without the weight's own penalty."""
    model = MODELS[name]()
    table = explained(model).layers
    for path, gradient in tape_gradients(model).items():
        expected = 0.0 if gradient is None else np.sqrt(np.mean(gradient.astype(float) ** 2))
        assert table.loc[path, "gradient_rms"] == pytest.approx(expected, rel=1e-5, abs=1e-7), path


@every_model
def test_near_zero_and_exact_zero_are_those_of_the_tape(name):
    """near_zero holds every weight's gradient against the row's threshold; exact_zero counts zeros."""
    model = MODELS[name]()
    report = explained(model)
    others = report.layers.loc[list(report.statistics.others)]
    assert len(others) or name == "known"
    for path, gradient in tape_gradients(model).items():
        if path in others.index and gradient is not None:
            row = others.loc[path]
            assert row["near_zero"] == pytest.approx(np.mean(np.abs(gradient) <= row["threshold"])), path
            if name != "penalised":  # the penalty is taken away again, which leaves rounding
                assert row["exact_zero"] == pytest.approx(np.mean(gradient == 0)), path


@every_model
def test_the_threshold_is_that_of_a_weight_with_a_term_per_sample(name):
    """rtol · g* / √N."""
    report = explained(MODELS[name]())
    others = report.layers.loc[list(report.statistics.others)]
    np.testing.assert_allclose(others["threshold"], 1e-3 * report.gradient_scale / np.sqrt(len(X)))
    assert (others["positions"] == len(X)).all()


@every_model
def test_what_is_not_known_of_them_is_nan(name):
    """How such a weight meets its input is not known, so neither are terms, units or pseudo-inverse."""
    report = explained(MODELS[name]())
    others = report.layers.loc[list(report.statistics.others)]
    unknown = [*LIKELIHOODS, *OFF_COLUMNS, "gain", "pinv_trust", "residual"]
    assert others[unknown].isna().all(axis=None)
    assert (others["dead_units"] == 0).all() and (others["activation"] == "").all()


@every_model
def test_shares_sum_to_1_or_are_nan(name):
    """Either a cause of the whole layer is known, or nothing is said."""
    shares = explained(MODELS[name]()).layers[list(SHARES)]
    known = shares.notna().all(axis=1)
    assert shares[~known].isna().all(axis=None)
    np.testing.assert_allclose(shares[known].sum(axis=1), 1)


@every_model
def test_all_views_of_the_report_work(name):
    """Text, summary, HTML, flow and findings know no layer that they cannot show."""
    report = explained(MODELS[name]())
    assert repr(report) and report._repr_html_() and len(report.flow)
    assert len(report.summary()) == len(report.kernels)
    assert set(report.findings["layer"]) <= {*report.flow["layer"], *report.layers["layer"], "loss"}


def test_weights_belong_to_their_innermost_layer():
    """A row is of the layer that made the weight, and names its class."""
    table = explained(sequential(Nested(name="nested"))).layers
    rows = {path.split("/")[-1]: row for path, row in table.iterrows() if "head" not in path}
    assert {name: row["layer"] for name, row in rows.items()} == {
        "kernel": "known",
        "bias": "known",
        "used": "inner",
        "unused": "inner",
        "gate": "nested",
    }
    assert rows["used"]["kind"] == "Own" and rows["gate"]["kind"] == "Nested"


def test_a_known_layer_within_an_unknown_one_is_explained_as_ever():
    """A Dense layer in a user's layer has figures of its terms."""
    report = explained(sequential(Nested(name="nested")))
    row = report.kernels.set_index("layer").loc["known"]
    assert row["residual"] < 1e-5 and 0 <= row["p_activation"] <= 1
    assert len(report.units("known")) == 5


def test_backprop_is_the_cause_where_nothing_arrives():
    """A layer to which no gradient comes back has that for its cause, all of it."""
    table = explained(silenced()).layers
    row = row_of(table, "used")
    assert row["near_zero"] == row["exact_zero"] == 1
    assert row["share_backprop"] == 1


def test_input_is_the_cause_where_nothing_is_received():
    """A layer that receives only zeros has that for its cause."""
    model = sequential(layers.Dense(4, name="first"), Own(name="own"))
    model.get_layer("first").kernel.assign(np.zeros((4, 4)))
    table = explained(model).layers
    row = row_of(table, "used")
    assert row["near_zero"] == 1 and row["share_input"] == 1


@pytest.mark.parametrize("name", ["own", "own behind another", "nested", "silenced"])
def test_a_weight_that_the_tape_does_not_reach_is_disconnected(name):
    """Its gradient is None to the tape; the root cause says so, and a finding names the layer."""
    model = MODELS[name]()
    report = explained(model)
    nothing = [path for path, gradient in tape_gradients(model).items() if gradient is None]
    assert len(nothing) == 1 and nothing[0].endswith("/unused")
    row = report.layers.loc[nothing[0]]
    assert row["near_zero"] == row["exact_zero"] == 1 and row["gradient_rms"] == 0
    assert (row["root_cause"], row["root_layer"]) == ("disconnected", row["layer"])
    found = report.findings.set_index("cause")
    assert "disconnected" in found.index
    disconnected = found.loc[["disconnected"]]
    assert row["layer"] in set(disconnected["layer"]) | {
        n for names in disconnected["affects"] for n in names
    }


def test_what_is_reached_is_not_disconnected():
    """A layer's other weights are not called so."""
    table = explained(sequential(Own(name="own"))).layers
    used = row_of(table, "used")
    assert used["root_cause"] != "disconnected"


def test_frozen_weights_have_no_row():
    """A weight that is not trained is no trainable weight."""
    own = Own(name="own", trainable=False)
    table = explained(sequential(own)).layers
    own_rows = table[table["layer"] == "own"]
    assert own_rows.empty or own_rows[["near_zero", "gradient_rms", *SHARES]].isna().all(axis=None)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # Keras says so of every fit
@pytest.mark.parametrize("keep", ["tensors", "statistics"])
@pytest.mark.parametrize("name", ["own", "looping twice", "nested", "model"])
def test_a_recording_says_the_same(name, keep, tmp_path):
    """A step that was recorded has the same rows, kept as tensors or statistics; tensors also from a file."""
    model = MODELS[name]()
    gradients = tape_gradients(model)
    recorder = trainobs.Recorder(at=[0], keep=keep)
    model.fit(X, Y, batch_size=len(X), shuffle=False, verbose=0, callbacks=[recorder])
    recordings = [recorder.recording]
    if keep == "tensors":
        recorder.recording.save(tmp_path / "run.safetensors")
        recordings.append(trainobs.Recording.load(tmp_path / "run.safetensors"))
    for recording in recordings:
        table = trainobs.explain_near_zero_gradients(recording).layers
        assert set(table.index) == set(gradients)
        for path, gradient in gradients.items():
            expected = 0.0 if gradient is None else np.sqrt(np.mean(gradient.astype(float) ** 2))
            assert table.loc[path, "gradient_rms"] == pytest.approx(expected, rel=1e-4, abs=1e-7), path


@every_model
def test_batches_add_up(name):
    """In batches of 2 the gradient is that of the mean loss over all data."""
    model = MODELS[name]()
    whole, batched = explained(model), trainobs.explain_near_zero_gradients(model, X, Y, batch_size=2)
    columns = ["near_zero", "gradient_rms", "threshold", "positions", "size"]
    np.testing.assert_allclose(
        batched.layers[columns].to_numpy(float), whole.layers[columns].to_numpy(float), rtol=1e-4, atol=1e-8
    )


def test_selected_layers():
    """A selection keeps and leaves out layers of unknown kind like any other."""
    model = sequential(Own(name="own"))
    only = trainobs.explain_near_zero_gradients(model, X, Y, layers="own").layers
    assert set(only["layer"]) == {"own"} and len(only) == 2
    path = trainobs.explain_near_zero_gradients(model, X, Y, layers=f"{model.name}/head").layers
    assert list(path["layer"]) == ["head", "head"]
    rest = trainobs.explain_near_zero_gradients(model, X, Y, layers="head").layers
    assert set(rest["layer"]) == {"head"}
