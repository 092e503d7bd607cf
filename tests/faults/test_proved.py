"""Findings are proved on the batch itself: planted faults come back, wrong blame does not."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from trainobs.capture import try_out
from trainobs.counterfactuals import (
    Counterfactual,
    FreshWeights,
    ScaledInput,
    ShiftedInput,
    StandardisedPreactivation,
    TriedOut,
    Untried,
)
from trainobs.mechanisms import Mechanism, unregister_mechanism

HIDDEN = ("h1", "h2", "h3", "h4")


def stack(activation: str = "relu", **options) -> keras.Model:
    """Four hidden layers of 32 units and ten classes."""
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(32, activation, name=name, **options) for name in HIDDEN]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(10, "softmax", name="out")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def batch() -> tuple[np.ndarray, np.ndarray]:
    """256 samples of standardised data."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(256, 16)).astype("float32"), rng.integers(0, 10, 256)


def near_zero(model: keras.Model, x: np.ndarray, y: np.ndarray, *changes: Counterfactual) -> float:
    """Part of all kernels' gradients that are near zero with these changes."""
    run = try_out(model, (x, y, None), changes)
    assert isinstance(run, TriedOut)
    square, size = run.outputs[0]
    limit = 1e-3 * max(np.sqrt(square * size / 10), 1e-3) / np.sqrt(10) / np.sqrt(len(x))
    kernels = [g for path, g in run.gradients.items() if path.endswith("kernel") and g is not None]
    return float(np.mean(np.abs(np.concatenate([kernel.reshape(-1) for kernel in kernels])) <= limit))


# ---- the four faults of the design: the change helps at its place, and nowhere else ----------------


def test_a_layer_that_is_off_by_its_bias():
    """Standardised preactivations bring gradients back where the bias is, and nowhere else."""
    (x, y), model = batch(), stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    before = near_zero(model, x, y)
    after = {name: near_zero(model, x, y, StandardisedPreactivation(name)) for name in HIDDEN}
    assert before == 1.0
    assert after.pop("h2") < 0.5
    assert set(after.values()) == {1.0}


def test_a_kernel_of_zeros():
    """A fresh kernel brings gradients back where it was zero, and nowhere else."""
    (x, y), model = batch(), stack("tanh")
    model.get_layer("h2").kernel.assign(np.zeros((32, 32)))
    before = near_zero(model, x, y)
    fresh = {name: FreshWeights(name, (model.get_layer(name).kernel.path,), 0.25) for name in HIDDEN[1:]}
    after = {name: near_zero(model, x, y, change) for name, change in fresh.items()}
    assert before > 0.7  # all but the kernel itself
    assert after.pop("h2") < 0.5 * before
    assert min(after.values()) > 0.99 * before


def test_equal_negative_weights():
    """Units that are off by equal weights are on with a standardised preactivation."""
    (x, y), model = batch(), stack()
    model.get_layer("h2").kernel.assign(np.full((32, 32), -0.5))
    assert near_zero(model, x, y) > 0.9
    assert near_zero(model, x, y, StandardisedPreactivation("h2")) < 0.4


def test_input_on_one_side_of_zero():
    """It is the shift that does it: a layer with ReLU does not depend on the scale."""
    (_, y), model = batch(), stack()
    x = np.random.default_rng(1).uniform(0.4, 25, (256, 16)).astype("float32")
    model.get_layer("h1").kernel.assign(-np.abs(model.get_layer("h1").kernel.numpy()))
    before = near_zero(model, x, y)
    assert before > 0.9
    assert near_zero(model, x, y, ScaledInput("h1")) == before
    assert near_zero(model, x, y, ShiftedInput("h1")) < 0.3


# ---- findings ------------------------------------------------------------------------------------


def explained(model: keras.Model, **options) -> trainobs.Report:
    """The report on a batch."""
    return trainobs.explain_near_zero_gradients(model, *batch(), **options)


def test_a_proved_finding_says_what_was_done():
    """The column, and the last sentence of the evidence."""
    model = stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    report = explained(model)
    (finding,) = report.findings.to_dict("records")
    assert finding["proved"] is True
    assert "With the preactivation of h2 standardised, " in finding["evidence"]
    assert "of these gradients return" in finding["evidence"]
    assert "[error] dead_activation at h2 (more than 99% of all weights, proved)" in repr(report)
    assert ">proved</span>" in report._repr_html_()


@pytest.mark.parametrize("backprop", ["tape", "pinv"])
def test_nothing_is_tried_without_a_model(backprop):
    """A recording and an estimate have no batch to run again."""
    model = stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    recorder = trainobs.Recorder(at=[0], keep="tensors")
    model.fit(*batch(), batch_size=256, callbacks=[recorder], verbose=0)
    findings = trainobs.explain_near_zero_gradients(recorder, backprop=backprop).findings
    assert set(findings.proved) == {None}


