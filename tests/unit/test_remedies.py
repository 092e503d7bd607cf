"""Remedies: each makes a new model or new data, carries what it can, and changes what it says."""

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from tests.faults.models import OwnStep, small_digits
from trainobs import remedies
from trainobs.errors import InvalidArgument, ModelNotReady

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


def test_swapped_activations():
    """Of layers that have one, and of layers that are one; kernels stay."""
    model = nested()
    new = remedies.swap_activation(model, "elu", layers=["relu", "deep"])
    assert named(new, "relu").activation is keras.activations.elu
    assert named(new, "deep").activation is keras.activations.elu
    np.testing.assert_array_equal(named(new, "deep").kernel, named(model, "deep").kernel)
    with pytest.raises(InvalidArgument, match="no activation 'rule'"):
        remedies.swap_activation(model, "rule", layers=["relu"])
    with pytest.raises(InvalidArgument, match=r"no layers \['h9'\]"):
        remedies.swap_activation(model, layers=["h9"])
    with pytest.raises(InvalidArgument, match=r"Write \['relu'\]"):
        remedies.swap_activation(model, layers="relu")
    with pytest.raises(InvalidArgument, match="no activation of its own"):
        remedies.swap_activation(stack(), layers=["h1", "head"]) and remedies.swap_activation(
            keras.Sequential([keras.Input((3, 2)), layers.LSTM(4, name="rnn")]), layers=["rnn"]
        )


def test_new_kernels_have_the_size_that_theory_asks_for():
    """He before ReLU, Glorot before tanh, LeCun before SELU; biases 0, gammas 1; the seed counts."""
    sizes = {"relu": 2 / 64, "tanh": 2 / (64 + 2000), "selu": 1 / 64}
    for activation, variance in sizes.items():
        model = keras.Sequential([keras.Input((64,)), layers.Dense(2000, activation, name="wide")])
        model.layers[0].bias.assign(np.full(2000, 3.0))
        new = remedies.reinitialise(model, layers=["wide"], seed=5)
        assert np.var(new.layers[0].kernel) == pytest.approx(variance, rel=0.02)
        assert not np.any(new.layers[0].bias)
        again, other = (remedies.reinitialise(model, layers=["wide"], seed=seed) for seed in (5, 6))
        np.testing.assert_array_equal(again.layers[0].kernel, new.layers[0].kernel)
        assert not np.allclose(other.layers[0].kernel, new.layers[0].kernel)
    norm = keras.Sequential([keras.Input((4,)), layers.LayerNormalization(name="norm")])
    norm.layers[0].gamma.assign(np.zeros(4))
    assert np.all(np.asarray(remedies.reinitialise(norm, layers=["norm"]).layers[0].gamma) == 1)


def test_only_dead_units_are_drawn_anew():
    """The columns of the others, and their biases, stay."""
    model, mask = stack(), np.arange(24) % 3 == 0
    model.get_layer("h2").bias.assign(np.full(24, -7.0))
    old, new = model.get_layer("h2"), remedies.reinitialise_units(model, {"h2": mask}).get_layer("h2")
    np.testing.assert_array_equal(np.asarray(new.kernel)[:, ~mask], np.asarray(old.kernel)[:, ~mask])
    assert not np.any(np.asarray(new.kernel)[:, mask] == np.asarray(old.kernel)[:, mask])
    np.testing.assert_array_equal(new.bias, np.where(mask, 0.0, -7.0))
    with pytest.raises(InvalidArgument, match="of 3"):
        remedies.reinitialise_units(model, {"h2": np.ones(3, bool)})


def test_a_normalisation_stands_between_kernel_and_activation():
    """Preactivations have mean 0 and variance 1 over the batch, then comes the activation."""
    model, (x, _) = stack("tanh"), some_digits()
    model.get_layer("h2").kernel.assign(100 * model.get_layer("h2").kernel)
    new = remedies.insert_normalisation(model, layers=["h2"])
    block = new.get_layer("h2_block")
    assert [layer.name for layer in block.layers] == ["h2", "h2_normalised", "h2_activation"]
    before = model.get_layer("h1")(x)
    np.testing.assert_array_equal(block.layers[0].kernel, model.get_layer("h2").kernel)
    z = np.asarray(block.layers[1](block.layers[0](before), training=True))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-3)
    with pytest.raises(InvalidArgument, match="kind"):
        remedies.insert_normalisation(model, "group", layers=["h2"])


