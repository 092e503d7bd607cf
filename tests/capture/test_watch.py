"""Hand-written loops: what is recorded in a `watch` block is what `fit` would have recorded there."""

from __future__ import annotations

import contextlib
import functools
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.capture.terms import assert_every_weight_is_there, assert_terms_add_up
from tests.capture.test_nothing_left import assert_untouched, surface
from trainobs.errors import InvalidArgument, ModelNotReady

layers = keras.layers
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

NO_GRADIENT = (
    "Step {} was due, but the watched block took no gradient of the model's weights that could be recorded. "
    "If it calls a tf.function that was traced before, put `with recorder.watch(model):` inside of that "
    "function."
)

# ---- models ----------------------------------------------------------------------------------


class Subclassed(keras.Model):
    """Built by its first call, with operations between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(8, "relu"), layers.Dense(10)
        self.norm = layers.BatchNormalization()

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.second(tf.abs(self.norm(self.first(inputs), training=training)))


def convolutions() -> keras.Model:
    """Dropout, and moving statistics that every step updates."""
    stack = [
        keras.Input((64,)),
        layers.Reshape((8, 8, 1)),
        layers.Conv2D(3, 3, use_bias=False),
        layers.BatchNormalization(),
    ]
    stack += [layers.ReLU(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(10)]
    return keras.Sequential(stack)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "functional": zoo.net,
    "with_dropout_and_statistics": convolutions,
    "built_by_its_first_call": lambda: keras.Sequential([layers.Dense(8, "tanh"), layers.Dense(10)]),
    "subclassed": Subclassed,
}


def fresh(make: Callable[[], keras.Model] = zoo.net) -> tuple[keras.Model, Any]:
    """A model that is not compiled, and an optimizer that is not its own, from the same seeds each time."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    return make(), keras.optimizers.SGD(0.05, momentum=0.9)


def tensors() -> Iterator[tuple[Any, Any]]:
    """One epoch of six batches, the last one ragged."""
    return ((tf.constant(x), tf.constant(y)) for x, y in zoo.batches())


# ---- loops: each yields, of every step, what the tape gave -----------------------------------

Watch = Callable[[], Any]
Loop = Callable[[keras.Model, Any, Watch], Any]


def step_of(model: keras.Model, optimizer: Any, x: Any, y: Any) -> tuple[Any, list[Any]]:
    """An ordinary step: one tape, one update."""
    with tf.GradientTape() as tape:
        loss = loss_of(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss, gradients


def eagerly(model: keras.Model, optimizer: Any, watch: Watch) -> Any:
    """Around eager code."""
    for x, y in tensors():
        with watch():
            found = step_of(model, optimizer, x, y)
        yield found


def inside(model: keras.Model, optimizer: Any, watch: Watch) -> Any:
    """Inside of a function; the ragged batch has a trace of its own."""

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with watch():
            return step_of(model, optimizer, x, y)

    for x, y in tensors():
        yield step(x, y)


def around(model: keras.Model, optimizer: Any, watch: Watch) -> Any:
    """Around the call of a function; the ragged batch has a trace of its own."""
    step = tf.function(lambda x, y: step_of(model, optimizer, x, y))
    for x, y in tensors():
        with watch():
            found = step(x, y)
        yield found


def around_any_shape(model: keras.Model, optimizer: Any, watch: Watch) -> Any:
    """Around the call of a function with one trace for all batches."""
    signature = [tf.TensorSpec((None, 64)), tf.TensorSpec((None,), tf.int64)]
    step = tf.function(lambda x, y: step_of(model, optimizer, x, y), input_signature=signature)
    for x, y in tensors():
        with watch():
            found = step(x, y)
        yield found


def over_a_dataset(model: keras.Model, optimizer: Any, watch: Watch) -> Any:
    """Inside of a loop that is a part of the graph."""
    x, y = zoo.digits()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(zoo.BATCH)

    @tf.function
    def epoch() -> Any:
        losses = tf.TensorArray(tf.float32, zoo.STEPS)
        for number, (x, y) in data.enumerate():
            with watch():
                losses = losses.write(tf.cast(number, tf.int32), step_of(model, optimizer, x, y)[0])
        return losses.stack()  # noqa: PD013

    if not model.built:  # or its weights would be made inside of the loop
        model(tf.zeros((1, 64)))
    optimizer.build(model.trainable_variables)
    for loss in epoch():
        yield loss, None


LOOPS: dict[str, Loop] = {
    loop.__name__: loop for loop in (eagerly, inside, around, around_any_shape, over_a_dataset)
}


def run(
    loop: Loop, make: Callable[[], keras.Model], recorder: trainobs.Recorder | None = None, epochs: int = 1
) -> tuple[keras.Model, dict[str, np.ndarray], list[Any]]:
    """Train; give the model, all that the training left, and what the tapes gave."""
    model, optimizer = fresh(make)
    watch = contextlib.nullcontext if recorder is None else lambda: recorder.watch(model)
    found = [item for _ in range(epochs) for item in loop(model, optimizer, watch)]
    state = zoo.state(model) | {f"optimizer {v.path}": v.numpy() for v in optimizer.variables}
    values = [np.asarray(t) for t in keras.tree.flatten(found) if t is not None]
    return model, state | {f"given {i}": value for i, value in enumerate(values)}, found


def assert_gradients(record: Any, gradients: list[Any], variables: list[Any], loss: int = 0) -> None:
    """Every variable's recorded gradient is the one that the tape gave, to the last bit."""
    found = {site.weight: site.kernel_gradient for site in record.sites if site.loss == loss}
    found |= {weight.weight: weight.gradient for weight in record.weights}
    for variable, gradient in zip(variables, gradients, strict=True):
        np.testing.assert_array_equal(found[variable.path], np.asarray(gradient), err_msg=variable.path)


def assert_explained(record: Any, model: keras.Model) -> None:
    """Every weight has its row, and its terms add up."""
    assert_every_weight_is_there(record, model)
    assert_terms_add_up(record)
    report = trainobs.explain_near_zero_gradients(trainobs.Recording((record,)))
    assert set(report.layers.index) == {v.path for v in model.trainable_variables}
    assert report.layers.residual.max() < 1e-6


SAME = ("activation", "node", "activation_node", "consumers", "trainable", "logits", "role", "part")
FIELDS = ("input", "kernel", "preactivation", "output", "slope", "output_gradient", "preactivation_gradient")


def assert_same_records(found: Any, expected: Any) -> None:
    """Site by site and node by node, up to rounding that grows with the steps."""
    assert found.steps == expected.steps
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own.loss, other.loss, rtol=1e-4)
        assert [s.key for s in own.sites] == [s.key for s in other.sites]
        for left, right in zip(own.sites, other.sites, strict=True):
            for name in (*FIELDS, "kernel_gradient"):
                ours, theirs = getattr(left, name), getattr(right, name)
                assert (ours is None) == (theirs is None), (left.key, name)
                if ours is not None:
                    atol = 1e-4 * np.abs(theirs).max(initial=1e-6)
                    np.testing.assert_allclose(
                        ours, theirs, rtol=1e-3, atol=atol, err_msg=f"{left.key} {name}"
                    )
            assert [getattr(left, name) for name in SAME] == [getattr(right, name) for name in SAME]
        assert [(n.layer, n.producers, n.samples) for n in own.nodes] == [
            (n.layer, n.producers, n.samples) for n in other.nodes
        ]