def test_two_layers_that_are_off_are_proved_together():
    """Neither change is enough alone, and none of the two can be left out."""
    model = stack()
    for name in ("h2", "h4"):
        model.get_layer(name).bias.assign(np.full(32, -100.0))
    findings = explained(model).findings
    (finding,) = findings.to_dict("records")
    assert (finding["cause"], finding["layer"], finding["proved"]) == ("dead_activation", "h2", True)
    told = "With the preactivation of h2 standardised and the preactivation of h4 standardised, more"
    assert told in finding["evidence"]
    assert finding["evidence"].endswith("without the first, none.")


@pytest.fixture
def wrong_blame():
    """A mechanism that blames a healthy layer."""

    @dataclasses.dataclass(frozen=True)
    class Blamed(Mechanism):
        """A layer that did nothing."""

        cause = "blamed"

        @classmethod
        def seen(cls, case):
            """Always."""
            yield cls("h3")

        def evidence(self) -> str:
            """None."""
            return "h3 looks odd."

        def advice(self) -> str:
            """None."""
            return "Ask somebody else."

        def counterfactual(self, case):
            """The layer is standardised."""
            return StandardisedPreactivation("h3")

    yield Blamed
    unregister_mechanism(Blamed)


def test_a_wrong_cause_gives_way_to_the_right_one(wrong_blame):
    """What the change does not bring back is held by another finding."""
    model = stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    findings = explained(model).findings
    assert list(findings.cause) == ["dead_activation"]
    assert list(findings.layer) == ["h2"]


def test_a_wrong_cause_without_another_is_unexplained(wrong_blame, monkeypatch):
    """Better than a wrong cause: what was seen, and what the trial said."""
    # nothing else is looked for
    monkeypatch.setattr("trainobs.diagnosis._walk.Walk.from_lost_gradients", lambda walk: {})
    monkeypatch.setattr("trainobs.diagnosis._walk.Walk.from_suspects", lambda walk, seen: [])
    model = stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    (finding,) = explained(model).findings.to_dict("records")
    assert (finding["cause"], finding["layer"], finding["proved"]) == ("unexplained", "h3", None)
    assert "It looked like blamed, which a trial on this batch refutes." in finding["evidence"]
    assert "h3 looks odd." in finding["evidence"]


def test_what_cant_be_changed_says_why():
    """A gradient that the tape does not have needs no trial."""
    keras.utils.set_random_seed(0)
    cut = layers.Lambda(keras.ops.stop_gradient, name="cut")
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, name="h"), cut, layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = batch()
    finding = trainobs.explain_near_zero_gradients(model, x, y[:, None]).findings.iloc[0]
    assert (finding.cause, finding.proved) == ("disconnected", None)
    assert finding.evidence.endswith("Not tried: the tape itself has no gradient here.")


def test_a_healthy_model_is_not_run_again(monkeypatch):
    """Its report costs nothing more."""
    monkeypatch.setattr("trainobs.capture.try_out", lambda *args: pytest.fail("it was"))
    assert explained(stack()).findings.empty


def test_a_finding_costs_one_run(monkeypatch):
    """The batch with the change; as it was, it is what is reported."""
    runs = []

    def counted(*args):
        runs.append(args[-1])
        return try_out(*args)

    monkeypatch.setattr("trainobs.capture.try_out", counted)
    model = stack()
    model.get_layer("h2").bias.assign(np.full(32, -100.0))
    assert len(explained(model).findings) == 1
    assert len(runs) == 1


def test_state_is_as_before():
    """Weights, moving statistics, seeds and metrics."""
    keras.utils.set_random_seed(0)
    hidden = [
        layers.Dense(16, name="h"),
        layers.BatchNormalization(),
        layers.ReLU(name="on"),
        layers.Dropout(0.5),
    ]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(10, "softmax", name="out")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*batch(), verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [variable.numpy() for variable in variables]
    changes = (FreshWeights("h", (model.get_layer("h").kernel.path,), 1.0), StandardisedPreactivation("on"))
    assert isinstance(try_out(model, (*batch(), None), changes), TriedOut)
    for one, other in zip(before, variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    assert "call" not in vars(model.get_layer("on"))


def test_a_layer_that_is_not_there_is_not_changed():
    """The reason says what is missing."""
    run = try_out(stack(), (*batch(), None), (StandardisedPreactivation("h9"),))
    assert run == Untried("h9 is not one layer of the model")
