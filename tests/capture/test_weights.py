"""Every weight of every kind of layer has its site, and the gradient of a tape that nobody tapped."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.capture.terms import assert_every_weight_is_there, assert_terms_add_up, kernels

layers = keras.layers

#: By name: a layer, and the shape of its input; integers where it is for an Embedding.
KINDS = {
    "dense": (lambda: layers.Dense(5, "gelu"), (6,)),
    "dense_over_pixels": (lambda: layers.Dense(5, "relu"), (3, 2, 4)),
    "conv1d_causal_dilated": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 2)),
    "conv2d_grouped_strided": (lambda: layers.Conv2D(6, 3, 2, groups=3, activation="relu"), (7, 7, 6)),
    "conv2d_channels_first": (
        # not as many units as columns: there TensorFlow 2.21 adds the bias along the wrong axis in graphs
        lambda: layers.Conv2D(5, 3, 2, "same", data_format="channels_first", activation="relu"),
        (2, 6, 7),
    ),
    "conv3d_same": (lambda: layers.Conv3D(3, 2, padding="same", activation="tanh"), (4, 3, 4, 2)),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2, activation="relu"), (8, 3)),
    "depthwise1d_strided": (lambda: layers.DepthwiseConv1D(3, 2, "same", activation="tanh"), (9, 3)),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3, 2, "same", 2, activation="relu"), (7, 6, 3)),
    "depthwise2d_dilated": (
        lambda: layers.DepthwiseConv2D((2, 3), dilation_rate=2, use_bias=False),
        (7, 9, 2),
    ),
    "separable1d": (lambda: layers.SeparableConv1D(5, 3, 2, depth_multiplier=2, activation="relu"), (9, 3)),
    "separable2d": (
        lambda: layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, activation="elu"),
        (6, 7, 3),
    ),
    "separable2d_strided": (lambda: layers.SeparableConv2D(4, (3, 3), 2, use_bias=False), (7, 7, 2)),
    "transposed1d": (lambda: layers.Conv1DTranspose(4, 3, 2, activation="relu"), (5, 3)),
    "transposed2d_same": (lambda: layers.Conv2DTranspose(4, 3, 2, "same", activation="tanh"), (4, 5, 3)),
    "transposed2d_padded": (
        lambda: layers.Conv2DTranspose(3, (4, 3), 2, "valid", output_padding=1, activation="relu"),
        (3, 4, 2),
    ),
    "transposed2d_dilated": (
        lambda: layers.Conv2DTranspose(3, 3, dilation_rate=2, activation="relu"),
        (5, 4, 2),
    ),
    "transposed3d": (lambda: layers.Conv3DTranspose(2, 2, 2, activation="relu"), (2, 3, 2, 2)),
    "einsum": (lambda: layers.EinsumDense("ab,bcd->acd", (3, 2), bias_axes="cd", activation="relu"), (6,)),
    "einsum_of_part_of_a_bias": (lambda: layers.EinsumDense("abc,cd->abd", (4, 3), bias_axes="b"), (4, 5)),
    "einsum_in_groups": (lambda: layers.EinsumDense("abc,bcd->abd", (4, 3), bias_axes="bd"), (4, 5)),
    "einsum_reordered": (lambda: layers.EinsumDense("abc,dc->adb", (3, 4), activation="tanh"), (4, 5)),
    # of rank 3: of rank 4 tf.einsum of TensorFlow 2.18 is wrong from the third sample on
    "einsum_ellipsis": (lambda: layers.EinsumDense("...x,xy->...y", 4, bias_axes="y"), (3, 5)),
    "batch": (lambda: layers.BatchNormalization(), (5,)),
    "batch_of_pixels": (lambda: layers.BatchNormalization(scale=False), (4, 3, 5)),
    "batch_of_first_axis": (lambda: layers.BatchNormalization(1), (3, 4, 5)),
    "layer": (lambda: layers.LayerNormalization(), (4, 5)),
    "layer_of_two_axes": (lambda: layers.LayerNormalization([1, 2], center=False), (4, 5)),
    "layer_of_first_axis": (lambda: layers.LayerNormalization(1), (4, 5)),
    "group": (lambda: layers.GroupNormalization(2), (4, 3, 6)),
    "group_of_first_axis": (lambda: layers.GroupNormalization(2, axis=1, scale=False), (6, 4, 3)),
    "group_per_channel": (lambda: layers.GroupNormalization(-1), (4, 6)),
    "prelu": (lambda: layers.PReLU("uniform"), (4, 3)),
    "prelu_shared": (lambda: layers.PReLU("uniform", shared_axes=[1, 2]), (4, 3, 5)),
    "embedding": (lambda: layers.Embedding(9, 4), "words"),
    "embedding_with_mask_and_penalty": (
        lambda: layers.Embedding(9, 4, mask_zero=True, embeddings_regularizer="l2"),
        "words",
    ),
    "time_distributed": (lambda: layers.TimeDistributed(layers.Dense(4, "relu")), (3, 5)),
}
if hasattr(layers, "RMSNormalization"):
    KINDS["root_mean_square"] = (lambda: layers.RMSNormalization(), (4, 5))
    KINDS["root_mean_square_of_two_axes"] = (lambda: layers.RMSNormalization([1, 2]), (4, 5))


def normal(shape, seed):
    """Numbers of both signs."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def net_of(layer, shape):
    """The layer between two others, its weights off their first values, and a batch."""
    x = np.random.default_rng(1).integers(0, 9, (6, 5)) if shape == "words" else normal((6, *shape), 1)
    before = [] if shape == "words" else [layers.Dense(shape[-1], "tanh")]
    behind = layers.GlobalAveragePooling1D() if shape == "words" else layers.Flatten()
    model = keras.Sequential(
        [keras.Input(x.shape[1:], dtype=x.dtype), *before, layer, behind, layers.Dense(3)]
    )
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign_add(0.3 * normal(variable.shape, 2 + number))
    return zoo.compiled(model, "mse"), x, normal((6, 3), 9)