# ---- one model, one tape ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loop", LOOPS)
def test_loop_of_ones_own(loop: str, name: str) -> None:
    """Training is bit-equal, records hold the tape's gradients and explain every weight."""
    _, expected, _ = run(LOOPS[loop], MODELS[name])
    recorder = trainobs.Recorder(every=1)
    model, state, found = run(LOOPS[loop], MODELS[name], recorder)
    zoo.assert_same(expected, state)
    assert recorder.recording.steps == tuple(range(zoo.STEPS))
    for record, (loss, gradients) in zip(recorder.recording, found, strict=True):
        np.testing.assert_allclose(record.loss, loss, rtol=1e-6)
        if gradients is not None:
            assert_gradients(record, gradients, model.trainable_variables)
    assert_explained(recorder.recording.at(), model)


@pytest.mark.parametrize("name", MODELS)
def test_records_are_those_of_fit(name: str) -> None:
    """The same model, compiled and fitted with the Recorder as a callback, gives the same records."""
    for loops, eager in (((eagerly,), True), ((inside, around), False)):
        model, optimizer = fresh(MODELS[name])
        in_fit = trainobs.Recorder(every=1)
        fit = dict(batch_size=zoo.BATCH, shuffle=False, verbose=0, callbacks=[in_fit])
        zoo.compiled(model, loss_of, optimizer, run_eagerly=eager).fit(*zoo.digits(), **fit)
        for loop in loops:
            recorder = trainobs.Recorder(every=1)
            run(loop, MODELS[name], recorder)
            assert_same_records(recorder.recording, in_fit.recording)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left(loop: str) -> None:
    """Model, layers, optimizer and TensorFlow's tape are what they were."""
    gradient, scale_loss = tf.GradientTape.gradient, keras.optimizers.LossScaleOptimizer.scale_loss
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    before, own = surface(model), sorted(vars(optimizer))
    recorder = trainobs.Recorder(every=2)
    for _ in LOOPS[loop](model, optimizer, lambda: recorder.watch(model)):
        assert_untouched(before, model)
    assert sorted(vars(optimizer)) == own
    assert tf.GradientTape.gradient is gradient
    assert keras.optimizers.LossScaleOptimizer.scale_loss is scale_loss