def test_a_residual_adds_what_it_reads():
    """Layers that change the shape are left alone; if all do, it says so."""
    model, (x, _) = stack(), some_digits()
    new = remedies.wrap_residual(model, layers=["h1", "h2"])
    assert [layer.name for layer in new.layers] == ["h1", "h2_residual", "h3", "head"]
    read = model.get_layer("h1")(x)
    made = read + model.get_layer("h2")(read)
    np.testing.assert_allclose(new.layers[1](new.layers[0](x)), made, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidArgument, match="None of these layers"):
        remedies.wrap_residual(model, layers=["h1", "head"])


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


def test_optimizers():
    """What they are given, and what stays."""
    model = stack()
    assert remedies.clip_gradients(model, 0.5).optimizer.global_clipnorm == 0.5
    assert float(remedies.lower_learning_rate(model).optimizer.learning_rate) == pytest.approx(0.0002)
    rate = remedies.warm_up(model, steps=100).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 50, 100, 500)] == pytest.approx([0, 0.001, 0.002, 0.002])
    scaled = remedies.scale_loss(model).optimizer
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert scaled.inner_optimizer.beta_1 == 0.8
    with pytest.raises(InvalidArgument, match="schedule"):
        remedies.lower_learning_rate(remedies.warm_up(model))
    with pytest.raises(ModelNotReady, match="not compiled"):
        remedies.clip_gradients(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))


@pytest.fixture
def half_precision():
    """Models made meanwhile compute in float16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("half_precision")
@pytest.mark.parametrize("scaled", [True, False])
def test_optimizers_that_scale_the_loss(scaled):
    """The one inside is changed, its wrapper kept; a model that was compiled without one gets none."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10)])
    inner = keras.optimizers.Adam(0.002)
    outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=64.0) if scaled else inner
    model.compile(outer, "mse", auto_scale_loss=False)
    for change, name, value in (
        (remedies.clip_gradients, "global_clipnorm", 1.0),
        (remedies.lower_learning_rate, "learning_rate", 0.0002),
    ):
        new = change(model).optimizer
        assert isinstance(new, keras.optimizers.LossScaleOptimizer) == scaled
        if scaled:
            assert new.get_config()["initial_scale"] == 64.0
        found = getattr(new.inner_optimizer if scaled else new, name)
        assert float(found) == pytest.approx(value)


