"""What probing finds out about activation functions: Keras', TensorFlow's and users' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from trainobs.activations import PROBE_GRID, Activation
from trainobs.capture.layers import activation_of

ATOL = 1e-2

# name: (piecewise linear, rectifies, saturation point; 0 is none)
ELEMENTWISE = {
    "linear": (True, False, 0),
    "relu": (True, True, 0),
    "relu6": (True, True, 6),
    "leaky_relu": (True, False, 0),
    "hard_sigmoid": (True, False, 3),
    "hard_tanh": (True, False, 1.25),  # off beyond 1; the grid says so to 0.25
    "hard_shrink": (True, False, 0),
    "soft_shrink": (True, False, 0),
    "sparse_sigmoid": (True, False, 1),
    "sigmoid": (False, False, 4.75),
    "tanh": (False, False, 3),
    "log_sigmoid": (False, False, 4.75),
    "softsign": (False, False, 9),
    "tanh_shrink": (False, False, 0),
    "elu": (False, True, 0),
    "celu": (False, True, 0),
    "selu": (False, True, 0),
    "gelu": (False, True, 0),
    "silu": (False, True, 0),
    "hard_silu": (False, True, 0),
    "mish": (False, True, 0),
    "softplus": (False, True, 0),
    "squareplus": (False, True, 0),
    "sparse_plus": (False, True, 0),
    "exponential": (False, True, 0),
}
USERS = {
    "clip": (lambda z: tf.clip_by_value(z, -2.1, 2.1), (True, False, 2.25)),
    "capped relu": (lambda z: tf.minimum(tf.nn.relu(z), 2.1), (True, True, 2.25)),
    "relu from 1 to 6": (lambda z: keras.activations.relu(z, max_value=6, threshold=1), (True, True, 6.25)),
    "relu of tanh": (lambda z: tf.nn.relu(tf.tanh(z)), (False, True, 3)),
    "sine": (tf.sin, (False, False, 0)),
    "square": (lambda z: z * z, (False, False, 0)),
    "scaled sigmoid": (lambda z: tf.sigmoid(z / 2), (False, False, 7.75)),
    "mirrored relu": (lambda z: -tf.nn.relu(-z), (True, False, 0)),
    "doubled": (lambda z: 2 * z, (True, False, 0)),
    "constant": (lambda z: 0 * z, (True, False, 0)),
    "tf.nn.relu": (tf.nn.relu, (True, True, 0)),
    "tf.nn.relu6": (tf.nn.relu6, (True, True, 6)),
    "tf.nn.leaky_relu": (tf.nn.leaky_relu, (True, False, 0)),
    "tf.nn.tanh": (tf.nn.tanh, (False, False, 3)),
    "tf.nn.sigmoid": (tf.nn.sigmoid, (False, False, 4.75)),
    "tf.nn.elu": (tf.nn.elu, (False, True, 0)),
    "tf.nn.silu": (tf.nn.silu, (False, True, 0)),
}
JOINT = {
    "softmax": keras.activations.softmax,
    "log_softmax": keras.activations.log_softmax,
    "tf.nn.softmax": tf.nn.softmax,
    "normalising": lambda z: z / (1e-3 + tf.norm(z, axis=-1, keepdims=True)),
    "centring": lambda z: z - tf.reduce_mean(z, -1, keepdims=True),
    "doubling": tf.nn.crelu,
    "halving": keras.activations.glu,
    "for images only": lambda z: tf.nn.avg_pool2d(z, 2, 1, "SAME"),
}


def probed(function) -> Activation:
    """The description of a Dense layer with this activation function."""
    return activation_of(layers.Dense(2, function, name="layer")).activation


def properties(activation: Activation) -> tuple:
    """What the attribution asks for."""
    return activation.piecewise_linear, activation.rectifies(ATOL), activation.saturation_point(ATOL)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_keras_activations(name):
    """Every element-wise activation of Keras is known by its slopes."""
    if not hasattr(keras.activations, name):
        pytest.skip(f"this Keras has no {name}")
    activation = probed(name)
    assert activation.elementwise and activation.name == name and activation.layer == "layer"
    assert properties(activation) == ELEMENTWISE[name]
    assert activation.linear == (name == "linear")


def test_functions_that_do_the_same_at_any_scale():
    """φ(c·z) = c·φ(z): one slope on each side of 0."""
    known = (name for name in ELEMENTWISE if hasattr(keras.activations, name))
    found = {name for name in known if probed(name).homogeneous}
    assert found == {"linear", "relu", "leaky_relu"}


@pytest.mark.parametrize("name", USERS)
def test_functions_that_keras_does_not_know(name):
    """Functions of TensorFlow and of users are read like Keras' own."""
    function, expected = USERS[name]
    activation = probed(function)
    assert activation.elementwise and properties(activation) == expected


@pytest.mark.parametrize("name", JOINT)
def test_functions_that_are_not_element_wise(name):
    """A function that mixes units is no element-wise one: not piecewise linear, never saturated."""
    activation = probed(JOINT[name])
    assert not activation.elementwise and not activation.linear
    assert properties(activation) == (False, False, 0)
    assert activation.off_limit(ATOL) == ATOL