def test_compiled_model_with_its_own_optimizer() -> None:
    """A loop that uses the optimizer, and the loss, that the model was compiled with."""
    x, y = (tf.constant(array[:16]) for array in zoo.digits())
    states = []
    for recorder in (None, trainobs.Recorder(every=1)):
        model, optimizer = fresh()
        zoo.compiled(model, loss_of, optimizer)
        for _ in range(3):
            with recorder.watch(model) if recorder else contextlib.nullcontext():
                with tf.GradientTape() as tape:
                    loss = model.compute_loss(x, y, model(x, training=True))
                gradients = tape.gradient(loss, model.trainable_variables)
                model.optimizer.apply(gradients, model.trainable_variables)
        states.append(zoo.state(model))
    zoo.assert_same(*states)
    assert recorder.recording.steps == (0, 1, 2)
    assert_gradients(recorder.recording.at(), gradients, model.trainable_variables)
    assert recorder.recording.at().outputs[0].target is not None


# ---- which steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("schedule", "steps"), [({"every": 5}, (0, 5, 10)), ({"at": [1, 5, 8, 11]}, (1, 5, 8, 11))]
)
def test_schedules(loop: str, schedule: dict[str, Any], steps: tuple[int, ...]) -> None:
    """Steps are counted over epochs; those that are due are recorded, also of a shape that comes later."""
    _, expected, _ = run(LOOPS[loop], zoo.net, epochs=2)
    recorder = trainobs.Recorder(**schedule)
    model, state, _ = run(LOOPS[loop], zoo.net, recorder, epochs=2)
    zoo.assert_same(expected, state)
    assert recorder.recording.steps == steps
    samples = [8 if step % zoo.STEPS == zoo.STEPS - 1 else zoo.BATCH for step in steps]
    assert [len(record.sites[0].input) for record in recorder.recording] == samples
    assert_explained(recorder.recording.at(), model)


def test_ragged_batch_that_is_traced_when_it_is_not_due() -> None:
    """A function that first meets a shape at another step hands out that shape too when it is due."""
    recorder = trainobs.Recorder(at=[2 * zoo.STEPS - 1])
    run(around, zoo.net, recorder, epochs=2)
    model, optimizer = fresh()
    step = tf.function(lambda x, y: step_of(model, optimizer, x, y))
    recorder = trainobs.Recorder(at=[zoo.STEPS * 2 - 1])
    for _ in range(2):
        for x, y in tensors():
            with recorder.watch(model):
                step(x, y)
    assert [len(record.sites[0].input) for record in recorder.recording] == [8]


def test_steps_go_on_in_fit() -> None:
    """One Recorder counts the steps of a loop and of a later fit."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(at=[5, 6, 7])
    list(eagerly(model, optimizer, lambda: recorder.watch(model)))
    zoo.compiled(model, loss_of).fit(*zoo.digits(), batch_size=16, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (5, 6, 7)
    list(eagerly(model, optimizer, lambda: recorder.watch(model)))
    assert recorder._steps.first == 3 * zoo.STEPS


@pytest.mark.parametrize("loop", [eagerly, inside])
def test_statistics(loop: Loop) -> None:
    """Kept statistics give the report that kept tensors give."""
    reports = []
    for keep in ("tensors", "statistics"):
        recorder = trainobs.Recorder(every=5, keep=keep)
        run(loop, zoo.net, recorder)
        assert recorder.recording.steps == (0, 5)
        reports.append(trainobs.explain_near_zero_gradients(recorder))
    pd.testing.assert_frame_equal(reports[0].layers, reports[1].layers)


def test_layers() -> None:
    """Only the layers that were asked for are recorded."""
    recorder = trainobs.Recorder(every=1, layers="head")
    run(inside, zoo.net, recorder)
    assert {site.layer for site in recorder.recording.at().sites} == {"head"}
    assert not recorder.recording.at().weights


def test_blocks_that_end_early() -> None:
    """`continue`, `break` and `return` end a step like any other."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(every=1)

    def steps() -> None:
        for number, (x, y) in enumerate(tensors()):
            with recorder.watch(model):
                step_of(model, optimizer, x, y)
                if number == 0:
                    continue
                return

    steps()
    for x, y in tensors():
        with recorder.watch(model):
            step_of(model, optimizer, x, y)
            break
    assert recorder.recording.steps == (0, 1, 2)


# ---- other steps ------------------------------------------------------------------------------


def in_both_modes(function: Callable[..., Any]) -> Callable[..., Any]:
    """As it is, and inside of a `tf.function`."""
    return pytest.mark.parametrize("mode", [lambda step: step, tf.function], ids=["eager", "graph"])(function)


