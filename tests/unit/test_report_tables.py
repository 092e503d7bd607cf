"""The tables of a report as a contract: names of the columns, their order, the index and the dtypes."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import trainobs
from trainobs import Report

FIGURES = ["near_zero", "exact_zero", "gradient_rms"]
LIKELIHOODS = [
    "p_input",
    "p_activation",
    "p_weights",
    "p_backprop",
    "p_backprop_pinv",
    "p_next_gradient",
    "p_input_activation",
    "p_activation_backprop",
]
SHARES = [
    "share_input",
    "share_activation",
    "share_backprop",
    "share_input_activation",
    "share_input_backprop",
    "share_activation_backprop",
    "share_input_activation_backprop",
    "share_cancellation",
]
OFF_BY = ["off_by_input", "off_by_weights", "off_by_bias", "off_by_combination"]

LAYERS = {
    **dict.fromkeys(["layer", "kind", "activation"], "text"),
    "shape": "object",
    **dict.fromkeys(["size", "positions"], "integer"),
    **dict.fromkeys([*FIGURES, "threshold", *LIKELIHOODS, *SHARES], "number"),
    "dead_units": "integer",
    **dict.fromkeys([*OFF_BY, "gain", "pinv_trust", "residual"], "number"),
    **dict.fromkeys(["root_cause", "root_layer"], "text"),
}
UNITS = {
    **dict.fromkeys([*FIGURES, *LIKELIHOODS, *SHARES], "number"),
    "dead": "truth",
    **dict.fromkeys(["off", *OFF_BY], "number"),
}
INPUTS = {"zero": "number", "dead": "truth", "rms": "number", "near_zero": "number"}
FLOW = {
    **dict.fromkeys(["node", "layer", "kind"], "text"),
    **dict.fromkeys(["gradient_rms", "gain", "slope_gain", "kernel_gain", "zero"], "number"),
}
FINDINGS = {
    **dict.fromkeys(["severity", "cause", "layer"], "text"),
    "share": "number",
    "affects": "object",
    **dict.fromkeys(["evidence", "remedy", "weight"], "text"),
    **dict.fromkeys(["value", "threshold"], "number"),
    "proved": "object",
}
ESTIMATE = dict.fromkeys(["pinv_trust", "expected_error", "true_error"], "number")

KINDS = {"f": "number", "i": "integer", "b": "truth"}


def schema(table: pd.DataFrame) -> dict[str, str]:
    """Column by column, in order, what it holds."""
    return {str(name): kind(table[name]) for name in table.columns}


def kind(column: pd.Series) -> str:
    """Numbers are 64 bits wide; text is object or pandas' own string type; objects are the rest."""
    if column.dtype.kind in KINDS:
        assert column.dtype.itemsize == (1 if column.dtype.kind == "b" else 8)
        return KINDS[column.dtype.kind]
    texts = all(isinstance(value, str) for value in column if value is not None and value == value)
    return "text" if texts else "object"


def model_of(*stack: layers.Layer) -> keras.Model:
    """A compiled model of a Dense layer, these, and a linear output."""
    first, head = layers.Dense(4, "relu", name="first"), layers.Dense(2, name="head")
    model = keras.Sequential([keras.Input((5, 3)), first, *stack, layers.Flatten(), head])
    model.compile("sgd", "mse")
    return model


def explained(model: keras.Model, **options) -> Report:
    """Its report on random data."""
    x = np.random.default_rng(0).normal(size=(6, 5, 3))
    return trainobs.explain_near_zero_gradients(model, x, np.ones((6, 2)), **options)


@pytest.fixture(scope="module")
def sick() -> Report:
    """A report with a dead and a frozen layer, and a finding for each."""
    bias = keras.initializers.Constant(-100.0)
    dead = layers.Conv1D(2, 2, activation="relu", bias_initializer=bias, name="dead")
    return explained(model_of(dead, layers.Dense(2, trainable=False, name="frozen")))


@pytest.fixture(scope="module")
def healthy() -> Report:
    """A report without findings."""
    return explained(model_of(layers.Conv1D(3, 2, activation="tanh", name="second")))


def test_layers_table(sick, healthy):
    """A row per weight in the order of the forward pass, indexed by the path of its variable."""
    for report in (sick, healthy):
        table = report.layers
        assert schema(table) == LAYERS
        assert table.index.name == "weight" and table.index.is_unique
    names = ["first", "dead", "frozen", "head"]
    paths = [[name, weight] for name in names for weight in ("kernel", "bias")]
    assert [path.split("/")[-2:] for path in sick.layers.index] == paths
    assert list(sick.layers.layer) == [name for name, _ in paths]
    kernels, biases = sick.layers[::2], sick.layers[1::2]
    assert list(kernels["shape"]) == [(3, 4), (2, 4, 2), (2, 2), (8, 2)]
    assert list(kernels["size"]) == [12, 16, 4, 16]
    assert list(biases["shape"]) == [(4,), (2,), (2,), (2,)]
    assert list(biases["size"]) == [4, 2, 2, 2]
    for rows in (kernels, biases):
        assert list(rows["kind"]) == ["Dense", "Conv1D", "Dense", "Dense"]
        assert list(rows["activation"]) == ["relu", "relu", "linear", "linear"]
        assert list(rows["positions"]) == [30, 24, 24, 6]


