"""A step that takes several gradients: each site has those of its own pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.capture.terms import assert_terms_add_up, kernels

CLOSE = dict(rtol=1e-4, atol=1e-7)


def assert_sites(record, expected, loss):
    """The sites of a pass are those of the weights it differentiated, with these gradients."""
    found = {site.weight: site for site in record.sites if site.loss == loss}
    assert found.keys() == expected.keys()
    for path, gradient in expected.items():
        np.testing.assert_allclose(found[path].kernel_gradient, gradient, err_msg=path, **CLOSE)


def by_path(variables, gradients):
    """Gradients by the path of their variables."""
    return {v.path: np.asarray(g) for v, g in zip(variables, gradients, strict=True)}


def test_two_tapes_at_once():
    """Of a generator and its discriminator: each weight has the gradient of its own loss."""
    model, fit = zoo.fresh("two_tapes_at_once")
    x = tf.constant(fit["x"][:8])
    before = zoo.state(model)
    record = trainobs.capture_batch(model, x)
    zoo.assert_same(before, {name: value for name, value in zoo.state(model).items() if name in before})
    seeds = [(v, tf.identity(v.value)) for v in model.non_trainable_variables]
    with tf.GradientTape() as makes, tf.GradientTape() as judges:
        made = model.maker(keras.random.normal((8, 5), seed=model.noise), training=True)
        real, fake = model.judge(x, training=True), model.judge(made, training=True)
        maker_loss = model.score(tf.ones_like(fake), fake)
        judge_loss = model.score(tf.ones_like(real), real) + model.score(tf.zeros_like(fake), fake)
    for variable, value in seeds:
        variable.assign(value)
    maker, judge = model.maker.trainable_variables, model.judge.trainable_variables
    assert_sites(record, by_path(maker, makes.gradient(maker_loss, maker)), loss=0)
    assert_sites(record, by_path(judge, judges.gradient(judge_loss, judge)), loss=1)
    assert_terms_add_up(record)


def test_calls_of_a_layer_in_two_passes():
    """The judge is called twice in the pass that trains it: both calls' terms make up its gradient."""
    model, fit = zoo.fresh("two_tapes_at_once")
    record = trainobs.capture_batch(model, fit["x"][:8])
    calls = {site.layer: [] for site in kernels(record)}
    for site in kernels(record):
        calls[site.layer].append((site.call, site.loss))
        assert record.nodes[site.node].loss == site.loss
        assert (record.nodes[site.node].layer, record.nodes[site.node].call) == (site.layer, site.call)
    assert calls == {
        "maker_start": [(0, 0)],
        "maker_end": [(0, 0)],
        "judge_start": [(0, 1), (1, 1)],
        "judge_end": [(0, 1), (1, 1)],
    }


def test_passes_one_after_the_other():
    """Each model of the pair is trained by a forward pass of its own."""
    model, fit = zoo.fresh("adversaries")
    record = trainobs.capture_batch(model, fit["x"][:8])
    assert {site.weight for site in record.sites if site.loss == 0} == {v.path for v in model.judge.weights}
    assert {site.weight for site in record.sites if site.loss == 1} == {v.path for v in model.maker.weights}
    assert_terms_add_up(record)


