"""Random models and trainings: reports are whole, training goes as if unobserved, nothing is left behind.

Thirty examples, the same each time. Three hundred others:

    pytest --hypothesis-profile=nightly tests/property/test_architectures.py

The profiles stand in `tests/conftest.py`. The `Architecture` that a failure
prints makes the model again: call `check` with it.
"""

import collections

import hypothesis
import keras.src.backend.tensorflow.nn as keras_nn
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.property.architectures import Architecture, architectures, build, data
from trainobs.explanation import LIKELIHOODS, OFF_COLUMNS, SHARES

FRACTIONS = ["near_zero", "exact_zero", *LIKELIHOODS, *SHARES, *OFF_COLUMNS]
TAPE_GRADIENT = tf.GradientTape.gradient


# ---- a report ------------------------------------------------------------------------------------


def assert_whole(report, model):
    """A row for every trainable weight; fractions; shares of a whole; gradients that add up."""
    table = report.layers
    rows = collections.Counter(table.index)
    assert {v.path: rows[v.path] for v in model.trainable_variables} == {
        v.path: 1 for v in model.trainable_variables
    }
    assert table.index.is_unique
    fractions = table[FRACTIONS].to_numpy(float)
    assert np.all(np.isnan(fractions) | ((fractions >= -1e-9) & (fractions <= 1 + 1e-9)))
    assert_shares(table[table["near_zero"] > 0])
    residual = table["residual"].dropna()
    assert (residual < 1e-4).all(), residual[residual >= 1e-4]


def assert_shares(table: pd.DataFrame):
    """They sum to 1, or are all unknown, which they may be of weights explained as a whole only."""
    shares = table[list(SHARES)]
    known = ~shares.isna().all(axis=1)
    np.testing.assert_allclose(shares[known].sum(axis=1), 1, rtol=1e-9)
    assert table.loc[~known, "residual"].isna().all()


# ---- what is left behind -------------------------------------------------------------------------


def surface(model):
    """By object and name: what the model, all in it and the module of its losses hold."""
    inside = [model, *model._flatten_layers(include_self=False), *zoo.optimizers(model), keras_nn]
    operations = [op for part in inside for op in (getattr(part, "operations", None) or ())]
    things = list({id(thing): thing for thing in [*inside, *operations]}.values())
    return {
        (number, name): held(value)
        for number, thing in enumerate(things)
        for name, value in vars(thing).items()
    }


def held(value):
    """A value, and what it holds if it is a container."""
    items = value.values() if isinstance(value, dict) else value
    return value, [*items] if isinstance(value, (dict, list, tuple, set)) else []


def changes(before, after):
    """Objects and names under which something else is found."""
    return {
        key
        for key in before.keys() | after.keys()
        if key not in before or key not in after or not same(before[key], after[key])
    }


def same(one, other):
    """Whether both are the same objects."""
    return [id(one[0]), *map(id, one[1])] == [id(other[0]), *map(id, other[1])]


# ---- the training --------------------------------------------------------------------------------


def trained(model, x, y, architecture, *callbacks):
    """All that is left of three steps, and what they changed on the model."""
    before = surface(model)
    fitted = model.fit(x, y, batch_size=architecture.batch, verbose=0, callbacks=list(callbacks))
    history = {f"history {key}": np.array(values) for key, values in fitted.history.items()}
    return zoo.state(model) | history, changes(before, surface(model))


def check(architecture: Architecture) -> None:
    """All that holds for any model."""
    x, y = data(architecture)
    model, recorder = build(architecture), trainobs.Recorder(every=2)
    try:
        alone, changed = trained(model, x, y, architecture)
    except tf.errors.OperatorNotAllowedInGraphError:  # Keras 3.8 can't train TimeDistributed under a mask
        hypothesis.reject()
    if not architecture.explain_first:
        before, state = surface(model), zoo.state(model)
        assert_whole(trainobs.explain_near_zero_gradients(model, x, y), model)
        assert changes(before, surface(model)) == set()
        zoo.assert_same(state, zoo.state(model))

    model = build(architecture)
    if architecture.explain_first:
        assert_whole(trainobs.explain_near_zero_gradients(model, x, y), model)
    observed, changed_observed = trained(model, x, y, architecture, recorder)
    zoo.assert_same(alone, observed)
    assert recorder.recording.steps == (0, 2)
    assert changed_observed <= changed
    assert tf.GradientTape.gradient is TAPE_GRADIENT


@pytest.mark.filterwarnings("ignore:.*does not support masking:UserWarning")
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning")  # of one unit: drawn too
@hypothesis.given(architectures())
def test_any_architecture(architecture):
    """The report is whole, training goes the same way bit by bit, and nothing is left on the model."""
    check(architecture)
