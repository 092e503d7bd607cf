"""A report mixed two thresholds: statistics counted with one were explained with another.

Seen: a Recorder counted at rtol 0.3, explained with the default. `p_backprop` was .514, counted at 0.3,
beside `near_zero` .443 at 0.001, under a line that said "rtol 0.001".
"""

import keras
import numpy as np
import pytest

import trainobs
from trainobs.errors import InvalidArgument
from trainobs.statistics import Statistics
from trainobs.thresholds import NearZero, Thresholds

LOOSE = NearZero(rtol=0.3)


def recorders(*made: trainobs.Recorder) -> tuple[trainobs.Recorder, ...]:
    """Recorders that recorded the same step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(3, name="head")]
    )
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(2, 64, 6))
    model.fit(x, y[:, :3], batch_size=64, verbose=0, callbacks=list(made))
    return made


def loose_and_tensors() -> tuple[trainobs.Recorder, ...]:
    """A Recorder that counted at rtol 0.3, and one that kept the tensors of the same step."""
    return recorders(trainobs.Recorder(keep="statistics", near_zero=LOOSE), trainobs.Recorder())


def test_statistics_are_explained_with_what_they_were_counted_with():
    """Without thresholds of the user's all figures, and the line of thresholds, are the Recorder's."""
    loose, tensors = loose_and_tensors()
    report = trainobs.explain_near_zero_gradients(loose)
    expected = trainobs.explain_near_zero_gradients(tensors, near_zero=LOOSE)
    for column in ("near_zero", "p_backprop", "share_backprop"):
        np.testing.assert_array_equal(report.layers[column], expected.layers[column])
    default = trainobs.explain_near_zero_gradients(tensors)
    assert report.layers["near_zero"].max() > default.layers["near_zero"].max()
    assert "rtol 0.3" in str(report)
    assert list(report.findings["cause"]) == list(expected.findings["cause"])


@pytest.mark.parametrize(
    "given",
    [
        {"near_zero": NearZero()},
        {"thresholds": Thresholds()},
        {"thresholds": Thresholds.preset("sagemaker")},
        {"near_zero": NearZero(rtol=0.1), "thresholds": Thresholds(near_zero=NearZero(rtol=0.1))},
    ],
    ids=["near zero", "thresholds", "a preset", "both"],
)
def test_other_thresholds_are_refused(given):
    """The error says what they were counted with, what came, and what to do."""
    loose, _ = loose_and_tensors()
    with pytest.raises(InvalidArgument, match="only with the thresholds that they were counted") as caught:
        trainobs.explain_near_zero_gradients(loose, **given)
    came = given.get("near_zero") or given["thresholds"].near_zero
    assert str(LOOSE) in str(caught.value)
    assert f"Received: {came}." in str(caught.value)
    assert 'keep="tensors"' in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"near_zero": LOOSE}, {"thresholds": Thresholds(near_zero=LOOSE)}],
    ids=["near zero", "thresholds"],
)
def test_the_same_thresholds_are_accepted(given):
    """An equal one is as good as the same one."""
    loose, _ = loose_and_tensors()
    explained = trainobs.explain_near_zero_gradients(loose, **given)
    expected = trainobs.explain_near_zero_gradients(loose)
    np.testing.assert_array_equal(explained.layers["near_zero"], expected.layers["near_zero"])


def test_statistics_counted_with_different_thresholds_do_not_add():
    """The error names both."""
    loose, default = recorders(
        trainobs.Recorder(keep="statistics", near_zero=LOOSE), trainobs.Recorder(keep="statistics")
    )
    one, other = loose.recording.at(), default.recording.at()
    assert isinstance(one, Statistics) and one.near_zero == LOOSE and other.near_zero == NearZero()
    with pytest.raises(InvalidArgument, match="counted with the same thresholds") as caught:
        _ = one + other
    assert str(LOOSE) in str(caught.value) and str(NearZero()) in str(caught.value)
    assert (one + one).near_zero == LOOSE


def test_thresholds_reach_the_findings():
    """A finding's own threshold is an argument of the front door."""
    _, tensors = loose_and_tensors()
    explain = trainobs.explain_near_zero_gradients
    assert list(explain(tensors).findings["cause"]) == []
    strict = explain(tensors, thresholds=Thresholds(exploding_mean=1e-6))
    assert list(strict.findings["cause"]) == ["exploding"]
