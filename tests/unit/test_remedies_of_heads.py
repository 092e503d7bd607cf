"""Heads: the last activation and the loss, made to fit each other."""

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from tests.unit.remedy_models import CROSSENTROPY, some_digits, stack
from trainobs import remedies
from trainobs.errors import InvalidArgument

HEADS = {
    "one softmax": (("softmax", 1, "mse"), ("sigmoid", "mse")),
    "one softmax, crossentropy": (("softmax", 1, "binary_crossentropy"), ("sigmoid", "binary_crossentropy")),
    "relu": (("relu", 1, "mse"), ("linear", "mse")),
    "linear into probabilities": ((None, 10, CROSSENTROPY), ("linear", "logits")),
    "tanh into probabilities": (("tanh", 1, "binary_crossentropy"), ("linear", "logits")),
    "softmax as logits": (
        ("softmax", 10, keras.losses.SparseCategoricalCrossentropy(from_logits=True)), ("linear", "logits"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_heads_that_fit(name):
    """The activation and the loss of the new model."""
    (head, units, loss), (activation, expected) = HEADS[name]
    new = remedies.fix_head(stack(head=head, units=units, loss=loss))
    assert new.get_layer("head").activation.__name__ == activation
    if expected == "logits":
        assert new.loss.from_logits
    else:
        assert new.loss == expected


def test_a_rule_decides_what_is_changed():
    """What the data shows, the model can't: targets outside of a range need a linear output."""
    model = stack(head="sigmoid", units=1, loss="mse")
    assert remedies.fix_head(model, rule="range").get_layer("head").activation.__name__ == "linear"
    model = stack(head="sigmoid", units=1, loss="binary_crossentropy")
    with pytest.raises(InvalidArgument, match="scale the targets"):
        remedies.fix_head(model, rule="range")
    with pytest.raises(InvalidArgument, match="`rule` must be one of"):
        remedies.fix_head(model, rule="colour")


@pytest.mark.filterwarnings("ignore:(.|\\n)*softmax over axis:UserWarning")
@pytest.mark.filterwarnings("ignore:(.|\\n)*received `from_logits=True`:UserWarning")
def test_the_rule_is_the_one_that_the_diagnosis_saw():
    """The call says which, so that a user makes the same change."""
    x, y = some_digits()
    one = stack(head="softmax", units=1, loss="mse")
    calls = set(trainobs.explain_near_zero_gradients(one, x, np.ones((64, 1)) / 2).remedies()["call"])
    assert "remedies.fix_head(model, rule='single', targets='real')" in calls
    logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twice = trainobs.explain_near_zero_gradients(stack(loss=logits), x, y).remedies()
    assert list(twice["call"]) == ["remedies.fix_head(model, rule='twice')"]


def test_a_loss_in_a_list_is_the_loss():
    """Keras takes ``loss=["mse"]`` for a model with one output."""
    with pytest.raises(InvalidArgument, match="fit each other"):
        remedies.fix_head(stack(loss=[CROSSENTROPY]))
    assert remedies.fix_head(stack(head=None, loss=[CROSSENTROPY])).loss.from_logits


def test_a_head_that_fits_is_left_alone():
    """Also one that makes probabilities twice loses the second time only."""
    with pytest.raises(InvalidArgument, match="fit each other"):
        remedies.fix_head(stack())
    model = stack()
    twice = keras.Model(model.inputs[0], layers.Softmax(name="again")(model.outputs[0]))
    twice.compile("sgd", CROSSENTROPY)
    new, (x, _) = remedies.fix_head(twice), some_digits()
    np.testing.assert_allclose(new.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


def test_heads_that_are_no_layers_of_their_own():
    """An operation can't be changed; what reshapes probabilities' logits needs none of its own."""
    start = keras.Input((64,))
    made = keras.Model(start, keras.ops.softmax(layers.Dense(10)(start)))
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(InvalidArgument, match="operation"):
        remedies.fix_head(made)
    shaped = keras.Model(start, layers.Reshape((10,))(layers.Dense(10, name="head")(start)))
    shaped.compile("sgd", CROSSENTROPY)
    assert remedies.fix_head(shaped).loss.from_logits


@pytest.mark.parametrize(
    ("rule", "targets", "head", "loss", "activation", "expected"),
    [
        ("single", "real", "softmax", "mse", "linear", "mse"),
        ("single", "real", "softmax", "categorical_crossentropy", "linear", "mean_squared_error"),
        ("sigmoid", "binary", "sigmoid", "categorical_crossentropy", "softmax", "categorical_crossentropy"),
        ("sigmoid", "several", "sigmoid", "categorical_crossentropy", "sigmoid", "binary_crossentropy"),
    ],
)
def test_the_targets_decide_what_fits(rule, targets, head, loss, activation, expected):
    """One class or the other, several at once, or any numbers."""
    new = remedies.fix_head(stack(head=head, units=1, loss=loss), rule=rule, targets=targets)
    assert (new.get_layer("head").activation.__name__, new.loss) == (activation, expected)


def test_a_unit_for_each_class():
    """Numbers of classes on one sigmoid unit: the new model has no finding, and learns."""
    x, y = some_digits()
    model = stack(head="sigmoid", units=1, loss="binary_crossentropy")
    report = trainobs.explain_near_zero_gradients(model, x, y[:, None])
    (call,) = report.remedies()["call"]
    assert call == "remedies.fix_head(model, rule='classes', targets='classes', units=10)"
    new = remedies.fix_head(model, rule="classes", targets="classes", units=10)
    assert new.output_shape == (None, 10) and new.loss == "sparse_categorical_crossentropy"
    assert not len(trainobs.explain_near_zero_gradients(new, x, y[:, None]).findings)
    np.testing.assert_array_equal(new.layers[0].kernel, model.layers[0].kernel)


def test_what_units_and_targets_have_to_be():
    """Each error says what came and what to do."""
    model = stack(head="sigmoid", units=1, loss="binary_crossentropy")
    with pytest.raises(InvalidArgument, match="`targets` must be one of"):
        remedies.fix_head(model, rule="single", targets="words")
    with pytest.raises(InvalidArgument, match="Pass `units`"):
        remedies.fix_head(model, rule="classes", targets="classes")
    with pytest.raises(InvalidArgument, match="at least 2"):
        remedies.fix_head(model, rule="classes", targets="classes", units=1)
    start = keras.Input((64,))
    apart = keras.Model(start, layers.Activation("softmax")(layers.Dense(1)(start)))
    apart.compile("sgd", "binary_crossentropy")
    with pytest.raises(InvalidArgument, match="Only a Dense layer"):
        remedies.fix_head(apart, rule="single", targets="classes", units=3)
