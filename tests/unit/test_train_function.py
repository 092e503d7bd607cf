"""One owner of a model's train function: who asks what of a coming step, and that nothing stays."""

from __future__ import annotations

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest

import trainobs
from trainobs.capture import TrainFunction

X, Y = np.random.default_rng(0).random((32, 4), np.float32), np.zeros((32, 3), "float32")


class Counting(keras.Sequential):
    """Notes each run of its train step, and raises in it if told to."""

    raises = False

    def train_step(self, data):
        self.noted("step")
        if self.raises:
            raise KeyError("in the step")
        return super().train_step(data)


def counting() -> tuple[Counting, list[str]]:
    """A small model that runs eagerly, with its train function made, and what it notes."""
    model, events = Counting([keras.Input((4,)), keras.layers.Dense(3)]), []
    model.noted = events.append
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.make_train_function()
    return model, events


def everything(layer_or_record) -> bool:
    """Select all layers and all weights."""
    return True


class Context:
    """Notes when it is entered and left."""

    def __init__(self, name, events, *, raises=False):
        self.name, self.events, self.raises = name, events, raises

    @contextlib.contextmanager
    def __call__(self):
        if self.raises:
            raise KeyError("in the context")
        self.events.append(f"enter {self.name}")
        try:
            yield
        finally:
            self.events.append(f"leave {self.name}")


def step(model):
    """One step outside of a fit."""
    return model.train_on_batch(X, Y)


class Asks(keras.callbacks.Callback):
    """Asks something of each step, then raises at a batch."""

    def __init__(self, ask, raise_at=None):
        super().__init__()
        self.ask, self.raise_at = ask, raise_at

    def on_train_batch_begin(self, batch, logs=None):
        self.ask()
        if batch == self.raise_at:
            raise KeyError("behind")


class TestOwner:
    def test_there_is_one_for_each_model(self):
        """Whoever asks for it gets the same one; another model has its own."""
        (first, _), (second, _) = counting(), counting()
        owner, other = TrainFunction.of(first), TrainFunction.of(second)
        assert TrainFunction.of(first) is owner is not other

    def test_it_goes_with_those_who_hold_it(self):
        """Nothing keeps it, or the model, alive."""
        model, _ = counting()
        owner = TrainFunction.of(model)
        owner.within(contextlib.nullcontext)
        step(model)
        gone = weakref.ref(owner), weakref.ref(model)
        del owner, model
        gc.collect()
        assert [ref() for ref in gone] == [None, None]


class TestOneStep:
    def test_one_stand_in(self):
        """However much is asked, one thing stands in; after one step the model has its own function."""
        model, events = counting()
        own, owner = model.train_function, TrainFunction.of(model)
        owner.within(Context("a", events))
        stand_in = model.train_function
        owner.record(everything, lambda catch: None)
        assert own is not model.train_function == stand_in
        step(model)
        assert model.train_function is own
        step(model)
        assert events == ["enter a", "step", "leave a", "step"]

    def test_order(self):
        """The first context is the outermost; what is recorded is kept inside, in the order it was asked."""
        model, events = counting()
        owner = TrainFunction.of(model)
        owner.record(everything, lambda catch: events.append("keep 1"))
        owner.within(Context("a", events))
        owner.record(everything, lambda catch: events.append("keep 2"))
        owner.within(Context("b", events))
        step(model)
        run = ["enter a", "enter b", "step", "keep 1", "keep 2", "leave b", "leave a"]
        assert events == run

    def test_what_is_handed_over(self):
        """Each who records gets the step under its own number, with what it selects; logs are Keras' own."""
        alone, model = counting()[0], counting()[0]
        alone.set_weights(model.get_weights())
        caught = []
        owner = TrainFunction.of(model)
        owner.record(lambda layer: False, lambda catch: caught.append(catch(3, 1, lambda record: False)))
        owner.record(everything, lambda catch: caught.append(catch(5, 2, everything)))
        assert step(model) == step(alone)
        assert [(item.step, item.record().epoch, len(item.record().sites)) for item in caught] == [
            (3, 1, 0),
            (5, 2, 2),
        ]

    def test_clear(self):
        """What was asked is taken back."""
        model, events = counting()
        own, owner = model.train_function, TrainFunction.of(model)
        owner.within(Context("a", events))
        owner.clear()
        assert model.train_function is own
        step(model)
        assert events == ["step"]

    def test_a_function_that_is_made_anew_stays(self):
        """Where another callback makes the model's function anew, that runs, and nothing is asked of it."""
        model, events = counting()
        owner = TrainFunction.of(model)
        owner.within(Context("a", events))
        model.make_train_function(force=True)
        anew = model.train_function
        owner.clear()
        step(model)
        assert model.train_function is anew and events == ["step"]

    def test_functions_are_made_once(self):
        """Steps of which the same is asked share one; a model that is compiled anew gets new ones."""
        model, events = counting()
        made = []
        original = model.make_train_function

        def make(force=False):
            made.extend([1] * force)
            original(force=force)

        model.make_train_function = make
        owner, context = TrainFunction.of(model), Context("a", events)
        for _ in range(3):
            owner.within(context)
            step(model)
            owner.record(everything, lambda catch: None)
            step(model)
        assert len(made) == 2
        model.compile("sgd", "mse", run_eagerly=True)
        owner.within(context)
        step(model)
        assert len(made) == 3