@in_both_modes
def test_own_clipping(mode: Callable[..., Any]) -> None:
    """Gradients are recorded as the tape gave them, before the loop clips them by their global norm."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(every=1)

    @mode
    def step(x: Any, y: Any) -> Any:
        with recorder.watch(model):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            clipped, _ = tf.clip_by_global_norm(gradients, 1e-3)
            optimizer.apply(clipped, model.trainable_variables)
            return gradients

    for x, y in tensors():
        gradients = step(x, y)
        assert_gradients(recorder.recording.at(), gradients, model.trainable_variables)
    assert_explained(recorder.recording.at(), model)


@in_both_modes
def test_persistent_tape(mode: Callable[..., Any]) -> None:
    """Two losses of one tape: each weight has the gradient of the loss that it was asked for."""
    model, _ = fresh()
    hidden, head = model.layers
    recorder = trainobs.Recorder(every=1)

    @mode
    def step(x: Any, y: Any) -> Any:
        with recorder.watch(model):
            with tf.GradientTape(persistent=True) as tape:
                prediction = model(x, training=True)
                first, second = loss_of(y, prediction), tf.reduce_mean(prediction**2)
            return tape.gradient(first, head.trainable_variables), tape.gradient(
                second, hidden.trainable_variables
            )

    x, y = next(tensors())
    of_head, of_hidden = step(x, y)
    record = recorder.recording.at()
    assert_gradients(record, of_head, head.trainable_variables, loss=0)
    assert_gradients(record, of_hidden, hidden.trainable_variables, loss=1)
    assert {(site.layer, site.loss) for site in record.sites} == {("head", 0), ("hidden", 1)}
    assert_explained(record, model)


@in_both_modes
def test_several_tapes_of_one_model(mode: Callable[..., Any]) -> None:
    """Gradients accumulated by hand: every tape has its own half of the batch in one record."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(every=1)

    @mode
    def step(x: Any, y: Any) -> Any:
        found = []
        with recorder.watch(model):
            for part in (slice(0, 8), slice(8, 16)):
                with tf.GradientTape() as tape:
                    loss = loss_of(y[part], model(x[part], training=True))
                found.append(tape.gradient(loss, model.trainable_variables))
            added = [a + b for a, b in zip(*found, strict=True)]
            optimizer.apply(added, model.trainable_variables)
        return found

    x, y = next(tensors())
    found = step(x, y)
    record = recorder.recording.at()
    for number, gradients in enumerate(found):
        assert_gradients(record, gradients, model.trainable_variables, loss=number)
    assert [len(site.input) for site in record.sites if site.layer == "hidden"] == [8, 8, 8, 8]
    assert_explained(record, model)


@in_both_modes
def test_microbatch_as_a_step(mode: Callable[..., Any]) -> None:
    """A block around each micro-batch: each is a step, the update comes behind the last of them."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    kept = [tf.Variable(tf.zeros_like(v)) for v in model.trainable_variables]
    recorder = trainobs.Recorder(every=1)

    @mode
    def add(x: Any, y: Any) -> Any:
        with recorder.watch(model):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
        for own, gradient in zip(kept, gradients, strict=True):
            own.assign_add(gradient)
        return gradients

    given = [add(x, y) for x, y in tensors()]
    optimizer.apply([tf.convert_to_tensor(own) for own in kept], model.trainable_variables)
    for record, gradients in zip(recorder.recording, given, strict=True):
        assert_gradients(record, gradients, model.trainable_variables)


@in_both_modes
def test_scaled_loss(mode: Callable[..., Any]) -> None:
    """With an optimizer that scales the loss, in half precision, all that is recorded is unscaled."""
    states = []
    for recorder in (None, trainobs.Recorder(every=1)):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model, optimizer = fresh()
        finally:
            keras.config.set_dtype_policy(policy)
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
        optimizer.build(model.trainable_variables)

        @mode
        def step(x: Any, y: Any) -> Any:
            with recorder.watch(model) if recorder else contextlib.nullcontext():  # noqa: B023
                with tf.GradientTape() as tape:
                    loss = loss_of(y, tf.cast(model(x, training=True), tf.float32))  # noqa: B023
                    scaled = optimizer.scale_loss(loss)  # noqa: B023
                gradients = tape.gradient(scaled, model.trainable_variables)  # noqa: B023
                optimizer.apply(gradients, model.trainable_variables)  # noqa: B023
            return loss, gradients

        given = [step(x, y) for x, y in tensors()]
        states.append(zoo.state(model) | {f"optimizer {v.path}": v.numpy() for v in optimizer.variables})
    zoo.assert_same(*states)
    for record, (loss, gradients) in zip(recorder.recording, given, strict=True):
        np.testing.assert_allclose(record.loss, loss, rtol=1e-6)
        assert_gradients(record, [g / 2.0**10 for g in gradients], model.trainable_variables)
        assert_every_weight_is_there(record, model)
        assert_terms_add_up(record)


@in_both_modes
def test_penalties_inside_of_the_loss(mode: Callable[..., Any]) -> None:
    """The gradient of a regulariser, and that of the loss added to the model's own losses."""
    make = lambda: keras.Sequential(  # noqa: E731
        [keras.Input((64,)), layers.Dense(8, "tanh", kernel_regularizer="l2"), layers.Dense(10)]
    )
    model, _ = fresh(make)
    recorder = trainobs.Recorder(every=1)

    @mode
    def step(x: Any, y: Any) -> Any:
        with recorder.watch(model):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True)) + tf.add_n(model.losses)
            return tape.gradient(loss, model.trainable_variables)

    gradients = step(*next(tensors()))
    record = recorder.recording.at()
    assert_gradients(record, gradients, model.trainable_variables)
    kernel = model.layers[0].kernel.numpy()
    np.testing.assert_allclose(record.sites[0].penalty_gradient, 0.02 * kernel, rtol=1e-6)
    assert_explained(record, model)