def gradients_of_a_tape(model, x, y):
    """By path, from a step that is not tapped."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    found = tape.gradient(loss, model.trainable_variables)
    return {
        v.path: np.asarray(tf.convert_to_tensor(g))
        for v, g in zip(model.trainable_variables, found, strict=True)
    }


def assert_gradients(record, expected, rtol=2e-5):
    """Every weight's gradient is the one that is expected."""
    found = {site.weight: (site, site.kernel_gradient) for site in record.sites}
    found |= {weight.weight: (weight, weight.gradient) for weight in record.weights}
    assert found.keys() >= expected.keys()
    for path, gradient in expected.items():
        where, own = found[path]
        gradient = gradient if getattr(where, "rows", None) is None else gradient[where.rows]
        atol = rtol * max(np.abs(gradient).max(initial=0), 1e-3)
        np.testing.assert_allclose(own, gradient, rtol=0, atol=atol, err_msg=path)


@pytest.mark.parametrize("kind", KINDS)
def test_sites_of_a_kind(kind):
    """Its weights' terms add up to the gradient that a tape of one's own gives."""
    layer, shape = KINDS[kind][0](), KINDS[kind][1]
    model, x, y = net_of(layer, shape)
    record = trainobs.capture_batch(model, x, y)
    assert not record.weights
    assert_every_weight_is_there(record, model)
    assert_terms_add_up(record)
    assert_gradients(record, gradients_of_a_tape(model, x, y))
    for site in record.sites:
        nodes = record.nodes
        assert nodes[site.node].layer == nodes[site.activation_node].layer == site.layer
        assert site.preactivation.shape == site.preactivation_gradient.shape == site.slope.shape


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k][1] != "words"])
def test_what_a_kind_puts_out(kind):
    """What is worked out from weights and input is what the layer puts out, and the next one reads."""
    layer, shape = KINDS[kind][0](), KINDS[kind][1]
    model, x, y = net_of(layer, shape)
    record = trainobs.capture_batch(model, x, y)
    own = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    sites = [site for site in record.sites if site.layer == own.name and not record.nodes[site.node].stage]
    put_out = np.concatenate(
        [call.output.reshape(6, -1) for call in sites if call.weight == sites[0].weight], 1
    )
    read = record.site(model.layers[-1].name).input
    np.testing.assert_allclose(put_out, read, rtol=1e-4, atol=2e-5)


# ---- tables ----------------------------------------------------------------------------------


def test_gradient_of_a_large_table_stays_sparse():
    """Neither its values nor a dense gradient of its shape leave the step."""
    rows, columns = 50_000, 4
    stack = [keras.Input((5,), dtype="int64"), layers.Embedding(rows, columns, name="table")]
    model = zoo.compiled(keras.Sequential([*stack, layers.Flatten(), layers.Dense(3)]), "mse")
    x, y = np.random.default_rng(1).integers(0, rows, (6, 5)), normal((6, 3), 9)
    recorder = trainobs.Recorder(every=1)
    model.fit(x, y, verbose=0, callbacks=[recorder])
    record = recorder.recording.at()
    assert record.nbytes < 20_000
    site = record.site("table")
    np.testing.assert_array_equal(site.rows, np.unique(x))
    assert site.shape == (rows, columns) and site.kernel.shape == site.kernel_gradient.shape == (30, columns)
    assert_terms_add_up(record)