def test_probed_slopes_are_the_derivative():
    """The slopes of tanh on the grid are 1 − tanh²."""
    np.testing.assert_allclose(probed("tanh").probed_slopes, 1 - np.tanh(PROBE_GRID) ** 2, atol=1e-6)
    assert set(probed("relu").probed_slopes) == {0.0, 1.0}


def test_activation_layers_are_described_like_functions():
    """Layers that are activations have the properties of the function they apply."""
    cases = {
        layers.ReLU(): "relu",
        layers.ReLU(max_value=6): "relu6",
        layers.LeakyReLU(negative_slope=0.2): "leaky_relu",
        layers.ELU(): "elu",
        layers.Activation("tanh"): "tanh",
    }
    for layer, name in cases.items():
        assert properties(activation_of(layer).activation) == ELEMENTWISE[name]
    assert not activation_of(layers.Softmax()).activation.elementwise


def test_a_layer_without_activation_is_linear():
    """No activation and the linear one are the same."""
    for activation in (probed(None), probed("linear"), probed(lambda z: z)):
        assert activation.linear and properties(activation) == (True, False, 0)


def test_saturation_follows_the_threshold():
    """A smaller slope_atol puts the saturation point further out; piecewise linear ones have none to move."""
    assert probed("sigmoid").saturation_point(1e-3) == 7
    assert probed("tanh").saturation_point(0.1) == 2
    assert probed("hard_sigmoid").saturation_point(0.5) == 3
    assert probed("hard_sigmoid").off_limit(0.5) == 0


def test_probing_leaves_a_layer_with_weights_alone():
    """A layer with state that serves as activation is not called: it is not element-wise."""
    prelu = layers.PReLU()
    prelu.build((None, 2))
    before = prelu.get_weights()
    assert not probed(prelu).elementwise
    np.testing.assert_array_equal(prelu.get_weights(), before)


def test_probing_draws_no_random_numbers():
    """The random state after probing is the one before."""
    tf.random.set_seed(1)
    first = tf.random.uniform((3,))
    tf.random.set_seed(1)
    probed(lambda z: tf.nn.relu(z) + 0.5)
    np.testing.assert_array_equal(tf.random.uniform((3,)), first)


INF = np.inf
#: The smallest and the largest value of what a function puts out.
RANGES = {
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "softmax": (0, 1),
    "tanh": (-1, 1),
    "hard_tanh": (-1, 1),
    "softsign": (-1, 1),
    "relu": (0, INF),
    "softplus": (0, INF),
    "relu6": (0, 6),
    "linear": (-INF, INF),
    "leaky_relu": (-INF, INF),
    "elu": (-1, INF),
    "exponential": (0, INF),
    "log_sigmoid": (-INF, 0),
    "squareplus": (0, INF),
    "sparse_sigmoid": (0, 1),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges_of_keras_activations(name):
    """What a function can put out is probed, up to very large values: an error of 1e-9 would be an alarm."""
    if not hasattr(keras.activations, name):
        pytest.skip(f"this Keras has no {name}")
    assert probed(name).range == RANGES[name]


@pytest.mark.parametrize(("name", "lowest"), [("gelu", -0.169971), ("silu", -0.278465), ("selu", -1.758099)])
def test_a_dip_between_the_points_of_the_grid_is_in_the_range(name, lowest):
    """The lowest value of a function that dips below 0 is found between the points it is probed at."""
    low, high = probed(name).range
    assert low == pytest.approx(lowest, abs=1e-6) and high == INF


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (tf.sin, (-1, 1)),
        (lambda z: 3 * tf.tanh(z) + 1, (-2, 4)),
        (lambda z: tf.math.log(z), (-INF, INF)),  # nan below 0: left out
        (lambda z: tf.math.log1p(tf.abs(z)), (0, INF)),  # grows without end, however slowly
        (lambda z: z * z, (0, INF)),
        (lambda z: z * np.nan, (-INF, INF)),
        (lambda z: 0 * z, (0, 0)),
        (lambda z: z / (1e-3 + tf.norm(z, axis=-1, keepdims=True)), (-INF, INF)),  # not element-wise
        (tf.nn.softmax, (0, 1)),
    ],
    ids=["sin", "scaled tanh", "log", "log1p", "square", "nan", "constant", "normalising", "softmax"],
)
def test_ranges_of_users_functions(function, expected):
    """Users' functions are probed in the same way; those that mix units have no range, but for a softmax."""
    assert probed(function).range == expected


def test_a_function_that_refuses_large_values_is_element_wise_all_the_same():
    """What can't be called far from 0 has slopes, but no range."""

    def careful(z):
        if np.abs(z).max() > 100:
            raise ValueError
        return tf.tanh(z)

    activation = probed(careful)
    assert activation.elementwise and activation.range == (-INF, INF)


def test_ranges_of_activation_layers():
    """An activation layer has the range of what it applies."""
    assert activation_of(layers.ReLU(max_value=4)).activation.range == (0, 4)
    assert activation_of(layers.Softmax()).activation.range == (0, 1)
    assert activation_of(layers.Activation("tanh")).activation.range == (-1, 1)


def test_a_layer_with_weights_has_no_range():
    """It is not called, so nothing is known of it."""
    prelu = layers.PReLU()
    prelu.build((None, 2))
    assert probed(prelu).range == (-INF, INF)