# ---- two models -------------------------------------------------------------------------------


class Pair:
    """A maker of images and a judge, with an optimizer each."""

    def __init__(self) -> None:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(5)
        self.maker = keras.Sequential(
            [keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(64)], name="maker"
        )
        self.judge = keras.Sequential(
            [keras.Input((64,)), layers.Dense(8, layers.LeakyReLU()), layers.Dense(1)], name="judge"
        )
        self.optimizers = keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02)
        for optimizer, model in zip(self.optimizers, (self.maker, self.judge), strict=True):
            optimizer.build(model.trainable_variables)
        self.score = keras.losses.BinaryCrossentropy(from_logits=True)

    def losses(self, x: Any, noise: Any) -> tuple[Any, Any]:
        """Of the maker and of the judge."""
        real, fake = self.judge(x, training=True), self.judge(self.maker(noise, training=True), training=True)
        ones, zeros = tf.ones_like(fake), tf.zeros_like(fake)
        return self.score(ones, fake), self.score(ones, real) + self.score(zeros, fake)

    def train(self, which: int, x: Any, noise: Any) -> list[Any]:
        """A step of one of them, with a tape of its own."""
        model = (self.maker, self.judge)[which]
        with tf.GradientTape() as tape:
            loss = self.losses(x, noise)[which]
        gradients = tape.gradient(loss, model.trainable_variables)
        self.optimizers[which].apply(gradients, model.trainable_variables)
        return gradients

    def train_both(self, x: Any, noise: Any) -> tuple[list[Any], list[Any]]:
        """TensorFlow's tutorial: two tapes watch one forward pass."""
        with tf.GradientTape() as makes, tf.GradientTape() as judges:
            losses = self.losses(x, noise)
        first = makes.gradient(losses[0], self.maker.trainable_variables)
        second = judges.gradient(losses[1], self.judge.trainable_variables)
        self.optimizers[0].apply(first, self.maker.trainable_variables)
        self.optimizers[1].apply(second, self.judge.trainable_variables)
        return first, second

    def state(self) -> dict[str, np.ndarray]:
        """All that training may change."""
        optimizers = {f"{i} {v.path}": v.numpy() for i, o in enumerate(self.optimizers) for v in o.variables}
        return optimizers | {v.path: v.numpy() for m in (self.maker, self.judge) for v in m.variables}


def data_of_a_pair() -> list[tuple[Any, Any]]:
    """Three batches of images and noise."""
    rng = np.random.default_rng(1)
    return [(x, tf.constant(rng.normal(size=(16, 5)).astype("float32"))) for x, _ in list(tensors())[:3]]


def one_block(pair: Pair, watch: Callable[..., Any]) -> Any:
    """Both tapes in one eager block."""
    for x, noise in data_of_a_pair():
        with watch(pair.maker, pair.judge):
            found = pair.train_both(x, noise)
        yield found


def one_block_inside(pair: Pair, watch: Callable[..., Any]) -> Any:
    """Both tapes in one block of one function."""

    @tf.function
    def step(x: Any, noise: Any) -> Any:
        with watch(pair.maker, pair.judge):
            return pair.train_both(x, noise)

    for x, noise in data_of_a_pair():
        yield step(x, noise)


def one_after_the_other(pair: Pair, watch: Callable[..., Any]) -> Any:
    """One block around two passes, each forwards and back."""
    for x, noise in data_of_a_pair():
        with watch(pair.maker, pair.judge):
            found = [pair.train(which, x, noise) for which in (0, 1)]
        yield found


def two_functions(pair: Pair, watch: Callable[..., Any]) -> Any:
    """One block around the calls of two functions, each with a trace of its own."""
    make, judge = tf.function(pair.train), tf.function(pair.train)
    for x, noise in data_of_a_pair():
        with watch(pair.maker, pair.judge):
            found = make(0, x, noise), judge(1, x, noise)
        yield found


def a_function_and_eager_code(pair: Pair, watch: Callable[..., Any]) -> Any:
    """One block around the call of a function and code that is none."""
    make = tf.function(pair.train)
    for x, noise in data_of_a_pair():
        with watch(pair.maker, pair.judge):
            found = make(0, x, noise), pair.train(1, x, noise)
        yield found


PAIRS = {
    loop.__name__: loop
    for loop in (one_block, one_block_inside, one_after_the_other, two_functions, a_function_and_eager_code)
}


