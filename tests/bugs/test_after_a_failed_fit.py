"""What users do next when `fit` raises: they ask why."""

import keras
import numpy as np
import pytest

import trainobs

X, Y = np.random.default_rng(0).normal(size=(32, 4)).astype("float32"), np.zeros((32, 1), "float32")


def never_differentiable(y_true, y_pred):
    """The loss of ranks, which have no gradient."""
    return keras.ops.mean(keras.ops.cast(keras.ops.argsort(y_pred), "float32"))


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_the_same_as_on_a_fresh_model(optimizer):
    """Keras has made the optimizer's variables by then, and given them no values."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
    model.compile(optimizer, never_differentiable)
    with pytest.raises(ValueError, match="No gradients provided"):
        model.fit(X, Y, verbose=0)
    report = trainobs.explain_near_zero_gradients(model, X, Y)
    assert set(report.findings["cause"]) == {"disconnected"}
    assert trainobs.check_health(model, X, Y).findings["severity"].iloc[0] == "error"


@pytest.mark.parametrize("fitted", [False, True])
def test_a_sequential_without_input_takes_any_batch(fitted):
    """It notes the size of the first batch; Keras takes any other, too."""
    model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    if fitted:
        model.fit(X, Y, batch_size=8, verbose=0)
    for samples in (32, 7, 20):
        trainobs.explain_near_zero_gradients(model, X[:samples], Y[:samples])
        trainobs.check_health(model, X[:samples], Y[:samples])
