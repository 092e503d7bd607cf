"""Training with a Recorder is the training without: same weights, optimizer, history, random numbers."""

import numpy as np
import pytest

import trainobs
from tests.capture import zoo
from tests.capture.terms import assert_every_weight_is_there, assert_terms_add_up

NEVER = 10**6
#: Weights that also act outside of their layer's call: in a gradient that the loss holds, in a raw op.
TERMS_ELSEWHERE = ("gradient_penalty", "weights_of_the_model_itself")


def assert_close(left, right, rtol):
    """Relative to the largest element of each array."""
    assert sorted(left.keys() ^ right.keys()) == []
    for name, value in left.items():
        if value.dtype.kind == "f":
            scale = max(np.abs(value).max(initial=0), 1e-3)
            np.testing.assert_allclose(right[name], value, rtol=0, atol=rtol * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(right[name], value, err_msg=name)


@pytest.mark.parametrize("name", zoo.PROBLEMS)
def test_bit_equal(name):
    """Every kind of training goes the same way, bit by bit, and what is recorded of it adds up."""
    recorder = trainobs.Recorder(every=3)
    alone, observed = zoo.train(name), zoo.train(name, recorder)
    zoo.assert_same(alone, observed)
    assert len(recorder.recording) >= 2
    for record in recorder.recording:
        assert_every_weight_is_there(record, recorder.model)
        if name not in TERMS_ELSEWHERE:
            assert_terms_add_up(record)


def test_under_xla():
    """XLA fuses a graph with more outputs differently: rounding after due steps, nothing without."""
    never, often = trainobs.Recorder(at=[NEVER]), trainobs.Recorder(every=3)
    alone = zoo.train("softmax_in_dense", jit_compile=True)
    zoo.assert_same(alone, zoo.train("softmax_in_dense", never, jit_compile=True))
    assert_close(alone, zoo.train("softmax_in_dense", often, jit_compile=True), rtol=1e-6)
    assert (len(never.recording), len(often.recording)) == (0, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["conv_net_with_batch_norm_and_dropout", "dense_net", "masked_recurrent_net"]
)
def test_close_under_xla(name):
    """The same for larger graphs."""
    alone = zoo.train(name, jit_compile=True)
    observed = zoo.train(name, trainobs.Recorder(every=3), jit_compile=True)
    assert_close(alone, observed, rtol=1e-6)


def test_bit_equal_with_statistics_computed_on_the_way():
    """Reducing records to statistics between the steps draws on nothing of the training."""
    name, recorder = "own_train_step", trainobs.Recorder(every=3, keep="statistics")
    zoo.assert_same(zoo.train(name), zoo.train(name, recorder))
    assert len(recorder.recording) == 4


def test_bit_equal_with_captures_between_the_steps():
    """A batch captured between two steps does not change the next one."""
    x, y = zoo.digits()

    def trained(*, observed):
        model, _ = zoo.fresh("subclassed")
        model.compile(model.optimizer, model.loss, metrics=["accuracy"], jit_compile=False)
        logs = []
        for step in range(3):
            if observed:
                trainobs.capture_batch(model, x[40:60], y[40:60])
            logs.append(model.train_on_batch(x[step * 8 : step * 8 + 8], y[step * 8 : step * 8 + 8]))
        return zoo.state(model) | {"logs": np.array(logs)}

    zoo.assert_same(trained(observed=False), trained(observed=True))
