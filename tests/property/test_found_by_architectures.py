"""Small models that `test_architectures` once failed for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import trainobs
from tests.capture import zoo
from tests.property.architectures import Architecture, Block
from tests.property.test_architectures import check


class Penalised(layers.Layer):
    """A user's layer that adds a loss and hands back what it read."""

    def call(self, inputs):
        self.add_loss(0.1 * ops.sum(inputs * inputs))
        return inputs


def model_with(layer):
    """A model that reads a tensor before and behind a layer."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    hidden = layers.Dense(4)(inputs)
    both = ops.concatenate([hidden, layer()(hidden)], axis=-1)
    model = keras.Model(inputs, layers.Dense(2)(both))
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    return model


def data():
    """Inputs and targets."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(24, size)).astype("float32") for size in (5, 2)]


def trained(layer, *callbacks):
    """All that is left of twelve steps."""
    model, (x, y) = model_with(layer), data()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=list(callbacks))
    return zoo.state(model)


@pytest.mark.parametrize("layer", [lambda: layers.ActivityRegularization(l2=0.1), Penalised])
def test_a_layer_that_hands_back_what_it_read(layer):
    """Its output is no tensor of its own: a tap there would add up gradients in another order."""
    recorder = trainobs.Recorder(every=1)
    zoo.assert_same(trained(layer), trained(layer, recorder))
    sites = recorder.recording.at(0).sites
    assert [site.layer for site in sites] == ["dense", "dense", "dense_1", "dense_1"]


def test_losses_of_the_last_call_are_put_back():
    """What a layer gave to `add_loss` before a model was explained is still there afterwards."""
    model, (x, y) = model_with(Penalised), data()
    model(x)
    (before,) = model.losses
    trainobs.explain_near_zero_gradients(model, x, y)
    (after,) = model.losses
    assert after is before


def test_constants_between_a_table_and_noise():
    """A Dropout's constant is multiplied with the noise before it, as if nobody read what lies between."""
    blocks = Block("GaussianDropout", {"rate": 0.3}), Block("Dropout", {"rate": 0.3})
    table = Block("Embedding", {"input_dim": 5, "output_dim": 1})
    check(Architecture("tokens", (table, *blocks), reduce="flatten", loss="logits", optimizer=("SGD", {})))


@pytest.mark.skipif(not hasattr(layers, "RMSNormalization"), reason="this Keras has none")
def test_constants_between_a_normalisation_and_noise():
    """A Dropout's constant is multiplied with the scale before it: not even the product's shape is read."""
    blocks = Block("RMSNormalization"), Block("SpatialDropout2D", {"rate": 0.3})
    check(
        Architecture("image", blocks, "none", "sigmoid layer", optimizer=("Adam", {}), ragged=True, seed=79)
    )


def test_a_mean_behind_a_product():
    """The number that a mean divides by is multiplied with the product before it, as if unread."""
    check(Architecture("signal", (Block("PReLU"),), reduce="mean", explain_first=True))


def test_notes_of_masks_are_put_back():
    """Keras notes again at every trace that a cell with dropout holds a list; not so when it is explained."""
    cell = Block("LSTM", {"units": 2, "dropout": 0.3, "recurrent_dropout": 0.3, "unroll": True})
    check(Architecture("sequence", (cell,)))


def test_layers_that_are_made_when_a_model_is_built():
    """The seeds of their weights are drawn once, whether training builds the model or its explanation."""
    check(Architecture("vector", (Block("Gated"),), style="subclassed", explain_first=True))


def test_sums_of_sums():
    """TensorFlow adds the gradients that come to a sum with those beside it, as if nobody read the sum."""
    convolution = Block(
        "DepthwiseConv1D", {"kernel_size": 2, "padding": "same", "activity_regularizer": "l2"}, "add"
    )
    blocks = convolution, Block("Gated")
    check(Architecture("signal", blocks, loss="logits", optimizer=("Adam", {}), batch=7, seed=54))


@pytest.mark.parametrize("first", [(), (Block("Dense", {"units": 4}),)], ids=["of data", "of a layer"])
def test_swish_of_raw_operations(first):
    """oneDNN makes one operation of x * sigmoid(x), as long as nothing else reads what lies between."""
    check(Architecture("vector", (*first, Block("swish")), reduce="none", ragged=True))


def test_swish_between_a_normalisation_and_two_heads():
    """Training computes no gradient there, so oneDNN makes one operation of x * sigmoid(x)."""
    normalised = Block("LeakyReLU"), Block("BatchNormalization", {"trainable": False})
    blocks = Block("swish"), *normalised, Block("swish", {}, "concatenate")
    optimizer = "Adam", {"global_clipnorm": 0.1}
    check(
        Architecture(
            "vector", blocks, "none", "softmax layer", "sequential", optimizer, side_output=True, seed=42
        )
    )


def test_constant_loss_scale_and_clipping():
    """A gradient is unscaled beside the optimizer, which does the same and clips it."""
    optimizer = (
        "SGD",
        {"use_ema": True, "loss_scale_factor": 8.0, "weight_decay": 0.01, "global_clipnorm": 0.1},
    )
    blocks = (Block("Activation", {"activation": "softmax"}, "add"),)
    options = {"optimizer": optimizer, "side_output": True, "batch": 6, "seed": 32}
    check(Architecture("signal", blocks, "none", "sigmoid layer", "subclassed", **options))


def test_sum_of_a_gradient_and_twice_another():
    """TensorFlow adds where the first term lies that nobody else holds: a reader changes the order."""
    blocks = Block("Embedding", {"input_dim": 5, "output_dim": 3}), Block("square", {}, "add")
    check(Architecture("tokens", blocks, reduce="none", batch=8, ragged=True, seed=19))


def test_product_inside_of_a_product():
    """TensorFlow multiplies the small factors of a chain first, unless somebody reads what lies between."""
    frozen = Block("BatchNormalization", {"center": False, "scale": False, "trainable": False}, "twice")
    blocks = Block("Embedding", {"output_dim": 3, "input_dim": 5}), frozen, Block("Dense", {"units": 2})
    check(Architecture("tokens", blocks, "recurrent", "softmax layer", side_output=True, batch=6, seed=3))


def test_frozen_layer_before_one_that_hands_back_its_input():
    """The gradient that comes to both is held once, and forgotten once."""
    frozen = Block("DepthwiseConv1D", {"kernel_size": 2, "trainable": False})
    check(Architecture("signal", (frozen, Block("ActivityRegularization", {"l2": 0.1})), loss="mse of relu"))


def test_weights_that_a_step_reads_in_part():
    """Where terms of a weight's gradient stay unread, it has no terms at all, and nobody is blamed."""
    recorder = trainobs.Recorder(every=3)
    zoo.train("per_time_step", recorder)
    record = recorder.recording.at(0)
    unread = [weight for weight in record.weights if weight.layer == "batch_normalization"]
    assert [weight.gradient.shape for weight in unread] == [(5,), (5,)]
    assert not [site for site in record.sites if site.layer == "batch_normalization"]
    report = trainobs.explain_near_zero_gradients(recorder)
    assert report.findings.empty
    assert {"batch_normalization (call 2)", "batch_normalization (call 3)"} < set(report.unmeasured_nodes)
    rows = report.layers.loc[[weight.weight for weight in unread]]
    assert rows["gradient_rms"].gt(0).all() and rows["p_backprop"].isna().all()
