"""What a record holds is what an independent computation of the same step gives.

The computation here splits the forward pass by hand: kernels are moved over the input one window
offset at a time, activations and their slopes are written out, the gradients come from a tape of
its own. No convolution op, no Keras layer.
"""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

import trainobs
from tests.capture import zoo
from tests.capture.terms import kernels, terms_added

layers = keras.layers
CLOSE = dict(rtol=2e-4, atol=2e-6)

# ---- the other computation -------------------------------------------------------------------


def normal_density(z):
    """Of the standard normal distribution."""
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def softmax(z):
    """Over the last axis."""
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


#: φ in TensorFlow, and φ' in NumPy.
ACTIVATIONS = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: tf.maximum(z, 0.0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: tf.maximum(z, 0.2 * z), lambda z: np.where(z > 0, 1, 0.2)),
    "elu": (lambda z: tf.where(z > 0, z, tf.exp(z) - 1), lambda z: np.where(z > 0, 1, np.exp(z))),
    "sigmoid": (lambda z: 1 / (1 + tf.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    "tanh": (tf.math.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "gelu": (
        lambda z: z * 0.5 * (1 + tf.math.erf(z / np.sqrt(2))),
        lambda z: 0.5 * (1 + erf(z / np.sqrt(2))) + z * normal_density(z),
    ),
    "softmax": (
        lambda z: tf.exp(z) / tf.reduce_sum(tf.exp(z), -1, keepdims=True),
        lambda z: softmax(z) * (1 - softmax(z)),
    ),
}


def product(layer, x, kernel):
    """Input times kernel, channels last, one window offset at a time."""
    if isinstance(layer, layers.Dense):
        return tf.tensordot(x, kernel, 1)
    *window, per_group, units = kernel.shape
    x, lengths = padded(layer, x, window)
    groups = x.shape[-1] // per_group
    parts = []
    for group in range(groups):
        channels = x[..., group * per_group : (group + 1) * per_group]
        columns = kernel[..., group * units // groups : (group + 1) * units // groups]
        total = 0
        for offset in itertools.product(*map(range, window)):
            seen = channels[(slice(None), *seen_by(layer, offset, lengths))]
            total += tf.tensordot(seen, columns[offset], 1)
        parts.append(total)
    return tf.concat(parts, axis=-1)


def seen_by(layer, offset, lengths):
    """The inputs that one element of the window meets, per axis."""
    for position, stride, dilation, length in zip(
        offset, layer.strides, layer.dilation_rate, lengths, strict=True
    ):
        start = position * dilation
        yield slice(start, start + stride * (length - 1) + 1, stride)


def padded(layer, x, window):
    """The input with zeros around, and the lengths of the output."""
    before_after, lengths = [], []
    for size, k, stride, dilation in zip(
        x.shape[1:-1], window, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = (k - 1) * dilation + 1
        if layer.padding == "same":
            length = -(-size // stride)
            more = max((length - 1) * stride + reach - size, 0)
            before_after.append((more // 2, more - more // 2))
        else:
            before_after.append((reach - 1 if layer.padding == "causal" else 0, 0))
            length = (size + before_after[-1][0] - reach) // stride + 1
        lengths.append(length)
    return tf.pad(x, [(0, 0), *before_after, (0, 0)]), lengths


def last(layer, array):
    """Channels to the end."""
    return np.moveaxis(array, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else array


@dataclasses.dataclass
class Expected:
    """Of the first layer of a net: layer, flatten, dense head, mean squared error."""

    preactivation: np.ndarray
    output: np.ndarray
    slope: np.ndarray
    output_gradient: np.ndarray
    preactivation_gradient: np.ndarray
    kernel_gradient: np.ndarray
    loss: float


def computed(layer, head, x, y, activation):
    """The step, by hand; layer's and head's variables are read, nothing else of them."""
    function, slope = ACTIVATIONS[activation]
    kernel = tf.constant(layer.kernel.numpy())
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        z = product(layer, tf.constant(last(layer, x)), kernel)
        z += 0.0 if layer.bias is None else layer.bias.numpy()
        tape.watch(z)
        a = function(z)
        tape.watch(a)
        ordered = tf.experimental.numpy.moveaxis(a, -1, 1) if last(layer, x) is not x else a
        flat = tf.reshape(ordered, (len(x), -1))
        loss = tf.reduce_mean((flat @ head.kernel.numpy() + head.bias.numpy() - y) ** 2)
    d_output, d_preactivation, d_kernel = (g.numpy() for g in tape.gradient(loss, [a, z, kernel]))
    z = z.numpy()
    return Expected(z, a.numpy(), slope(z.astype(float)), d_output, d_preactivation, d_kernel, float(loss))


def assert_site(site, layer, x, expected):
    """Every array of the record, the terms of its kernel's gradient included."""
    np.testing.assert_array_equal(site.input, x)
    np.testing.assert_array_equal(site.kernel, layer.kernel.numpy())
    if layer.use_bias:
        np.testing.assert_array_equal(site.bias, layer.bias.numpy())
        np.testing.assert_array_equal(site.offset, layer.bias.numpy())
    else:
        assert site.bias is None and site.offset is None
    for name in ("preactivation", "output", "slope", "output_gradient", "preactivation_gradient"):
        found = last(layer, getattr(site, name))
        np.testing.assert_allclose(found, getattr(expected, name), err_msg=name, **CLOSE)
    np.testing.assert_array_equal(site.activation_input, site.preactivation)
    np.testing.assert_allclose(site.kernel_gradient, expected.kernel_gradient, **CLOSE)
    np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)


# ---- kernels and activations of every kind ---------------------------------------------------

KINDS = {
    "dense": (lambda a: layers.Dense(5, a), (6,), "relu"),
    "dense_without_bias": (lambda a: layers.Dense(5, a, use_bias=False), (6,), "tanh"),
    "dense_over_time": (lambda a: layers.Dense(5, a), (3, 6), "sigmoid"),
    "conv1d": (lambda a: layers.Conv1D(4, 3, activation=a), (9, 2), "relu"),
    "conv1d_same_strided": (lambda a: layers.Conv1D(4, 3, 2, "same", activation=a), (8, 2), "gelu"),
    "conv1d_causal_dilated": (
        lambda a: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation=a),
        (9, 2),
        "tanh",
    ),
    "conv1d_causal_strided": (lambda a: layers.Conv1D(4, 3, 2, "causal", activation=a), (9, 2), "relu"),
    "conv1d_grouped": (lambda a: layers.Conv1D(6, 3, groups=2, activation=a), (9, 4), "elu"),
    "conv2d": (lambda a: layers.Conv2D(4, 3, activation=a), (6, 7, 2), "relu"),
    "conv2d_without_bias": (lambda a: layers.Conv2D(4, 2, use_bias=False, activation=a), (5, 5, 2), "linear"),
    "conv2d_same_strided": (
        lambda a: layers.Conv2D(4, (3, 2), (2, 3), "same", activation=a),
        (7, 8, 2),
        "leaky_relu",
    ),
    "conv2d_dilated": (
        lambda a: layers.Conv2D(4, 3, padding="same", dilation_rate=(2, 1), activation=a),
        (7, 6, 2),
        "sigmoid",
    ),
    "conv2d_grouped_strided": (lambda a: layers.Conv2D(6, 3, 2, groups=3, activation=a), (7, 7, 6), "relu"),
    "conv2d_softmax": (lambda a: layers.Conv2D(4, 2, activation=a), (5, 5, 2), "softmax"),
    "conv2d_channels_first": (
        lambda a: layers.Conv2D(4, 3, 2, "same", data_format="channels_first", activation=a),
        (2, 6, 7),
        "relu",
    ),
    "conv3d": (lambda a: layers.Conv3D(3, 2, activation=a), (4, 5, 4, 2), "relu"),
    "conv3d_same_strided": (lambda a: layers.Conv3D(3, 3, 2, "same", activation=a), (4, 5, 6, 2), "tanh"),
} | {
    f"dense_{activation}": (lambda a: layers.Dense(5, a), (6,), activation)
    for activation in ACTIVATIONS
    if activation != "relu"
}


def normal(shape, seed):
    """Numbers of both signs."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def net_of(layer, shape):
    """The layer, a head, and four samples of data with both signs."""
    model = keras.Sequential([keras.Input(shape), layer, layers.Flatten(), layers.Dense(3, name="head")])
    if layer.use_bias:
        layer.bias.assign(0.3 * normal(layer.bias.shape, seed=1))
    x, y = normal((4, *shape), seed=2), normal((4, 3), seed=3)
    return zoo.compiled(model, "mse", keras.optimizers.SGD(0.1)), x, y


@pytest.mark.parametrize("kind", KINDS)
def test_captured_site(kind):
    """Each array of a captured site is the one computed by hand."""
    make, shape, activation = KINDS[kind]
    layer = make(activation)
    model, x, y = net_of(layer, shape)
    record = trainobs.capture_batch(model, x, y)
    expected = computed(layer, model.get_layer("head"), x, y, activation)
    assert_site(record.site(layer.name), layer, x, expected)
    assert record.loss == pytest.approx(expected.loss, rel=1e-5)
    assert record.site(layer.name).consumers == (model.get_layer("head").kernel.path,)
    assert record.site(layer.name).activation.name == activation


@pytest.mark.parametrize("kind", ["dense", "conv2d_same_strided"])
@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_recorded_step_is_the_applied_one(kind, settings):
    """In fit: the kernels are those before the update, which is what the recorded gradient makes of them."""
    make, shape, activation = KINDS[kind]
    layer = make(activation)
    model, x, y = net_of(layer, shape)
    zoo.compiled(model, "mse", keras.optimizers.SGD(0.1), **settings)
    expected = computed(layer, model.get_layer("head"), x, y, activation)
    before = layer.kernel.numpy()
    recorder = trainobs.Recorder(every=1)
    history = model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, callbacks=[recorder]).history
    site = recorder.recording.at(0).site(layer.name)
    np.testing.assert_array_equal(site.kernel, before)
    np.testing.assert_allclose(site.kernel_gradient, expected.kernel_gradient, **CLOSE)
    np.testing.assert_allclose(
        layer.kernel.numpy(), before - 0.1 * site.kernel_gradient, rtol=1e-6, atol=1e-7
    )
    assert recorder.recording.at(0).loss == pytest.approx(history["loss"][0], rel=1e-5)


def test_steps_of_a_fit_follow_from_each_other():
    """Over two epochs with a ragged last batch: kernel of step t+1 = kernel of step t − lr · its gradient."""
    x, y = zoo.digits()
    model = zoo.compiled(zoo.net(hidden="relu"), optimizer=keras.optimizers.SGD(0.1))
    recorder = trainobs.Recorder(every=1)
    model.fit(x, y, batch_size=zoo.BATCH, epochs=2, verbose=0, callbacks=[recorder])
    records = [*recorder.recording]
    assert [record.step for record in records] == [*range(12)]
    assert [record.epoch for record in records] == [0] * 6 + [1] * 6
    assert [len(record.sites[0].input) for record in records] == [16, 16, 16, 16, 16, 8] * 2
    for record, following in itertools.pairwise(records):
        for site, later in zip(record.sites, following.sites, strict=True):
            np.testing.assert_allclose(
                later.kernel, site.kernel - 0.1 * site.kernel_gradient, rtol=1e-6, atol=1e-7
            )
            np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)
    assert_losses(records)


def assert_losses(records):
    """Each record's loss is that of its own prediction and target."""
    for record in records:
        (output,) = record.outputs
        log_sums = np.log(np.exp(output.value).sum(-1))
        chosen = output.value[np.arange(len(output.value)), output.target.astype(int).ravel()]
        assert record.loss == pytest.approx(np.mean(log_sums - chosen), rel=1e-4)


def test_kept_records_do_not_change_as_training_goes_on():
    """A record shares no memory with the model, nor with the user's arrays, and cannot be written to."""
    x, y = (array[:8].copy() for array in zoo.digits())
    model = zoo.compiled(zoo.net(), optimizer="sgd")
    record = trainobs.capture_batch(model, x, y)
    arrays = {
        f"{site.weight} {name}": value
        for site in record.sites
        for name, value in vars(site).items()
        if isinstance(value, np.ndarray)
    }
    copies = {name: value.copy() for name, value in arrays.items()}
    x[:] = 7
    model.fit(*zoo.digits(), verbose=0)
    model.layers[0].kernel.assign(np.zeros((64, 8), "float32"))
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, copies[name], err_msg=name)
        assert not value.flags.writeable


def test_gradients_are_those_before_clipping():
    """`kernel_gradient` is what the tape gave, not what the optimizer made of it."""
    x, y = (array[:16] for array in zoo.digits())
    model = zoo.compiled(zoo.net(), optimizer=keras.optimizers.SGD(0.1, clipnorm=1e-3))
    for site in trainobs.capture_batch(model, x, y).sites:
        assert np.linalg.norm(site.kernel_gradient) > 1e-2
        np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)


def test_half_precision():
    """With a scaled loss the recorded gradients are those of the loss itself."""
    model, fit = zoo.fresh("half_precision")
    model.fit(**fit)
    x, y = fit["x"][:16], fit["y"][:16]
    seeds = [tf.identity(v.value) for v in model.non_trainable_variables]
    record = trainobs.capture_batch(model, x, y)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    assert len(seeds) and float(model.optimizer.dynamic_scale) > 1000
    gradients = tape.gradient(loss, {v.path: v for v in model.trainable_variables})
    assert [site.weight for site in record.sites] == list(gradients)
    for site in record.sites:
        gradient = gradients[site.weight]
        np.testing.assert_allclose(site.kernel_gradient, gradient, rtol=0, atol=2e-3 * np.abs(gradient).max())
        np.testing.assert_allclose(
            terms_added(as_float32(site)), site.kernel_gradient, rtol=0, atol=1e-2 * np.abs(gradient).max()
        )
        assert site.kernel_gradient.dtype == site.preactivation_gradient.dtype == np.float32
    assert record.loss == pytest.approx(float(loss), rel=1e-3)


def as_float32(site):
    """The site with its forward arrays in single precision."""
    return dataclasses.replace(
        site, input=site.input.astype(np.float32), kernel=site.kernel.astype(np.float32)
    )


def test_double_precision():
    """Gradients of a float64 model keep their precision."""
    keras.config.set_dtype_policy("float64")
    model = zoo.compiled(zoo.net())
    keras.config.set_dtype_policy("float32")
    x, y = zoo.digits()
    for site in trainobs.capture_batch(model, x[:8], y[:8]).sites:
        assert site.kernel_gradient.dtype == site.preactivation_gradient.dtype == np.float64
        np.testing.assert_allclose(terms_added(site), site.kernel_gradient, rtol=1e-9, atol=1e-14)


def test_penalties():
    """The kernel's regulariser is a part of its gradient; the activity's comes through the output."""
    layer = layers.Dense(5, "relu", kernel_regularizer=keras.regularizers.L2(0.3), name="penalised")
    loud = layers.Dense(4, "tanh", activity_regularizer=keras.regularizers.L1(0.2), name="loud")
    model = keras.Sequential([keras.Input((6,)), layer, loud, layers.Dense(3)])
    x, y = normal((4, 6), seed=2), normal((4, 3), seed=3)
    record = trainobs.capture_batch(zoo.compiled(model, "mse"), x, y)
    np.testing.assert_allclose(
        record.site("penalised").penalty_gradient, 0.6 * layer.kernel.numpy(), rtol=1e-6
    )
    assert record.site("loud").penalty_gradient is None
    for site in record.sites:
        np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)
    with tf.GradientTape() as tape:
        hidden = tf.constant(record.site("loud").output)
        tape.watch(hidden)
        error = tf.reduce_mean((model.layers[-1](hidden) - y) ** 2)
    share = record.site("loud").output_gradient - tape.gradient(error, hidden).numpy()
    assert np.ptp(np.abs(share)) < 1e-5  # Keras 3.15 divides it by the batch, 3.8 does not
    np.testing.assert_array_equal(np.sign(share), np.sign(hidden))
    loud_loss = np.abs(share).mean() * np.abs(hidden).sum()
    penalty = 0.3 * float(np.sum(layer.kernel.numpy() ** 2))
    assert record.loss == pytest.approx(float(error) + loud_loss + penalty, rel=1e-4)


# ---- what the loss reads ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("softmax_in_dense", True),
        ("softmax_layer", True),
        ("softmax_in_activation_layer", True),
        ("softmax_of_tensorflow", True),
        ("sigmoid_in_dense", True),
        ("sigmoid_in_activation_layer", True),
        ("softmax_with_squared_error", False),
        ("softmax_of_tensorflow_with_binary_loss", False),
        ("sigmoid_of_tensorflow_with_categorical_loss", False),
    ],
)
def test_whether_the_loss_reads_the_logits(name, logits):
    """Where it does, slope = 1 and dJ/dA = dJ/dZ; where not, both are those of the activation."""
    model, fit = zoo.fresh(name)
    record = trainobs.capture_batch(model, fit["x"][:8], fit["y"][:8])
    site = record.sites[-1]
    assert (site.logits, record.outputs[0].logits) == (logits, logits)
    if logits:
        assert (site.slope == 1).all()
        np.testing.assert_array_equal(site.output_gradient, site.preactivation_gradient)
    else:
        np.testing.assert_allclose(site.slope, site.output * (1 - site.output), **CLOSE)
        np.testing.assert_array_equal(record.outputs[0].gradient, site.output_gradient)
        assert not np.allclose(site.output_gradient, site.preactivation_gradient)


def test_gradient_at_the_logits():
    """For softmax and cross-entropy it is (probability − target) / n."""
    model, fit = zoo.fresh("softmax_in_dense")
    record = trainobs.capture_batch(model, fit["x"][:8], fit["y"][:8])
    probabilities = record.outputs[0].value
    np.testing.assert_allclose(
        record.sites[-1].preactivation_gradient, (probabilities - zoo.one_hot()[:8]) / 8, **CLOSE
    )


def test_targets_are_given_to_the_outputs_of_their_name():
    """Targets by name find their output, in whatever order the model lists its outputs."""
    model, fit = zoo.fresh("two_inputs_two_outputs_and_a_skip")
    x, y = ([array[:8] for array in fit["x"]], {name: array[:8] for name, array in fit["y"].items()})
    record = trainobs.capture_batch(model, x, y)
    for output in record.outputs:
        name = record.nodes[output.node].layer
        np.testing.assert_allclose(output.target.ravel(), y[name].ravel(), rtol=1e-6)
        assert output.value.shape[-1] == {"digit": 10, "size": 1}[name]


def test_inputs_by_name():
    """Data by name find their input, in whatever order the model lists its inputs."""
    model, fit = zoo.fresh("two_inputs_two_outputs_and_a_skip")
    left, right = (array[:8] for array in fit["x"])
    y = {name: array[:8] for name, array in fit["y"].items()}
    by_name = trainobs.capture_batch(model, {"right": right, "left": left}, y)
    by_order = trainobs.capture_batch(model, [left, right], y)
    for site, other in zip(by_name.sites, by_order.sites, strict=True):
        np.testing.assert_array_equal(site.input, other.input)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8)])
