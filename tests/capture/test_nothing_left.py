"""When the observer has gone, nothing of it is left: after a fit, after a capture, after an error."""

import functools

import keras
import keras.src.backend.tensorflow.nn as keras_nn
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from trainobs.errors import ModelNotReady

PATCHED = (
    "call",
    "activation",
    "apply",
    "scale_loss",
    "train_function",
    "train_step",
    "compute_loss",
    "make_train_function",
)


def objects(model):
    """The model, all that is in it, and the module that its losses call."""
    inside = [model, *model._flatten_layers(include_self=False)]
    operations = [
        op for part in inside if isinstance(part, keras.Model) for op in getattr(part, "operations", ())
    ]
    found = {id(thing): thing for thing in [*inside, *operations, *zoo.optimizers(model), keras_nn]}
    return list(found.values())


def surface(model):
    """Which attributes each object holds, and what stands under the names that taps use."""
    return [
        (
            thing,
            sorted(vars(thing).keys() - {"history"}),
            {name: bound(getattr(thing, name)) for name in PATCHED if hasattr(thing, name)},
            vars(thing) if thing is keras_nn else None,
        )
        for thing in objects(model)
    ]


def bound(value):
    """A method as its function and its object: each look-up makes a new method."""
    return getattr(value, "__func__", value), getattr(value, "__self__", None)


def assert_untouched(before, model):
    """Every object holds what it held; the same function stands under every name."""
    after = surface(model)
    assert [thing for thing, *_ in before] == [thing for thing, *_ in after]
    for (thing, names, functions, _), (_, names_after, functions_after, _) in zip(before, after, strict=True):
        assert names == names_after, thing
        for name, function in functions.items():
            assert function[0] is functions_after[name][0], (thing, name)
            assert function[1] is functions_after[name][1], (thing, name)


# ---- a fit that ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "conv_net_with_batch_norm_and_dropout",
        "softmax_op_in_functional_graph",
        "layers_as_activations",
        "half_precision",
        "adversaries",
    ],
)
def test_after_a_fit(name):
    """Model, layers and optimizers are what they were before they were observed."""
    model, fit = zoo.fresh(name)
    fit["epochs"] = 1
    model.fit(**fit)
    before = surface(model)
    model.fit(**fit, callbacks=[trainobs.Recorder(every=2)])
    assert_untouched(before, model)


# ---- a fit that breaks off -------------------------------------------------------------------


class Trouble(Exception):
    """What a user's code raises in these tests."""


class Raises(keras.callbacks.Callback):
    """Raises once, in one of its methods, at the third batch."""

    def __init__(self, method, error):
        super().__init__()
        self.batches = 0
        self.error = error
        setattr(self, method, self.count)

    def count(self, batch, logs=None):
        self.batches += 1
        if self.batches == 3:
            raise self.error("in a callback")


ARMED: dict[str, type[BaseException]] = {}


def explode(where):
    """Raise what the test has laid out there, once."""
    if where in ARMED:
        raise ARMED.pop(where)(where)


class Touchy(keras.layers.Layer):
    """Raises while it is traced."""

    def call(self, inputs):
        explode("in a layer's call")
        return inputs


class TouchyLoss(keras.losses.Loss):
    """Raises while it is traced."""

    def call(self, y_true, y_pred):
        explode("in the loss")
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