@pytest.mark.parametrize("loop", PAIRS)
def test_two_models_in_one_block(loop: str) -> None:
    """Each model has the gradients of its own tape, training is bit-equal, nothing is left."""
    alone = Pair()
    list(PAIRS[loop](alone, lambda *_: contextlib.nullcontext()))
    pair, recorder = Pair(), trainobs.Recorder(every=1)
    before = surface(pair.maker), surface(pair.judge)
    given = list(PAIRS[loop](pair, recorder.watch))
    zoo.assert_same(alone.state(), pair.state())
    assert recorder.recording.steps == (0, 1, 2)
    for record, gradients in zip(recorder.recording, given, strict=True):
        assert not record.weights
        losses = {site.weight.split("/")[0]: site.loss for site in record.sites}
        assert sorted(losses.values()) == [0, 1]
        for model, found in zip((pair.maker, pair.judge), gradients, strict=True):
            assert_gradients(record, found, model.trainable_variables, losses[model.name])
        of_judge = [site for site in record.sites if site.loss == losses["judge"]]
        assert len(of_judge) == 8 and len({site.call for site in of_judge}) == 2  # real and made images
        assert_terms_add_up(record)
        for site in record.sites:
            assert record.nodes[site.node].layer == site.layer and record.nodes[site.node].loss == site.loss
    report = trainobs.explain_near_zero_gradients(recorder)
    variables = [*pair.maker.trainable_variables, *pair.judge.trainable_variables]
    assert set(report.layers.index) == {v.path for v in variables}
    assert report.layers.residual.max() < 1e-6
    assert np.isfinite(report.flow.gradient_rms).any()
    assert_untouched(before[0], pair.maker)
    assert_untouched(before[1], pair.judge)


@in_both_modes
def test_two_models_in_two_blocks(mode: Callable[..., Any]) -> None:
    """A block, and a Recorder, for each model: each has a step of its own."""
    alone, pair = Pair(), Pair()
    recorders = trainobs.Recorder(every=2), trainobs.Recorder(every=1)

    def step(pair: Pair, which: int, x: Any, noise: Any, *, watched: bool) -> Any:
        model = (pair.maker, pair.judge)[which]
        with recorders[which].watch(model) if watched else contextlib.nullcontext():
            return pair.train(which, x, noise)

    of_maker, of_judge = mode(step), mode(step)
    given = []
    for x, noise in data_of_a_pair():
        of_maker(alone, 0, x, noise, watched=False), of_judge(alone, 1, x, noise, watched=False)
        pairs = of_maker(pair, 0, x, noise, watched=True), of_judge(pair, 1, x, noise, watched=True)
        given.append(pairs)
    zoo.assert_same(alone.state(), pair.state())
    assert [recorder.recording.steps for recorder in recorders] == [(0, 2), (0, 1, 2)]
    for which, model in enumerate((pair.maker, pair.judge)):
        for record in recorders[which].recording:
            assert_gradients(record, given[record.step][which], model.trainable_variables)
            assert_explained(record, model)


def test_two_blocks_of_one_recorder() -> None:
    """Each block is a step: those of the maker and those of the judge take turns."""
    pair, recorder = Pair(), trainobs.Recorder(every=1)
    for x, noise in data_of_a_pair():
        for which, model in enumerate((pair.maker, pair.judge)):
            with recorder.watch(model):
                pair.train(which, x, noise)
    assert recorder.recording.steps == (0, 1, 2, 3, 4, 5)
    for record in recorder.recording:
        own = (pair.maker, pair.judge)[record.step % 2]
        assert {site.weight for site in record.sites} == {v.path for v in own.trainable_variables}


def test_two_recorders_around_one_step() -> None:
    """Nested blocks of two Recorders record the same step."""
    model, optimizer = fresh()
    recorders = trainobs.Recorder(every=1), trainobs.Recorder(every=3)
    for x, y in tensors():
        with recorders[0].watch(model), recorders[1].watch(model):
            _, gradients = step_of(model, optimizer, x, y)
        assert_gradients(recorders[0].recording.at(), gradients, model.trainable_variables)
    assert [recorder.recording.steps for recorder in recorders] == [(0, 1, 2, 3, 4, 5), (0, 3)]
    np.testing.assert_array_equal(
        recorders[0].recording.at(3).sites[0].kernel_gradient,
        recorders[1].recording.at(3).sites[0].kernel_gradient,
    )


# ---- exceptions -------------------------------------------------------------------------------