def test_inputs_that_keras_reshapes(shape):
    """A last axis of 1 that Keras would add or drop is no wrong shape."""
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
    x = zoo.images() if shape == (8, 8) else zoo.rows()
    record = trainobs.capture_batch(zoo.compiled(model), x[:4], zoo.digits()[1][:4])
    assert record.site("dense").input.shape == (4, 64)


# ---- layers between kernel and activation ----------------------------------------------------


def credited(*stack, shape=(8, 8, 1)):
    """The record of the stack on images, with a head behind it."""
    model = keras.Sequential([keras.Input(shape), *stack, layers.Flatten(), layers.Dense(10, name="head")])
    x = zoo.images() if len(shape) == 3 else zoo.digits()[0]
    return model, trainobs.capture_batch(zoo.compiled(model), x[:8], zoo.digits()[1][:8])


def test_separate_activation():
    """The site's slope, output and output gradient are those of the activation layer behind it."""
    model, record = credited(
        layers.Dense(6, name="kernel"), layers.Activation("tanh", name="act"), shape=(64,)
    )
    site, head = record.site("kernel"), record.site("head")
    z = zoo.digits()[0][:8] @ site.kernel + site.bias
    np.testing.assert_allclose(site.preactivation, z, **CLOSE)
    np.testing.assert_allclose(site.output, np.tanh(z), **CLOSE)
    np.testing.assert_allclose(site.slope, 1 - np.tanh(z) ** 2, **CLOSE)
    np.testing.assert_allclose(site.output_gradient, head.preactivation_gradient @ head.kernel.T, **CLOSE)
    np.testing.assert_allclose(site.preactivation_gradient, site.slope * site.output_gradient, **CLOSE)
    assert (site.activation.name, site.activation.layer, site.normalised) == ("tanh", "act", False)
    assert record.nodes[site.activation_node].layer == "act"
    assert site.consumers == (model.get_layer("head").kernel.path,)