def test_tensors_that_a_step_with_a_large_table_hands_over():
    """The largest of them is smaller than the table by far."""
    from trainobs.capture.step._tapped_step import TappedStep

    rows = 50_000
    stack = [keras.Input((5,), dtype="int64"), layers.Embedding(rows, 4, mask_zero=True)]
    model = zoo.compiled(keras.Sequential([*stack, layers.GlobalAveragePooling1D(), layers.Dense(3)]), "mse")
    step = tf.function(TappedStep(model, lambda layer: True), autograph=False)
    data = np.random.default_rng(1).integers(0, rows, (6, 5)), normal((6, 3), 9)
    tensors = step(tuple(map(tf.constant, data))).tensors
    assert max(tensor.shape.num_elements() for tensor in tensors) <= 6 * 5 * 4


# ---- weights that no site explains -----------------------------------------------------------


def test_weights_of_unknown_kinds():
    """They are recorded with the innermost layer that holds them, and their gradients are right."""
    model, fit = zoo.fresh("weights_of_unknown_kinds")
    x, y = fit["x"][:16], fit["y"][:16]
    record = trainobs.capture_batch(model, x, y)
    names = [layer.name for layer in model.layers]
    by_layer = [(weight.layer, weight.kind, weight.weight.split("/")[-1]) for weight in record.weights]
    assert by_layer == [
        (names[0], "Doubled", "kernel"),
        (names[0], "Doubled", "bias"),
        (names[1], "Gated", "gate"),
    ]
    assert_gradients(record, gradients_of_a_tape(model, x, y))
    gate = record.weights[2]
    np.testing.assert_allclose(gate.penalty_gradient, 0.02 * model.layers[1].gate.numpy(), rtol=1e-6)
    assert record.nodes[record.weights[0].nodes[0]].layer == names[0]


def test_weights_of_the_model_itself():
    """A weight that belongs to no layer, and one that is used outside of its layer's call."""
    model, fit = zoo.fresh("weights_of_the_model_itself")
    x, y = fit["x"][:16], fit["y"][:16]
    record = trainobs.capture_batch(model, x, y)
    assert [(weight.layer, weight.shape) for weight in record.weights] == [(model.name, ())]
    expected = gradients_of_a_tape(model, x, y)
    assert_gradients(record, expected)


def test_layers_of_one_name():
    """Two layers that a subclassed model gives the same name keep their own gradients."""

    class Namesakes(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(6, "relu", name="same"), layers.Dense(6, name="same")

        def call(self, inputs):
            return self.second(self.first(inputs))

    model, x, y = zoo.compiled(Namesakes(), "mse"), normal((4, 6), 1), normal((4, 6), 2)
    record = trainobs.capture_batch(model, x, y)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    expected = tape.gradient(loss, [model.first.kernel, model.second.kernel])
    for site, gradient in zip(kernels(record), expected, strict=True):
        np.testing.assert_allclose(site.kernel_gradient, gradient, rtol=1e-5, atol=1e-7)
    assert [site.weight for site in kernels(record)] == ["namesakes/same/kernel", "namesakes/same_1/kernel"]
    assert kernels(record)[0].consumers == ("namesakes/same_1/kernel",)
    assert_terms_add_up(record)


# ---- gradients before clipping ---------------------------------------------------------------

OPTIMIZERS = {
    "clipnorm": dict(clipnorm=1e-3),
    "clipvalue": dict(clipvalue=1e-5),
    "global_clipnorm": dict(global_clipnorm=1e-3),
}


@pytest.mark.parametrize("clipping", OPTIMIZERS)
def test_gradients_are_those_before_the_optimizer_clips(clipping):
    """What the tape gave, not what the optimizer made of it."""
    x, y = (array[:16] for array in zoo.digits())
    model = zoo.compiled(zoo.net(), optimizer=keras.optimizers.SGD(0.1, **OPTIMIZERS[clipping]))
    recorder, expected = trainobs.Recorder(every=1), gradients_of_a_tape(model, x, y)
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[recorder])
    assert_gradients(recorder.recording.at(), expected)


class Clips(keras.Sequential):
    """Clips in its own train step."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, self.trainable_variables), 1e-3)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def test_gradients_are_those_before_the_users_own_clipping():
    """The same where a user's train step clips."""
    x, y = (array[:16] for array in zoo.digits())
    model = zoo.compiled(Clips([keras.Input((64,)), layers.Dense(8, "tanh"), layers.Dense(10)]))
    recorder, expected = trainobs.Recorder(every=1), gradients_of_a_tape(model, x, y)
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[recorder])
    assert_gradients(recorder.recording.at(), expected)