class Trouble(Exception):
    """What a user's code raises in these tests."""


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
@pytest.mark.parametrize("late", [False, True])
def test_error_in_an_eager_block(late: bool, error: type[BaseException]) -> None:
    """It comes out as it was raised; the step does not count, nothing is left, and the next one is right."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(every=1)
    gradient, before = tf.GradientTape.gradient, surface(model)
    x, y = next(tensors())
    with recorder.watch(model):
        step_of(model, optimizer, x, y)

    def broken() -> None:
        with recorder.watch(model):
            if late:
                step_of(model, optimizer, x, y)
            raise error("in the block")

    with pytest.raises(error, match="in the block"):
        broken()
    assert tf.GradientTape.gradient is gradient
    assert_untouched(before, model)
    assert recorder.recording.steps == (0,)
    with recorder.watch(model):
        _, gradients = step_of(model, optimizer, x, y)
    assert recorder.recording.steps == (0, 1)
    assert_gradients(recorder.recording.at(), gradients, model.trainable_variables)


@pytest.mark.parametrize("place", ["inside", "around"])
def test_error_while_a_function_is_traced(place: str) -> None:
    """The same where the function is in the making; its next trace hands out what it should."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    recorder, broken = trainobs.Recorder(every=1), [True]
    own = lambda: recorder.watch(model)  # noqa: E731
    within, outside = (own, contextlib.nullcontext) if place == "inside" else (contextlib.nullcontext, own)

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with within():
            found = step_of(model, optimizer, x, y)
            if broken:
                raise Trouble("in the trace")
        return found

    gradient, before = tf.GradientTape.gradient, surface(model)
    x, y = next(tensors())
    with pytest.raises(Trouble, match="in the trace"), outside():
        step(x, y)
    assert tf.GradientTape.gradient is gradient
    assert_untouched(before, model)
    broken.clear()
    with outside():
        _, gradients = step(x, y)
    assert recorder.recording.steps == (0,)
    assert_gradients(recorder.recording.at(), gradients, model.trainable_variables)