def test_normalisation_between():
    """Slope and output are taken behind the normalisation, whose beta is what is added last."""
    norm = layers.BatchNormalization(name="norm")
    conv = layers.Conv2D(4, 3, use_bias=False, name="kernel")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), conv, norm, layers.ReLU(name="act"), layers.Flatten(), layers.Dense(10)]
    )
    norm.beta.assign([0.5, -0.5, 0.1, 0.0])
    record = trainobs.capture_batch(zoo.compiled(model), zoo.images()[:8], zoo.digits()[1][:8])
    site = record.site("kernel")
    z = site.preactivation
    normal = (z - z.mean((0, 1, 2))) / np.sqrt(z.var((0, 1, 2)) + norm.epsilon) + norm.beta.numpy()
    np.testing.assert_allclose(site.activation_input, normal, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(site.output, np.maximum(site.activation_input, 0), **CLOSE)
    np.testing.assert_array_equal(site.slope, site.activation_input > 0)
    np.testing.assert_array_equal(site.offset, norm.beta.numpy())
    np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)
    with tf.GradientTape() as tape:
        raw = tf.constant(z)
        tape.watch(raw)
        mean, variance = tf.nn.moments(raw, [0, 1, 2])
        back = tf.nn.batch_normalization(raw, mean, variance, norm.beta.numpy(), None, norm.epsilon)
    through = tape.gradient(back, raw, site.slope * site.output_gradient)
    np.testing.assert_allclose(site.preactivation_gradient, through, rtol=1e-3, atol=1e-6)
    assert site.bias is None and site.normalised
    assert (site.activation.name, site.activation.layer) == ("relu", "act")


