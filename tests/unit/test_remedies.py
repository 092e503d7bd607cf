"""Remedies make a new model, carry what they can, and leave the given one as it is."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.faults.models import OwnStep
from tests.unit.remedy_models import CROSSENTROPY, named, nested, some_digits, stack, weights
from trainobs import remedies
from trainobs.errors import InvalidArgument, ModelNotReady

UNCHANGING = {
    "clip_gradients": remedies.clip_gradients,
    "lower_learning_rate": remedies.lower_learning_rate,
    "warm_up": remedies.warm_up,
    "scale_loss": remedies.scale_loss,
    "unfreeze": lambda model: remedies.unfreeze(model, layers=["frozen"]),
    "same activation": lambda model: remedies.swap_activation(model, "relu", layers=["relu"]),
}


@pytest.mark.parametrize("name", UNCHANGING)
def test_the_new_model_computes_what_the_old_one_did(name):
    """Shared layers, nested models and statistics of normalisations come along; nothing is shared."""
    model, (x, y) = nested(), some_digits()
    model.fit(x, y, epochs=1, verbose=0)
    new = UNCHANGING[name](model)
    np.testing.assert_array_equal(new.predict(x, verbose=0), model.predict(x, verbose=0))
    before = weights(model)
    new.fit(x, y, epochs=1, verbose=0)
    after = weights(model)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path]) for path in before)
    assert not {id(v) for v in new.variables} & {id(v) for v in model.variables}
    assert named(new, "frozen").trainable == (name == "unfreeze")


CHANGING = {
    "swap_activation": lambda model: remedies.swap_activation(model, "gelu", layers=["h1", "h2"]),
    "reinitialise": lambda model: remedies.reinitialise(model, layers=["h2"]),
    "reinitialise_units": lambda model: remedies.reinitialise_units(model, {"h2": np.arange(24) < 5}),
    "insert batch": lambda model: remedies.insert_normalisation(model, layers=["h2"]),
    "insert layer": lambda model: remedies.insert_normalisation(model, "layer", layers=["h2"]),
    "wrap_residual": lambda model: remedies.wrap_residual(model, layers=["h1", "h2", "h3"]),
}


@pytest.mark.parametrize("name", CHANGING)
def test_the_old_model_stays_as_it_is(name):
    """Weights, activations and answers; the new one answers otherwise, trains, and can be saved."""
    model, (x, y) = stack(), some_digits()
    before, answers, config = weights(model), model.predict(x, verbose=0), model.to_json()
    new = CHANGING[name](model)
    assert not np.allclose(new.predict(x, verbose=0), answers)
    new.fit(x, y, epochs=1, verbose=0)
    assert (model.to_json(), weights(model).keys()) == (config, before.keys())
    np.testing.assert_array_equal(model.predict(x, verbose=0), answers)
    assert type(new.optimizer) is keras.optimizers.Adam
    assert float(new.optimizer.learning_rate) == pytest.approx(0.002)
    assert (new.optimizer.beta_1, new.loss) == (0.8, CROSSENTROPY)


@pytest.mark.parametrize("name", ["insert batch", "wrap_residual", "swap_activation"])
def test_the_new_model_can_be_saved(name, tmp_path):
    """Loaded, it answers the same."""
    new, (x, _) = CHANGING[name](stack()), some_digits()
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), new.predict(x, verbose=0), rtol=1e-5)


def scaled_squares(target, prediction):
    """A loss of the user's own."""
    return 3 * keras.ops.mean((target - prediction) ** 2, axis=-1)


@pytest.mark.parametrize("loss", [scaled_squares, lambda y, p: keras.ops.mean(abs(y - p), axis=-1)])
def test_losses_of_the_users_own(loss):
    """Functions and lambdas, in nested models and with weights, go to the new model as they are."""
    start = keras.Input((64,))
    inner = keras.Sequential([keras.Input((64,)), layers.Dense(3, name="h")])
    inner.compile("sgd", loss)
    outputs = [layers.Dense(1, name=name)(inner(start)) for name in ("a", "b")]
    model = keras.Model(start, outputs)
    model.compile("sgd", [loss, "mse"], loss_weights=[0.25, 1.0])
    new = remedies.reinitialise(model, layers=["h"])
    assert new.loss == [loss, "mse"] and remedies._surgery.loss_weights_of(new) == [0.25, 1.0]
    assert model.compiled and inner.compiled


class OwnCode(keras.Model):
    """A model whose wiring is code."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = layers.Dense(8, "relu", name="hidden")
        self.head = layers.Dense(10, "softmax")

    def build(self, shape):
        self.hidden.build(shape)
        self.head.build((None, 8))
        self.built = True

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def test_models_whose_wiring_is_code():
    """Weights and optimizers can be changed; layers can't, and the error says so."""
    keras.utils.set_random_seed(0)
    model, (x, y) = OwnCode(), some_digits()
    model.compile("sgd", CROSSENTROPY)
    model.fit(x, y, verbose=0)
    new = remedies.reinitialise(model, layers=["hidden"])
    np.testing.assert_array_equal(new.head.kernel, model.head.kernel)
    assert not np.allclose(new.hidden.kernel, model.hidden.kernel)
    with pytest.raises(InvalidArgument, match="functional and sequential"):
        remedies.swap_activation(model, layers=["hidden"])
    with pytest.raises(ModelNotReady, match="some data first"):
        remedies.reinitialise(keras.Sequential([layers.Dense(2, name="new")]), layers=["new"])


class OwnFunctional(keras.Model):
    """A functional model that counts its steps."""

    steps = 0

    def train_step(self, data):
        type(self).steps += 1
        return super().train_step(data)


def test_a_class_of_the_users_own_stays():
    """With its `train_step`; one that can't be made anew is refused, for its step would be lost."""
    (x, y), stages = some_digits(), [keras.Input((64,)), layers.Dense(10, "softmax", name="head")]
    own = OwnStep(stages)
    own.compile("sgd", CROSSENTROPY)
    assert type(remedies.reinitialise(own, layers=["head"])) is OwnStep
    start = keras.Input((64,))
    functional = OwnFunctional(start, layers.Dense(10, "softmax", name="head")(start))
    functional.compile("sgd", CROSSENTROPY, run_eagerly=True)
    new = remedies.swap_activation(functional, "sigmoid", layers=["head"])
    new.fit(x, y, batch_size=32, verbose=0)
    assert OwnFunctional.steps == 2

    class Needs(OwnFunctional):
        def __init__(self, start, needed):
            super().__init__(start, layers.Dense(needed, name="head")(start))

    with pytest.raises(InvalidArgument, match="can't be made anew"):
        remedies.reinitialise(Needs(start, 3), layers=["head"])
