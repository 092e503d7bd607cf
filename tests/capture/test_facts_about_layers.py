"""What a record says of layers, so that nobody behind it has to know Keras: decided by class, not by name."""

import keras
import numpy as np
import pytest

import trainobs
from tests.capture import zoo
from trainobs.capture import register_activation_layer, register_layer_kind
from trainobs.capture.layers import (
    LinearKind,
    activation_of,
    can_cut_gradient,
    is_activation,
    kind_of,
    normalises,
)
from trainobs.capture.layers._activation_layers import ACTIVATION_LAYERS
from trainobs.capture.layers._registry import KINDS
from trainobs.errors import InvalidArgument
from trainobs.linear_ops import DenseOp

layers = keras.layers


def captured(*stack, shape=(6,)):
    """The record of one batch through these layers and a head."""
    model = zoo.compiled(keras.Sequential([keras.Input(shape), *stack, layers.Dense(3, name="head")]), "mse")
    random = np.random.default_rng(3)
    return trainobs.capture_batch(model, random.normal(size=(8, *shape)), random.normal(size=(8, 3)))


# ---- normalises ------------------------------------------------------------------------------


class Centred(layers.LayerNormalization):
    """A user's subclass, under another name."""


class InstanceNormalization(keras.Layer):
    """A normalisation that Keras does not have."""

    def call(self, x):
        return x / (1e-3 + keras.ops.std(x, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.BatchNormalization(), True),
        (layers.GroupNormalization(2), True),
        (layers.UnitNormalization(), True),
        (Centred(), True),
        (InstanceNormalization(), True),
        (layers.Normalization(mean=0.0, variance=1.0), False),  # it applies constants
        (layers.Dropout(0.1), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_layers_normalise(layer, expected):
    """Layers that level the scale of what they read, users' subclasses and own ones among them."""
    assert normalises(layer) is expected


def test_nodes_of_normalisations():
    """The node of a normalisation says so, that of the layer before it does not."""
    record = captured(layers.Dense(4, name="hidden"), Centred(name="norm"))
    assert {node.layer: node.normalises for node in record.nodes} == {
        "hidden": False, "norm": True, "head": False
    }  # fmt: skip


# ---- cuts_gradient ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (keras.ops.stop_gradient, True),
        (keras.ops.round, True),
        (keras.ops.sign, True),
        (lambda x: keras.ops.argmax(x, -1), True),
        (lambda x: keras.ops.greater(x, 0.0), True),
        (lambda x: keras.ops.cast(x, "int32"), True),
        (lambda x: keras.ops.cast(x, "float16"), False),
        (keras.ops.tanh, False),
        (layers.Lambda(lambda x: x), True),
        (layers.Discretization([0.0, 1.0]), True),
        (layers.Dense(2), False),
    ],
    ids=[
        "stop",
        "round",
        "sign",
        "argmax",
        "greater",
        "to_int",
        "to_half",
        "tanh",
        "Lambda",
        "bins",
        "Dense",
    ],
)
def test_what_can_cut_a_gradient(operation, expected):
    """Operations and layers that round, compare or stop; a cast only if it rounds."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, operation(inputs))
    (last,) = [made for made in model.operations if not isinstance(made, layers.InputLayer)]
    assert can_cut_gradient(last) is expected


def test_node_of_what_cuts_a_gradient():
    """The node of a functional model's operation says what it can do."""
    inputs = keras.Input((6,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    outputs = layers.Dense(3, name="head")(keras.ops.round(hidden))
    model = zoo.compiled(keras.Model(inputs, outputs), "mse")
    record = trainobs.capture_batch(model, np.ones((8, 6)), np.ones((8, 3)))
    assert [node.kind for node in record.nodes if node.cuts_gradient] == ["Round"]


# ---- cancels, ranges -------------------------------------------------------------------------


def test_biases_that_cancel_by_design():
    """A normalisation takes the mean of a bias away, but not what it adds itself."""
    record = captured(layers.Dense(4, name="hidden"), layers.BatchNormalization(name="norm"), layers.ReLU())
    assert [site.weight.split("/", 1)[1] for site in record.sites if site.cancels] == ["hidden/bias"]


@pytest.mark.parametrize("name", ["attention", "grouped_attention"])
def test_key_biases_cancel(name):
    """The bias of an attention's keys adds the same to all scores of a query."""
    model, fit = zoo.fresh(name)
    record = trainobs.capture_batch(model, fit["x"][:8], fit["y"][:8])
    cancelling = {site.weight for site in record.sites if site.cancels}
    assert cancelling and all(weight.endswith("/key/bias") for weight in cancelling)


def test_a_layer_called_key_is_no_attention():
    """What decides is where a layer stands, not its name."""
    assert not any(site.cancels for site in captured(layers.Dense(4, name="key")).sites)


def test_range_of_a_chain_is_that_of_its_last_function():
    """What comes out of two activations is in the range of the second."""
    record = captured(layers.Dense(4, name="hidden"), layers.ReLU(), layers.Activation("tanh"))
    assert record.site("hidden").activation.range == (-1, 1)


# ---- doors for layers of others --------------------------------------------------------------


@pytest.fixture
def own_registries():
    """What a test registers is gone after it."""
    kinds, activations = dict(KINDS), dict(ACTIVATION_LAYERS)
    yield
    for registry, before in ((KINDS, kinds), (ACTIVATION_LAYERS, activations)):
        registry.clear()
        registry.update(before)


class Scaled(keras.Layer):
    """A layer of a third party: an activation with a setting."""

    def __init__(self, top, **settings):
        super().__init__(**settings)
        self.top = top

    def call(self, x):
        return self.top * keras.ops.sigmoid(x)


class OwnDense(layers.Dense):
    """A kernel with a `call` of its own."""

    def call(self, x):
        return self.activation(keras.ops.matmul(x, self.kernel) + self.bias)


@pytest.mark.usefixtures("own_registries")
def test_a_registered_activation_layer_belongs_to_the_kernel_before_it():
    """Without it the layer is a node like any other; with it, the activation of the kernel."""

    def of_hidden():
        record = captured(layers.Dense(4, name="hidden"), Scaled(3.0, name="scaled"))
        return record.site("hidden").activation

    assert of_hidden().linear
    register_activation_layer(Scaled)
    activation = of_hidden()
    assert (activation.name, activation.layer, activation.range) == ("Scaled", "scaled", (0, 3))


@pytest.mark.usefixtures("own_registries")
def test_the_function_of_a_registered_activation_layer():
    """A function of the layer says what it applies; a subclass may say it differently."""

    class Steeper(Scaled):
        pass

    register_activation_layer(Scaled, lambda layer: lambda z: layer.top * keras.ops.tanh(z))
    assert activation_of(Scaled(2.0)).activation.range == (-2, 2)
    assert is_activation(Steeper(2.0)) and activation_of(Steeper(2.0)).activation.name == "Scaled"
    register_activation_layer(Steeper)
    assert activation_of(Steeper(2.0)).activation.range == (0, 2)


@pytest.mark.usefixtures("own_registries")
def test_a_registered_kind_explains_the_weights():
    """A layer that was explained as a whole has sites; its base stays as it is."""
    assert [weight.layer for weight in captured(OwnDense(4, name="own")).weights] == ["own", "own"]
    register_layer_kind(OwnDense, LinearKind(lambda layer, shape: DenseOp()))
    record = captured(OwnDense(4, "relu", name="own"))
    assert not record.weights and record.site("own").activation.name == "relu"
    assert kind_of(layers.Dense(2)) is KINDS[layers.Dense]


@pytest.mark.usefixtures("own_registries")
def test_the_closest_class_decides_which_kind_a_layer_has():
    """A subclass that is registered itself is not what its base is."""

    class Special(layers.Dense):
        pass

    assert kind_of(Special(2)) is KINDS[layers.Dense]
    own = LinearKind(lambda layer, shape: DenseOp())
    register_layer_kind(Special, own)
    assert kind_of(Special(2)) is own


@pytest.mark.parametrize("register", [register_activation_layer, lambda cls: register_layer_kind(cls, None)])
@pytest.mark.parametrize(
    ("given", "hint"),
    [(layers.ReLU(), "Pass its class, not the layer."), ("ReLU", "of type str"), (dict, "of type type")],
    ids=["layer", "name", "other class"],
)
def test_only_classes_of_layers_are_registered(register, given, hint):
    """The error says what came and what to pass."""
    with pytest.raises(
        InvalidArgument, match="by its class, a subclass of `keras.Layer`. Received:"
    ) as error:
        register(given)
    assert hint in str(error.value)


def test_a_kind_is_an_object():
    """A class of kinds, or anything else, is refused."""
    with pytest.raises(
        InvalidArgument, match="The kind of OwnDense must be a `trainobs.capture.Kind`"
    ) as error:
        register_layer_kind(OwnDense, LinearKind)
    assert "Pass an object: LinearKind()." in str(error.value)
    with pytest.raises(
        InvalidArgument, match=r"Received: 'dense' \(of type str\)\. docs/extending/layer_kind\.md"
    ):
        register_layer_kind(OwnDense, "dense")


def test_what_an_activation_layer_applies_is_a_function():
    """Anything else is refused."""
    with pytest.raises(
        InvalidArgument, match=r"`function` must be callable: .* Received: 'tanh'\. Leave it out"
    ):
        register_activation_layer(Scaled, "tanh")


@pytest.mark.parametrize("layer_class", [layers.Dense, layers.PReLU, OwnDense])
def test_a_layer_with_weights_is_no_activation_layer(layer_class):
    """Its weights are explained; an activation layer has none."""
    with pytest.raises(InvalidArgument, match=f"{layer_class.__name__} has weights, .*register_layer_kind"):
        register_activation_layer(layer_class)