@pytest.mark.parametrize(
    "between",
    [
        (layers.Dropout, dict(rate=0.4)),
        (layers.ActivityRegularization, dict(l2=0.01)),
        (layers.LayerNormalization, {}),
    ],
    ids=lambda between: between[0].__name__,
)
def test_layers_that_may_stand_between(between):
    """The activation is still the kernel's, and the terms of the kernel's gradient still add up."""
    make, settings = between
    _, record = credited(
        layers.Dense(6, name="kernel"),
        make(**settings),
        layers.Activation("sigmoid", name="act"),
        shape=(64,),
    )
    site = record.site("kernel")
    assert site.activation.layer == "act"
    np.testing.assert_allclose(site.output, 1 / (1 + np.exp(-site.activation_input)), **CLOSE)
    np.testing.assert_allclose(site.slope, site.output * (1 - site.output), **CLOSE)
    np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)


def test_two_activations_in_a_row():
    """Their slopes multiply."""
    _, record = credited(
        layers.Dense(6, name="kernel"),
        layers.Activation("tanh"),
        layers.LeakyReLU(0.3, name="act"),
        shape=(64,),
    )
    site = record.site("kernel")
    z = site.preactivation
    np.testing.assert_allclose(site.slope, (1 - np.tanh(z) ** 2) * np.where(z > 0, 1, 0.3), **CLOSE)
    np.testing.assert_allclose(site.preactivation_gradient, site.slope * site.output_gradient, **CLOSE)
    assert site.activation.layer == "act"