def test_kernels_table(sick):
    """The rows of `layers` that signals pass through: no biases."""
    pd.testing.assert_frame_equal(sick.kernels, sick.layers[::2])


def test_fractions_lie_between_0_and_1(sick, healthy):
    """What is a fraction is one, or nan where there is nothing to say."""
    names = ["near_zero", "exact_zero", *LIKELIHOODS, *SHARES, *OFF_BY, "pinv_trust"]
    for report in (sick, healthy):
        values = report.layers[names].to_numpy()
        assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()


def test_figures_of_frozen_weights_are_nan(sick):
    """No gradient is taken of them: near zero and shares say nothing, and their root cause is their layer."""
    rows = sick.layers[sick.layers["layer"] == "frozen"]
    assert len(rows) == 2
    assert rows[[*FIGURES, *SHARES]].isna().all(axis=None)
    assert (rows[["root_cause", "root_layer"]] == "frozen").all(axis=None)


def test_shares_are_nan_where_nothing_is_near_zero(healthy):
    """A kernel without near-zero gradients has nothing to share."""
    row = healthy.kernels.set_index("layer").loc["first"]
    assert row["near_zero"] == 0 and row[SHARES].isna().all()


def test_units_table(sick):
    """A row per unit, with the columns of `layers` where they have meaning."""
    for layer, units in (("first", 4), ("dead", 2), ("frozen", 2), ("head", 2)):
        table = sick.units(layer)
        assert schema(table) == UNITS
        assert table.index.name == "unit" and list(table.index) == list(range(units))
    assert [name for name in UNITS if name not in LAYERS] == ["dead", "off"]
    assert sick.units("dead").dead.all() and (sick.units("dead").off == 1).all()


def test_inputs_table(sick):
    """A row per input channel of the kernel."""
    table = sick.inputs("dead")
    assert schema(table) == INPUTS
    assert table.index.name == "input" and list(table.index) == list(range(4))


def test_flow_table(sick):
    """A row per node from the loss back to the input."""
    assert schema(sick.flow) == FLOW
    assert list(sick.flow.node) == ["head", "flatten", "frozen", "dead", "first"]
    assert list(sick.flow.kind) == ["Dense", "Flatten", "Dense", "Conv1D", "Dense"]
    assert list(sick.flow.index) == list(range(5))


def test_findings_table(sick):
    """A row per root cause, the worst first; `affects` holds names of layers."""
    table = sick.findings
    assert schema(table) == FINDINGS
    assert [tuple(row) for row in table[["severity", "cause", "layer"]].to_numpy()] == [
        ("error", "dead_activation", "dead"),
        ("info", "frozen", "frozen"),
    ]
    assert list(table.index) == [0, 1]
    assert all(isinstance(affects, tuple) for affects in table["affects"])
    assert set(table["affects"][0]) <= set(sick.layers.layer)


def test_findings_of_a_healthy_model_are_an_empty_table(healthy):
    """Without findings the columns are there all the same, and numbers are numbers."""
    assert len(healthy.findings) == 0
    assert list(healthy.findings.columns) == list(FINDINGS)
    assert healthy.findings["share"].dtype == np.float64


def test_weights_view(sick):
    """Arrays of the kernel's shape: truth values, gradients, bits of `Cause`."""
    view = sick.weights("dead")
    assert view.near_zero.shape == view.gradient.shape == view.verdict.shape == (2, 4, 2)
    assert (view.near_zero.dtype, view.verdict.dtype) == (np.bool_, np.uint8)
    assert view.gradient.dtype == np.float64
    assert view["verdict"] is view.verdict
    assert (view.verdict == trainobs.Cause.ACTIVATION).any()


def test_backprop_estimate_table(sick):
    """How good the pseudo-inverse's estimate is, per kernel."""
    assert schema(sick.backprop_estimate) == ESTIMATE
    assert sick.backprop_estimate.index.name == "weight"
    assert list(sick.backprop_estimate.index) == list(sick.kernels.index)


def test_summary_table(sick):
    """The few columns that a reader needs first, a row per kernel."""
    table = sick.summary()
    assert list(table.columns) == [
        "layer", "activation", "shape", "near_zero", "held by", "dead units", "root cause",
    ]  # fmt: skip
    assert list(table["dead units"])[1] == "2 of 2"
    assert list(table["root cause"])[1] == "dead_activation at dead"


def test_layers_can_be_selected(sick):
    """A selection narrows the rows, never the columns."""
    report = explained(model_of(layers.Conv1D(2, 2, name="second")), layers="first")
    assert list(report.layers.layer) == ["first", "first"]
    assert list(report.layers.columns) == list(sick.layers.columns)


def test_a_batch_and_a_pinv_report_have_the_same_columns(sick):
    """Other data and another backprop change figures only."""
    model = model_of(layers.Conv1D(2, 2, name="second"))
    for options in ({"batch_size": 4}, {"backprop": "pinv"}):
        report = explained(model, **options)
        assert schema(report.layers) == LAYERS
        assert schema(report.units("second")) == UNITS
        assert schema(report.flow) == FLOW