def test_data():
    """Standardised by feature; integers stay; broken samples go, with their targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(50, [[1.0, 20.0, 0.0]], (200, 3)).astype("float32")
    new = remedies.standardise(x)
    np.testing.assert_allclose(new.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(new.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(remedies.standardise(x[:5], like=x), new[:5], atol=1e-5)
    tokens = rng.integers(0, 9, (20, 4))
    assert remedies.standardise({"text": tokens})["text"] is tokens
    x[3, 1], y = np.nan, np.arange(200)
    kept, targets = remedies.drop_non_finite(x, y)
    assert kept.shape == (199, 3) and 3 not in targets
    with pytest.raises(InvalidArgument, match="Every sample"):
        remedies.drop_non_finite(x[3:4], y[3:4])


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


# ---- trials --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dead():
    """A net with a dead layer, its data and its report."""
    model, (x, y) = stack(), some_digits()
    model.get_layer("h2").bias.assign(np.full(24, -100.0))
    return model, x, y, trainobs.explain_near_zero_gradients(model, x, y)


def test_the_catalogue_names_what_fits(dead):
    """A row per remedy, with what it changes and how to call it; nothing for a healthy model."""
    *_, report = dead
    table = report.remedies()
    assert list(table.columns) == ["cause", "layer", "remedy", "changes", "call"]
    assert set(table["cause"]) == {"dead_activation"} and set(table["layer"]) == {"h2"}
    assert table["remedy"].is_unique and len(table) == 12
    assert "24 of h2" in table["changes"].iloc[0]
    for call in table["call"]:
        assert hasattr(remedies, call.split("(")[0].removeprefix("remedies."))
    x, y = some_digits()
    assert trainobs.explain_near_zero_gradients(stack(), x, y).remedies().empty


def test_trials_rank_by_what_they_measured(dead):
    """Each figure against what it is defined as, done by hand."""
    model, x, y, report = dead
    before = weights(model)
    names = ["re-initialise dead", "swap activation (leaky_relu)", "lower"]
    trials = report.try_remedies(model, x, y, steps=8, remedies=names)
    assert all(np.array_equal(before[path], value) for path, value in weights(model).items())
    assert list(trials["remedy"]) == [
        "re-initialise dead units", "swap activation (leaky_relu)", "lower learning rate"
    ]  # fmt: skip
    assert list(trials["gone"]) == [True, True, False]
    assert list(trials["findings_after"]) == [0, 0, 1]
    best, last = trials.iloc[0], trials.iloc[-1]
    rows = report.layers
    assert best["near_zero_before"] == pytest.approx(
        (rows["near_zero"] * rows["size"]).sum() / rows["size"].sum()
    )
    new = remedies.reinitialise_units(model, {"h2": np.ones(24, bool)})
    after = trainobs.explain_near_zero_gradients(new, x, y)
    assert best["near_zero_after"] == pytest.approx(
        (after.layers["near_zero"] * after.layers["size"]).sum() / rows["size"].sum()
    )
    gradients = [np.sqrt((r.layers["gradient_rms"] ** 2 * r.layers["size"]).sum()) for r in (after, report)]
    assert best["gradient_gain"] == pytest.approx(gradients[0] / gradients[1], rel=1e-3)
    assert best["loss_after"] < best["loss_untreated"]
    assert last["gradient_gain"] == pytest.approx(1)
    again = report.try_remedies(model, x, y, steps=8, remedies=names)
    assert again.equals(trials)


def test_what_can_not_be_applied_is_told(dead):
    """A remedy that fails has a row that says why, and is ranked last."""
    model, x, y, _ = dead
    classes = stack()
    classes.get_layer("h1").kernel.assign(1e4 * classes.get_layer("h1").kernel)
    report = trainobs.explain_near_zero_gradients(classes, 1e3 * x, y)
    trials = report.try_remedies(classes, 1e3 * x, y, steps=2, remedies=["standardise targets", "lower"])
    if "exploding" in set(report.findings["cause"]):
        assert "classes" in trials.set_index("remedy").loc["standardise targets", "failed"]
    with pytest.raises(InvalidArgument, match="No remedy that fits"):
        dead[3].try_remedies(model, x, y, remedies=["surgery"])
    with pytest.raises(InvalidArgument, match="positive"):
        dead[3].try_remedies(model, x, y, steps=0)


def test_the_users_random_numbers_stay(dead):
    """Trials seed what they draw, and put Python's generator back."""
    import random

    model, x, y, report = dead
    random.seed(4)
    expected = random.random()
    random.seed(4)
    report.try_remedies(model, x, y, steps=1, remedies=["re-initialise dead"])
    assert random.random() == expected


def test_a_picture_of_nothing(dead):
    """A healthy model needs no remedy: the picture says so."""
    import matplotlib.pyplot as plt

    *_, report = dead
    trials = report.try_remedies(*dead[:3], steps=1, remedies=["re-initialise dead"]).iloc[:0]
    left, _ = report.plot_remedies(trials)
    assert left.figure.get_suptitle() == "No remedy fits"
    plt.close(left.figure)


def test_the_picture(dead):
    """A row per remedy, and the best one in the title."""
    import matplotlib.pyplot as plt

    model, x, y, report = dead
    trials = report.try_remedies(model, x, y, steps=2, remedies=["re-initialise dead", "lower"])
    left, right = report.plot_remedies(trials)
    assert [label.get_text() for label in left.get_yticklabels()] == list(trials["remedy"])
    assert left.figure.get_suptitle() == "Re-initialise dead units removes dead activation at h2"
    assert right.get_xlabel() == "loss after training"
    plt.close(left.figure)