def test_activation_of_a_branch_is_not_the_kernels():
    """A second path past the activation carries gradient, so the slope is not the site's."""
    inputs = keras.Input((64,))
    hidden = layers.Dense(6, name="kernel")(inputs)
    outputs = layers.Dense(10)(layers.Add()([layers.ReLU()(hidden), hidden]))
    x, y = zoo.digits()
    record = trainobs.capture_batch(zoo.compiled(keras.Model(inputs, outputs)), x[:8], y[:8])
    site = record.site("kernel")
    assert (site.slope == 1).all() and site.activation.name == "linear"
    np.testing.assert_array_equal(site.output, site.preactivation)
    np.testing.assert_allclose(site.output_gradient, site.preactivation_gradient, **CLOSE)
    np.testing.assert_allclose(terms_added(site), site.kernel_gradient, **CLOSE)


def test_activation_behind_a_model_output_is_not_the_kernels():
    """An output of the model is read by the loss too."""
    inputs = keras.Input((64,))
    hidden = layers.Dense(6, name="kernel")(inputs)
    model = keras.Model(inputs, [hidden, layers.Dense(1)(layers.ReLU()(hidden))])
    x = zoo.digits()[0][:8]
    record = trainobs.capture_batch(
        zoo.compiled(model, ["mse", "mse"]), x, [np.ones((8, 6), "float32"), np.ones((8, 1), "float32")]
    )
    site = record.site("kernel")
    assert site.activation.name == "linear" and (site.slope == 1).all()
    np.testing.assert_allclose(site.output_gradient, site.preactivation_gradient, **CLOSE)


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_activation_before_logits(last):
    """Where the loss reads logits behind a chain, the slope is that of the chain before them."""
    loss = {"softmax": "categorical_crossentropy", "sigmoid": "binary_crossentropy"}[last]
    tail = layers.Dense(10, name="kernel"), layers.Activation("tanh"), layers.Activation(last)
    record = trainobs.capture_batch(
        zoo.compiled(zoo.net(*tail), loss), zoo.digits()[0][:8], zoo.one_hot()[:8]
    )
    site = record.site("kernel")
    assert site.logits
    np.testing.assert_allclose(site.slope, 1 - np.tanh(site.preactivation) ** 2, **CLOSE)
    np.testing.assert_allclose(site.slope * site.output_gradient, site.preactivation_gradient, **CLOSE)


