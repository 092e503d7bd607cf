"""Models and data that remedies are tried on."""

import keras
from keras import layers

from tests.faults.models import small_digits
from trainobs import remedies

CROSSENTROPY = "sparse_categorical_crossentropy"


def stack(activation="relu", head="softmax", units=10, loss=CROSSENTROPY, **options):
    """A compiled dense net for digits, of three hidden layers."""
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(24, activation, name=f"h{number}", **options) for number in (1, 2, 3)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(units, head, name="head")])
    model.compile(keras.optimizers.Adam(0.002, beta_1=0.8), loss)
    return model


def nested():
    """A functional model with a shared layer, a nested model, a frozen layer and an activation layer."""
    keras.utils.set_random_seed(2)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, "tanh", name="deep")], name="inner")
    start = keras.Input((64,))
    shared = layers.Dense(8, name="shared")
    hidden = layers.ReLU(name="relu")(shared(start))
    frozen = layers.Dense(8, trainable=False, name="frozen")(inner(hidden))
    both = frozen + keras.ops.tanh(shared(layers.Dropout(0.5)(start)))
    model = keras.Model(start, layers.Dense(10, "softmax", name="head")(layers.BatchNormalization()(both)))
    model.compile("sgd", CROSSENTROPY)
    return model


def weights(model):
    """By path, copied."""
    return {v.path: v.numpy().copy() for v in model.variables if "seed" not in v.path}


def some_digits():
    """64 of them."""
    return tuple(part[:64] for part in small_digits())


def named(model, name):
    """The one innermost layer of that name."""
    (found,) = remedies._surgery.layers_named(model, [name])
    return found