def test_microbatches():
    """The same weights in two passes: each has its own half of the batch and its own gradient."""
    model, fit = zoo.fresh("microbatches")
    x, y = (array[:16] for array in (fit["x"], fit["y"]))
    record = trainobs.capture_batch(model, x, y)
    for number, part in enumerate((slice(None, None, 2), slice(1, None, 2))):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x[part], y[part], model(x[part], training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        assert_sites(record, by_path(model.trainable_variables, gradients), loss=number)
        site = next(site for site in record.sites if site.loss == number)
        np.testing.assert_array_equal(site.input, x[part])
    assert_terms_add_up(record)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_two_losses_of_one_tape(run_eagerly):
    """The head is trained by one loss, all else by another."""
    model, fit = zoo.fresh("persistent_tape")
    zoo.compiled(model, run_eagerly=run_eagerly)
    x, y = (array[:16] for array in (fit["x"], fit["y"]))
    record = trainobs.capture_batch(model, x, y)
    head = {v.path for v in model.head.weights}
    assert {site.weight for site in record.sites if site.loss == 0} == head
    assert {site.weight for site in record.sites if site.loss == 1} == {
        v.path for v in model.trainable_variables
    } - head
    assert_terms_add_up(record)


class Nested(keras.Sequential):
    """Asks for gradients by layer, in a dictionary, and for one with respect to the input."""

    def train_step(self, data):
        x, y = data
        asked = {layer.name: list(layer.trainable_variables) for layer in self.layers}
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            loss = self.compute_loss(x, y, self(x, training=True))
        steepness = tf.norm(tape.gradient(loss, x))
        gradients = tape.gradient(loss, asked)
        pairs = [pair for name in asked for pair in zip(gradients[name], asked[name], strict=True)]
        self.optimizer.apply_gradients(pairs)
        return {"loss": loss, "steepness": steepness}


def test_gradients_asked_for_in_a_structure():
    """A dictionary of lists of weights; a pass that asks for no weight counts as none."""
    x, y = (array[:16] for array in zoo.digits())
    model = Nested([keras.Input((64,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(10)])
    record = trainobs.capture_batch(zoo.compiled(model), x, y)
    assert len(record.sites) == 4 and {site.loss for site in record.sites} == {0}
    assert {node.loss for node in record.nodes} == {0} and len(record.nodes) == 2
    assert_terms_add_up(record)


class OwnStep(keras.Model):
    """A train step that never calls `compute_loss`."""

    def __init__(self, reduce):
        super().__init__()
        self.dense, self.reduce = keras.layers.Dense(2, name="only"), reduce

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.reduce(tf.reduce_mean((self(x, training=True) - y) ** 2, axis=-1))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return {}


@pytest.mark.parametrize(
    ("reduce", "whole"),
    [(tf.reduce_mean, np.mean), (tf.identity, np.sum), (lambda v: [v[:3], v[3:]], np.sum)],
    ids=["a number", "one per sample", "a list"],
)
def test_the_loss_is_what_the_gradient_was_taken_of(reduce, whole):
    """Without `compute_loss` the loss is the tape's target, summed up as `tape.gradient` does."""
    model = OwnStep(reduce)
    model.compile("sgd")
    x, y = np.random.default_rng(0).normal(size=(2, 8, 2)).astype("float32")
    record = trainobs.capture_batch(model, x, y)
    losses = np.mean((np.asarray(model(x)) - y) ** 2, axis=-1)
    np.testing.assert_allclose(record.loss, whole(losses), rtol=1e-5)
    assert f"loss {record.loss:.4g}" in trainobs.explain_near_zero_gradients(model, x, y).scope


@pytest.mark.parametrize("frozen", [False, True])
def test_a_gradient_of_nothing(frozen):
    """A model of a GAN that is frozen when the step is traced: its optimizer is given nothing."""

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.maker, self.judge = (
                keras.layers.Dense(n, name=name) for n, name in ((4, "maker"), (1, "judge"))
            )

        def call(self, x):
            return self.judge(self.maker(x))

        def train_step(self, data):
            for part in (self.judge, self.maker):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(data[0]) - data[1]) ** 2)
                found = tape.gradient(loss, part.trainable_weights)
                self.optimizer.apply(found, part.trainable_weights) if found else None
            return {"loss": loss}

    keras.utils.set_random_seed(0)
    model, x = Two(), np.ones((8, 4), "float32")
    model.compile("sgd")
    model(x)
    model.judge.trainable = not frozen
    assert trainobs.capture_batch(model, x, x[:, :1]).idle == frozen
    found = trainobs.explain_near_zero_gradients(model, x, x[:, :1]).findings
    told = set(zip(found.severity, found.cause, found.layer, strict=True))
    assert (("warning", "frozen", "judge") in told) == frozen