class TestExceptions:
    @pytest.mark.parametrize("where", ["in the step", "in the context", "in what keeps"])
    def test_nothing_stays(self, where):
        """After an error the model has its own function, and contexts are left."""
        model, events = counting()
        own, owner = model.train_function, TrainFunction.of(model)
        model.raises = where == "in the step"

        def keep(catch):
            if where == "in what keeps":
                raise KeyError(where)

        owner.within(Context("a", events))
        owner.record(everything, keep)
        owner.within(Context("b", events, raises=where == "in the context"))
        with pytest.raises(KeyError, match=where):
            step(model)
        assert model.train_function is own
        assert events[0] == "enter a" and events[-1] == "leave a"
        model.raises = False
        events.clear()
        step(model)
        assert events == ["step"]


class TestBrokenFit:
    def broken(self):
        """A model whose fit broke off when the second step had been announced."""
        model, events = counting()
        own, owner = model.train_function, TrainFunction.of(model)
        asks = Asks(lambda: owner.within(Context("a", events)), raise_at=1)
        with pytest.raises(KeyError, match="behind"):
            model.fit(X, Y, batch_size=8, verbose=0, callbacks=[asks])
        assert events == ["enter a", "step", "leave a"]
        events.clear()
        return model, events, own, owner

    def test_next_batch(self):
        """What was asked of a step that did not come is not done to another batch."""
        model, events, own, _ = self.broken()
        step(model)
        assert events == ["step"] and model.train_function is own

    def test_next_fit(self):
        """Nor to the next fit."""
        model, events, own, _ = self.broken()
        model.fit(X, Y, batch_size=16, verbose=0)
        assert events == ["step", "step"] and model.train_function is own

    def test_next_request(self):
        """Whoever asks something of a later step gets that alone."""
        model, events, own, owner = self.broken()
        asks = Asks(lambda: owner.within(Context("b", events)))
        model.fit(X, Y, batch_size=32, verbose=0, callbacks=[asks])
        assert events == ["enter b", "step", "leave b"] and model.train_function is own

    def test_next_batch_of_a_model_that_is_compiled_anew(self):
        """A model that has no function yet makes its own."""
        model, events, _, _ = self.broken()
        model.compile("sgd", "mse", run_eagerly=True)
        step(model)
        assert events == ["step"]

    def test_a_recorder_records_no_other_batch(self):
        """A batch after the break is none of the fit's steps."""
        model, _ = counting()
        recorder = trainobs.Recorder(every=1)
        callbacks = [recorder, Asks(lambda: None, raise_at=2)]
        with pytest.raises(KeyError, match="behind"):
            model.fit(X, Y, batch_size=8, verbose=0, callbacks=callbacks)
        step(model)
        assert recorder.recording.steps == (0, 1)


def test_callbacks_around_a_loop_of_the_user():
    """Keras' own list of callbacks around `train_on_batch`: those steps are recorded too."""
    model, events = counting()
    recorder = trainobs.Recorder(every=2)
    callbacks = keras.callbacks.CallbackList([recorder], add_history=True, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(4):
        callbacks.on_train_batch_begin(batch)
        step(model)
        callbacks.on_train_batch_end(batch)
    assert recorder.recording.steps == (0, 2)
    assert events == ["step"] * 4