@pytest.mark.parametrize("place", ["inside", "around"])
def test_error_while_a_function_runs(place: str) -> None:
    """A step that fails in its graph, past its gradients, does not count."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    recorder = trainobs.Recorder(every=1)
    own = lambda: recorder.watch(model)  # noqa: E731
    within, outside = (own, contextlib.nullcontext) if place == "inside" else (contextlib.nullcontext, own)

    @tf.function
    def step(x: Any, y: Any, most: Any) -> Any:
        with within():
            loss, gradients = step_of(model, optimizer, x, y)
            with tf.control_dependencies(gradients):
                tf.debugging.assert_less(loss, most, "the loss is too large")
        return gradients

    before = surface(model)
    x, y = next(tensors())
    for most in (1e9, 0.0, 1e9):
        refused = pytest.raises(tf.errors.InvalidArgumentError, match="too large")
        with refused if not most else contextlib.nullcontext(), outside():
            gradients = step(x, y, tf.constant(most))
    assert_untouched(before, model)
    assert recorder.recording.steps == (0, 1)
    assert_gradients(recorder.recording.at(), gradients, model.trainable_variables)


# ---- what can't be recorded, and says so ------------------------------------------------------


def test_step_without_a_gradient() -> None:
    """Each due step warns, at the line of the block; those that are not due don't."""
    model, _ = fresh()
    recorder = trainobs.Recorder(every=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for x, _ in list(tensors())[:4]:
            with recorder.watch(model):
                model(x)
    assert [str(warning.message) for warning in caught] == [NO_GRADIENT.format(0), NO_GRADIENT.format(2)]
    assert {warning.filename for warning in caught} == {__file__}
    assert recorder.recording.steps == ()


def test_gradient_of_other_weights() -> None:
    """A block that trains another model than the watched one warns too."""
    model, optimizer = fresh()
    other = zoo.net()
    recorder = trainobs.Recorder(every=1)
    with pytest.warns(UserWarning, match="was due") as caught, recorder.watch(other):
        step_of(model, optimizer, *next(tensors()))
    assert [str(warning.message) for warning in caught] == [NO_GRADIENT.format(0)]


def test_function_that_was_traced_before() -> None:
    """It hands nothing out: the warning says where to put the block."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    step = tf.function(lambda x, y: step_of(model, optimizer, x, y))
    x, y = next(tensors())
    step(x, y)
    recorder = trainobs.Recorder(every=1)
    with pytest.warns(UserWarning, match="was due") as caught, recorder.watch(model):
        step(x, y)
    assert [str(warning.message) for warning in caught] == [NO_GRADIENT.format(0)]
    assert recorder.recording.steps == ()


def test_layers_called_inside_of_another_function() -> None:
    """A forward pass with a graph of its own: its weights are recorded, each layer as a whole."""
    states = []
    for recorder in (None, trainobs.Recorder(every=1)):
        model, optimizer = fresh()
        optimizer.build(model.trainable_variables)
        forward = tf.function(lambda x: model(x, training=True))  # noqa: B023
        for x, y in tensors():
            with recorder.watch(model) if recorder else contextlib.nullcontext():
                with tf.GradientTape() as tape:
                    loss = loss_of(y, forward(x))
                gradients = tape.gradient(loss, model.trainable_variables)
                optimizer.apply(gradients, model.trainable_variables)
        states.append(zoo.state(model))
    zoo.assert_same(*states)
    record = recorder.recording.at()
    assert not record.sites
    assert_gradients(record, gradients, model.trainable_variables)


def test_loop_inside_of_a_block() -> None:
    """Of a loop in a graph the last gradients are recorded."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    data = tf.data.Dataset.from_tensor_slices(zoo.digits()).batch(zoo.BATCH)

    @tf.function
    def epoch() -> None:
        for x, y in data:
            step_of(model, optimizer, x, y)

    recorder = trainobs.Recorder(every=1)
    for _ in range(2):
        with recorder.watch(model):
            epoch()
    assert [len(record.sites[0].input) for record in recorder.recording] == [8, 8]
    assert_explained(recorder.recording.at(), model)


@pytest.mark.parametrize("place", ["inside", "around", "a_function_inside"])
def test_compiled_by_xla(place: str) -> None:
    """An error of our own that says what to do, whether the first step is due or not; training goes on."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    recorder = trainobs.Recorder(at=[3])
    watch = lambda: recorder.watch(model)  # noqa: E731
    within, outside = (
        (contextlib.nullcontext, watch) if place == "around" else (watch, contextlib.nullcontext)
    )

    def step(x: Any, y: Any) -> Any:
        with within():
            return step_of(model, optimizer, x, y)

    inner = tf.function(step) if place == "a_function_inside" else step
    compiled = tf.function(lambda x, y: inner(x, y), jit_compile=True)
    gradient, before = tf.GradientTape.gradient, surface(model)
    with pytest.raises(ModelNotReady) as caught, outside():
        compiled(*next(tensors()))
    assert str(caught.value) == (
        "The watched step is inside of a tf.function(jit_compile=True): what XLA compiles can't hand tensors "
        "over. Drop jit_compile=True while you record."
    )
    assert tf.GradientTape.gradient is gradient
    assert_untouched(before, model)
    list(inside(model, optimizer, watch))
    assert recorder.recording.steps == (3,)


def test_arguments() -> None:
    """What is no model, no model at all, unknown layers, models without weights, and blocks in blocks."""
    model, _ = fresh()
    recorder = trainobs.Recorder(every=1)

    def message(error: type[Exception], *models: Any, own: trainobs.Recorder = recorder) -> str:
        with pytest.raises(error) as caught, own.watch(*models):
            raise AssertionError("the block ran")
        return str(caught.value)

    assert message(InvalidArgument) == "`watch` needs at least one model. Received none."
    assert message(InvalidArgument, model, "net") == (
        "`watch` takes the models that the step trains. Received: 'net' (of type str)."
    )
    assert message(InvalidArgument, [model]).endswith("(of type list).")
    assert message(InvalidArgument, model, own=trainobs.Recorder(layers="conv*")) == (
        "`layers=['conv*']` matches no layer with a kernel. There are: hidden (Dense), head (Dense), "
        "net (Sequential)."
    )
    empty = keras.Sequential([keras.Input((3,)), layers.Flatten()])
    assert message(ModelNotReady, empty).startswith("The model 'sequential' has no weights")
    with recorder.watch(model):
        nested = message(InvalidArgument, zoo.net())
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(tf.ones((2, 64))) ** 2)
        tape.gradient(loss, model.trainable_variables)
    assert nested == (
        "`watch` is open already: a step is one block. Give it all models of the step, "
        "`recorder.watch(first, second)`, or use a Recorder for each."
    )
    assert recorder.recording.steps == (0,)


# ---- traces and memory ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["inside", "around"])
def test_one_trace(place: str) -> None:
    """Twenty steps of one shape, some of them due, are traced once."""
    model, optimizer = fresh()
    optimizer.build(model.trainable_variables)
    recorder, traces = trainobs.Recorder(every=3), []
    own = lambda: recorder.watch(model)  # noqa: E731
    within, outside = (own, contextlib.nullcontext) if place == "inside" else (contextlib.nullcontext, own)

    @tf.function
    def step(x: Any, y: Any) -> None:
        traces.append(1)
        with within():
            step_of(model, optimizer, x, y)

    x, y = next(tensors())
    for _ in range(20):
        with outside():
            step(x, y)
    assert len(traces) == 1
    assert recorder.recording.steps == (0, 3, 6, 9, 12, 15, 18)


@pytest.mark.parametrize("loop", [eagerly, inside, around])
def test_memory(loop: Loop) -> None:
    """Nothing but the Recorder and the user's own function keeps a watched model."""
    model, optimizer = fresh()
    recorder = trainobs.Recorder(every=2)
    list(loop(model, optimizer, functools.partial(recorder.watch, model)))
    assert recorder.recording.steps == (0, 2, 4)
    there = weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(recorder)
    del model, optimizer, recorder
    keras.utils.clear_session()
    gc.collect()
    assert [reference() for reference in there] == [None, None, None]