class TouchyData(keras.utils.PyDataset):
    """Raises at its third batch."""

    @property
    def num_batches(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            explode("in the data")
        x, y = zoo.digits()
        return x[index * 16 : index * 16 + 16], np.eye(10, dtype="float32")[y[index * 16 : index * 16 + 16]]


def model_to_break():
    """A net whose parts can raise, after a first fit that they let pass."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    ARMED.clear()
    stack = [keras.Input((64,)), keras.layers.Dense(8, "relu"), Touchy(), keras.layers.Dropout(0.3)]
    model = zoo.compiled(keras.Sequential([*stack, keras.layers.Dense(10)]), TouchyLoss())
    model.fit(TouchyData(), verbose=0, shuffle=False)
    return model


#: What raises, what it raises, and where the Recorder stands in the list of callbacks.
BREAKS = {
    "begin_of_a_batch_before_the_recorder": (lambda: Raises("on_train_batch_begin", Trouble), 1),
    "begin_of_a_batch_behind_the_recorder": (lambda: Raises("on_train_batch_begin", Trouble), 0),
    "end_of_a_batch_before_the_recorder": (lambda: Raises("on_train_batch_end", Trouble), 1),
    "end_of_a_batch_behind_the_recorder": (lambda: Raises("on_train_batch_end", Trouble), 0),
    "interrupt_at_the_end_of_a_batch": (lambda: Raises("on_train_batch_end", KeyboardInterrupt), 0),
    "interrupt_at_the_begin_of_a_batch": (lambda: Raises("on_train_batch_begin", KeyboardInterrupt), 0),
}


def broken_off(model, callbacks):
    """Fit until something raises."""
    with pytest.raises((Trouble, KeyboardInterrupt, tf.errors.OpError)):
        model.fit(TouchyData(), epochs=2, verbose=0, shuffle=False, callbacks=callbacks)


@functools.cache
def state_after_a_break(at_the_begin):
    """What is left after a fit that a callback broke off, and one more; without a Recorder."""
    model = model_to_break()
    broken_off(model, [Raises("on_train_batch_begin" if at_the_begin else "on_train_batch_end", Trouble)])
    model.fit(TouchyData(), verbose=0, shuffle=False)
    return zoo.state(model)


def assert_next_fits_are_right(model, recorder, expected):
    """Training goes on as if it had not been observed; so does recording."""
    model.fit(TouchyData(), verbose=0, shuffle=False)
    zoo.assert_same(expected, zoo.state(model))
    run = int(model.optimizer.iterations) - 8  # the first and the last fit went without the Recorder
    assert recorder.recording.steps == tuple(range(run))
    before = surface(model)
    kernel = model.layers[0].kernel.numpy()
    model.fit(TouchyData(), verbose=0, shuffle=False, callbacks=[recorder])
    assert recorder.recording.steps == tuple(range(run + 4))
    np.testing.assert_array_equal(recorder.recording.at(run).sites[0].kernel, kernel)
    assert_untouched(before, model)


@pytest.mark.parametrize("name", BREAKS)
def test_after_an_error_in_a_callback(name):
    """Wherever a callback raises, the next fit is the one that would have come without a Recorder."""
    make, place = BREAKS[name]
    expected = state_after_a_break("begin" in name)
    model, recorder = model_to_break(), trainobs.Recorder(every=1)
    before = surface(model)
    callbacks = [make()]
    callbacks.insert(place, recorder)
    broken_off(model, callbacks)
    if not (place == 0 and "begin" in name):  # then the stand-in for this one step is still there
        assert_untouched(before, model)
    assert_next_fits_are_right(model, recorder, expected)


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_after_an_error_while_the_twin_is_traced(error):
    """An error in a layer's call, met only by the twin's trace, leaves the model as it was."""
    model = model_to_break()
    model.fit(TouchyData(), verbose=0, shuffle=False)
    expected = zoo.state(model)

    model, recorder = model_to_break(), trainobs.Recorder(every=1)
    before = surface(model)
    ARMED["in a layer's call"] = error
    with pytest.raises(error, match="in a layer's call"):
        model.fit(TouchyData(), verbose=0, shuffle=False, callbacks=[recorder])
    assert_untouched(before, model)
    assert_next_fits_are_right(model, recorder, expected)


def test_after_an_error_in_the_loss():
    """The same for an error inside of the loss."""
    model, recorder = model_to_break(), trainobs.Recorder(every=1)
    before = surface(model)
    ARMED["in the loss"] = Trouble
    with pytest.raises(Trouble, match="in the loss"):
        model.fit(TouchyData(), verbose=0, shuffle=False, callbacks=[recorder])
    assert_untouched(before, model)
    model.fit(TouchyData(), verbose=0, shuffle=False, callbacks=[recorder])
    assert recorder.recording.steps == (0, 1, 2, 3)


def test_after_an_error_in_the_data():
    """The same for an error of the data in the middle of an epoch, a step that has no batch."""
    model, recorder = model_to_break(), trainobs.Recorder(every=1)
    before = surface(model)
    ARMED["in the data"] = Trouble
    broken_off(model, [recorder])
    assert_untouched(before, model)
    assert recorder.recording.steps == (0, 1)
    kernel = model.layers[0].kernel.numpy()
    model.fit(TouchyData(), verbose=0, shuffle=False, callbacks=[recorder])
    assert recorder.recording.steps == (0, 1, 2, 3, 4, 5)
    np.testing.assert_array_equal(recorder.recording.at(2).sites[0].kernel, kernel)


# ---- captures --------------------------------------------------------------------------------

CAPTURED = [
    "conv_net_with_batch_norm_and_dropout",
    "two_inputs_two_outputs_and_a_skip",
    "half_precision",
    "moving_average_of_weights",
    "gradient_accumulation",
    "own_train_step",
    "adversaries",
    "eager",
]


def batch_of(fit):
    """The first eight samples of what a fit gets."""
    x, y = fit["x"], fit.get("y")
    return [
        data if data is None else keras.tree.map_structure(lambda array: array[:8], data) for data in (x, y)
    ]


@pytest.mark.parametrize("name", CAPTURED)
def test_capture_leaves_a_trained_model_as_it_was(name):
    """Weights, moving statistics, optimizers, metrics and random numbers stand where they stood."""
    model, fit = zoo.fresh(name)
    model.fit(**fit | {"epochs": 1})
    untouched, before = surface(model), zoo.state(model)
    record = trainobs.capture_batch(model, *batch_of(fit))
    zoo.assert_same(before, zoo.state(model))
    assert_untouched(untouched, model)
    assert record.sites


@pytest.mark.parametrize("name", ["dense_net", "own_train_step"])
def test_training_after_the_capture_of_a_new_model(name):
    """A capture before the first fit, which may build the model, changes nothing in that fit."""
    expected = zoo.train(name)
    model, fit = zoo.fresh(name)
    trainobs.capture_batch(model, *batch_of(fit))
    history = model.fit(**fit).history
    found = zoo.state(model) | {f"history {key}": np.array(values) for key, values in history.items()}
    zoo.assert_same(expected, found)


def test_capture_does_not_count_in_metrics():
    """Metrics that the capture is the first to build are empty afterwards."""
    model, fit = zoo.fresh("dense_net")
    trainobs.capture_batch(model, *batch_of(fit))
    assert [float(np.sum(v.numpy())) for v in model.metrics_variables] == [0.0] * len(model.metrics_variables)


def test_capture_does_not_draw_from_python_random():
    """Layers made after a capture start from the weights they would have had."""

    def next_kernel(*, captured):
        model, fit = zoo.fresh("dense_net")
        if captured:
            trainobs.capture_batch(model, *batch_of(fit))
        following = keras.layers.Dense(3)
        following.build((None, 4))
        return following.kernel.numpy()

    np.testing.assert_array_equal(next_kernel(captured=False), next_kernel(captured=True))


class Decays(keras.Sequential):
    """Its train step changes a weight past the optimizer."""

    def train_step(self, data):
        logs = super().train_step(data)
        kernel = self.layers[0].kernel
        kernel.assign(0.9 * kernel)
        return logs


def test_capture_takes_back_what_the_step_assigns():
    """A weight that the user's own step assigns is put back too."""
    x, y = zoo.digits()
    model = zoo.compiled(Decays([keras.Input((64,)), keras.layers.Dense(10)]))
    before = zoo.state(model)
    trainobs.capture_batch(model, x[:8], y[:8])
    zoo.assert_same(before, {name: value for name, value in zoo.state(model).items() if name in before})


class ManyOptimizers(keras.Sequential):
    """Keeps its optimizers in a list."""

    def compile(self, **settings):
        super().compile(**settings)
        self.several = [keras.optimizers.SGD(0.1)]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.several[0].apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def test_capture_withholds_the_update_of_an_optimizer_in_a_list():
    """An optimizer is found, and kept from updating, wherever the model holds it."""
    x, y = zoo.digits()
    model = ManyOptimizers([keras.Input((64,)), keras.layers.Dense(10)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = zoo.state(model)
    record = trainobs.capture_batch(model, x[:8], y[:8])
    zoo.assert_same(before, {name: value for name, value in zoo.state(model).items() if name in before})
    assert int(model.several[0].iterations) == 0
    assert record.sites[0].kernel_gradient is not None


class StepInHelper(keras.Sequential):
    """Its train step leaves all to a tf.function, whose trace TensorFlow keeps."""

    @tf.function
    def learn(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}

    def train_step(self, data):
        return self.learn(*data)


@pytest.mark.parametrize("trained", [False, True])
def test_capture_of_an_update_in_a_function_of_its_own(trained):
    """It can't be withheld: a new trace is refused, one that is there is run and taken back."""
    x, y = (array[:32] for array in zoo.digits())
    model = zoo.compiled(StepInHelper([keras.Input((64,)), keras.layers.Dense(10)]))
    model.optimizer.build(model.trainable_variables)
    if trained:
        model.fit(x, y, verbose=0)
    before = zoo.state(model)
    with pytest.raises(ModelNotReady, match=r"tf\.function of"):
        trainobs.explain_near_zero_gradients(model, x, y)
    zoo.assert_same(before, {name: value for name, value in zoo.state(model).items() if name in before})
    model.fit(x, y, verbose=0)
    assert not np.array_equal(before["model " + model.layers[0].kernel.path], model.layers[0].kernel)


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_after_an_error_in_a_capture(error):
    """A capture that fails leaves all as it was, and the next one is right."""
    x = zoo.digits()[0]
    model = model_to_break()
    untouched, before = surface(model), zoo.state(model)
    ARMED["in a layer's call"] = error
    with pytest.raises(error, match="in a layer's call"):
        trainobs.capture_batch(model, x[:8], zoo.one_hot()[:8])
    zoo.assert_same(before, zoo.state(model))
    assert_untouched(untouched, model)
    assert len(trainobs.capture_batch(model, x[:8], zoo.one_hot()[:8]).sites) == 4  # two kernels, two biases


def test_error_of_a_user_keeps_its_type():
    """An exception class with its own arguments comes out of a capture as it was raised."""

    class Strange(Exception):
        def __init__(self, code, *, reason):
            super().__init__(code, reason)
            self.code = code

    def loss(y_true, y_pred):
        raise Strange(7, reason="no reason")

    x, y = zoo.digits()
    model = zoo.compiled(zoo.net(), loss)
    with pytest.raises(Strange) as caught:
        trainobs.capture_batch(model, x[:8], y[:8])
    assert caught.value.code == 7