@pytest.mark.parametrize(
    "function",
    [tf.nn.softmax, keras.ops.softmax, "softmax"],
    ids=["of TensorFlow", "of keras.ops", "by name"],
)
def test_softmax_of_a_hidden_layer(function):
    """The slope of any softmax is its Jacobian's diagonal."""
    _, record = credited(layers.Dense(6, function, name="kernel"), shape=(64,))
    site = record.site("kernel")
    np.testing.assert_allclose(site.slope, site.output * (1 - site.output), **CLOSE)
    assert not site.activation.elementwise


def test_layer_as_activation_function():
    """A layer given as `activation=` is a part of the layer that uses it."""
    _, record = credited(layers.Dense(6, layers.LeakyReLU(0.25), name="kernel"), shape=(64,))
    site = record.site("kernel")
    np.testing.assert_allclose(site.slope, np.where(site.preactivation > 0, 1, 0.25), **CLOSE)
    assert [node.layer for node in record.nodes] == ["kernel", "flatten", "head"]


# ---- who consumes whom -----------------------------------------------------------------------


def test_consumers_through_layers_without_a_kernel():
    """Pooling, dropout, flattening, joining and adding are looked through."""
    inputs = keras.Input((8, 8, 1))
    one = layers.Conv2D(4, 3, padding="same", name="one")(inputs)
    two = layers.Conv2D(4, 3, padding="same", activation="relu", name="two")(layers.MaxPooling2D()(one))
    three = layers.Conv2D(4, 3, padding="same", name="three")(layers.Dropout(0.2)(two))
    joined = layers.Concatenate()([layers.Flatten()(two), layers.Flatten()(three + two)])
    outputs = layers.Dense(10, name="head")(keras.ops.relu(joined))
    model = keras.Model(inputs, outputs)
    record = trainobs.capture_batch(zoo.compiled(model), zoo.images()[:4], zoo.digits()[1][:4])
    paths = {layer.name: layer.kernel.path for layer in model.layers if hasattr(layer, "kernel")}
    consumers = {site.layer: set(site.consumers) for site in record.sites}
    assert consumers == {
        "one": {paths["two"]},
        "two": {paths["three"], paths["head"]},
        "three": {paths["head"]},
        "head": set(),
    }


