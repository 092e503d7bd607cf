"""What a graph shows of the place where a gradient ends, and the user's line that asked for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from trainobs.capture.reading._between import Between

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)


def between(function):
    """The way from what a traced function reads to what it puts out."""
    graph = tf.function(function).get_concrete_function(tf.TensorSpec((4, 3), tf.float32)).graph
    return Between(graph.outputs, graph.inputs[:1])


def stopped(x):
    """Twice in one line."""
    return tf.stop_gradient(tf.round(x)) + 1.0


def picked(x):
    """By the number of the largest."""
    return tf.one_hot(tf.argmax(x, -1), 3)


def beside(x):
    """A second way lets the gradient through."""
    return x + tf.stop_gradient(tf.round(x) - x)


def of_its_shape(x):
    """The shape of what comes is no value."""
    return tf.round(tf.reshape(x, (tf.shape(x)[0], -1)))


def in_two_lines(x):
    """Nobody can say which."""
    one = tf.stop_gradient(x)
    return one + tf.round(x)


def in_a_loop(x):
    """What happens in its body is not seen from outside."""
    return tf.map_fn(tf.round, x)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (stopped, "StopGradient"),
        (picked, "ArgMax"),
        (of_its_shape, "Round"),
        (beside, None),
        (in_two_lines, None),
        (in_a_loop, None),
        (tf.nn.relu, None),
    ],
)
def test_where_a_gradient_is_cut(function, operation):
    """The last operation that stops it, if no way leads past, and one line did it."""
    place = between(function).cut()
    assert (place and place.operation) == operation
    if place is not None:
        assert place.file == __file__ and place.operation.lower()[:4] in place.code.replace("_", "")


def test_one_operation_is_named():
    """And an operation among casts and reshapes; of several, the line; of several lines, nothing."""
    assert between(lambda x: tf.reshape(x * 2.0, (-1,))).sole().operation == "Mul"
    several = between(lambda x: tf.sqrt(x * 2.0) + 1.0).sole()
    assert several.operation == "an operation" and "tf.sqrt" in several.code
    assert between(in_two_lines).sole() is None
    assert "map_fn" in between(in_a_loop).sole().code


def test_what_changes_values():
    """Not shapes and precision."""
    assert between(lambda x: x * 2.0).changes()
    assert not between(lambda x: tf.cast(tf.reshape(x, (-1,)), tf.float16)).changes()


class Inner(keras.Model):
    """A model with operations of its own between two layers."""

    def __init__(self, change):
        super().__init__()
        self.before = keras.layers.Dense(8, "relu", name="before")
        self.behind = keras.layers.Dense(1, name="behind")
        self.change = change

    def call(self, x):
        return self.behind(self.change(self.before(x)))


def first_finding(change, **options):
    """What the recording of a fit says first."""
    keras.utils.set_random_seed(0)
    model, recorder = Inner(change), trainobs.Recorder(every=1)
    model.compile("sgd", "mse", **options)
    model.fit(X, X[:, :1], batch_size=32, verbose=0, callbacks=[recorder])
    return trainobs.explain_near_zero_gradients(recorder).findings.iloc[0]


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize(
    ("change", "cause", "said", "jit"),
    [
        (lambda h: tf.stop_gradient(h), "disconnected", "ends at StopGradient in test_between.py:", False),
        (lambda h: tf.stop_gradient(h), "disconnected", "ends at StopGradient in test_between.py:", True),
        (lambda h: h * tf.zeros_like(h), "masked", "Mul in test_between.py:", False),
        (lambda h: h * 1e-5, "vanishing", "most of it taken by Mul in test_between.py:", False),
        (lambda h: tf.sqrt(h - 1e3), "non_finite", "An operation in test_between.py:", False),
        (lambda h: tf.map_fn(tf.round, h), "disconnected", "ends at an operation in test_between.py:", False),
    ],
    ids=["stopped", "stopped, compiled", "zeros", "small", "broken", "loop"],
)
def test_a_recorder_names_the_line(change, cause, said, jit):
    """Without a second look, of what lies between layers."""
    found = first_finding(change, jit_compile=jit)
    assert found.cause == cause and said in found.evidence


def watched(loss_of):
    """The report on one step of an own loop over a model with two heads."""
    keras.utils.set_random_seed(0)
    start = keras.Input((6,))
    hidden = keras.layers.Dense(8, "relu", name="body")(start)
    heads = [keras.layers.Dense(3, name="logits")(hidden), keras.layers.Dense(1, name="value")(hidden)]
    model, recorder = keras.Model(start, heads), trainobs.Recorder(every=1)
    with recorder.watch(model):
        with tf.GradientTape() as tape:
            loss = loss_of(*model(X))
        assert set(tape.gradient(loss, model.trainable_variables)) == {None}
    return trainobs.explain_near_zero_gradients(recorder)


def test_numpy_in_the_tape_is_one_finding():
    """Both heads of an actor-critic became NumPy arrays: one cut."""
    report = watched(lambda logits, value: tf.reduce_mean(tf.constant(logits.numpy()) * value.numpy()))
    (found,) = report.findings.itertuples()
    assert (found.cause, found.layer, set(found.affects)) == ("disconnected", "logits", {"body", "value"})
    assert "never used by a differentiable operation" in found.evidence
    assert "NumPy array" in found.evidence and "Python float" in found.evidence


def test_the_line_of_a_loss_in_a_graph():
    """A loss of ranks, in an own loop."""
    keras.utils.set_random_seed(0)
    model, recorder = Inner(lambda h: h), trainobs.Recorder(every=1)

    @tf.function
    def step(x):
        with recorder.watch(model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.cast(tf.argsort(model(x), axis=0), tf.float32))
            tape.gradient(loss, model.trainable_variables)

    step(X)
    (found,) = trainobs.explain_near_zero_gradients(recorder).findings.itertuples()
    assert found.cause == "disconnected" and "tf.argsort(model(x), axis=0)" in found.evidence


def test_an_output_that_operations_made_is_no_head():
    """Whether it can pass gradients is not read off the layer before."""
    keras.utils.set_random_seed(0)

    class Probabilities(Inner):
        def call(self, x):
            return tf.nn.sigmoid(super().call(x))

    model = Probabilities(lambda h: h)
    model.compile("sgd", "binary_crossentropy")
    report = trainobs.explain_near_zero_gradients(model, X, (X[:, :1] > 0).astype(np.float32))
    assert "output_mismatch" not in set(report.findings.cause)