def test_consumers_through_raw_ops():
    """TensorFlow ops between the layers of a subclassed model are followed through the graph."""
    model, fit = zoo.fresh("subclassed")
    record = trainobs.capture_batch(model, fit["x"][:4], fit["y"][:4])
    second = model.blocks[1].kernel.path
    head = model.head.kernel.path
    assert [set(site.consumers) for site in kernels(record)] == [{second, head}, {head}, set()]


def test_sites_of_a_shared_layer():
    """A layer called twice has two sites with one gradient, to which both calls' terms add up."""
    model, fit = zoo.fresh("shared_layer")
    record = trainobs.capture_batch(model, fit["x"][:8], fit["y"][:8])
    calls = [site for site in kernels(record) if site.layer == "shared"]
    assert [site.call for site in calls] == [0, 1]
    np.testing.assert_array_equal(calls[1].input, calls[0].output)
    np.testing.assert_array_equal(calls[0].kernel_gradient, calls[1].kernel_gradient)
    assert not np.allclose(terms_added(calls[0]), calls[0].kernel_gradient, atol=1e-5)
    np.testing.assert_allclose(sum(map(terms_added, calls)), calls[0].kernel_gradient, **CLOSE)


def test_gradient_a_node_sends_to_its_input():
    """A node holds what it sends back where it is the only reader; where a skip reads too, nothing."""
    inputs = keras.Input((64,))
    hidden = layers.Dense(6, name="hidden")(inputs)
    branch = layers.Dense(6, name="branch")(hidden)
    outputs = layers.Add(name="add")([layers.Dense(6, name="sole")(branch), hidden])
    model = zoo.compiled(keras.Model(inputs, outputs), "mse")
    x = zoo.digits()[0][:8]
    record = trainobs.capture_batch(model, x, np.ones((8, 6), "float32"))
    nodes = {node.layer: node for node in record.nodes}
    back = record.outputs[0].gradient
    sole = back @ record.site("sole").kernel.T
    own = sole @ record.site("branch").kernel.T
    assert nodes["sole"].input_gradients[0].rms == pytest.approx(np.sqrt(np.mean(sole**2)), rel=1e-4)
    assert nodes["add"].input_gradients[0].rms == pytest.approx(np.sqrt(np.mean(back**2)), rel=1e-4)
    assert nodes["add"].input_gradients[1] is nodes["branch"].input_gradients[0] is None
    assert nodes["hidden"].output_gradient.rms == pytest.approx(np.sqrt(np.mean((own + back) ** 2)), rel=1e-4)
    np.testing.assert_allclose(record.site("hidden").output_gradient, own + back, **CLOSE)


def test_frozen_kernel():
    """A kernel that is not trained has a site without a gradient."""
    model, fit = zoo.fresh("partly_frozen")
    record = trainobs.capture_batch(model, fit["x"][:4], fit["y"][:4])
    assert record.site("hidden").kernel_gradient is None and not record.site("hidden").trainable
    assert record.site("head").kernel_gradient is not None and record.site("head").trainable


def test_layer_that_is_never_called():
    """A layer of the model that the forward pass leaves out has no site and is in nobody's way."""

    class Half(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(10), layers.Dense(3)

        def build(self, shape):
            self.used.build(shape)

        def call(self, inputs):
            return self.used(inputs)

    x, y = zoo.digits()
    model, recorder = zoo.compiled(Half()), trainobs.Recorder(every=1)
    assert {site.layer for site in trainobs.capture_batch(model, x[:4], y[:4]).sites} == {model.used.name}
    model.fit(x, y, verbose=0, callbacks=[recorder])
    assert {site.layer for site in recorder.recording.at().sites} == {model.used.name}
