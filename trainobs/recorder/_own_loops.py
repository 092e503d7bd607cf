"""Record steps of loops that users write, with a block around their own tape."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import keras

from trainobs.capture import CapturedStep, CaughtStep, WatchedModels, check_weights
from trainobs.errors import InvalidArgument
from trainobs.recorder._schedule import Schedule
from trainobs.recorder._steps import StepCounter
from trainobs.selection import Selection


class OwnLoops:
    """The due steps among those that are watched.

    Parameters
    ----------
    schedule : Schedule
        Which steps are due.
    selection : Selection
        Which layers are recorded.
    keep : callable
        Called with each recorded step.
    counter : StepCounter
        Numbers the steps.
    """

    def __init__(
        self,
        schedule: Schedule,
        selection: Selection,
        keep: Callable[[CapturedStep], None],
        counter: StepCounter,
    ) -> None:
        self._schedule, self._selection, self._keep = schedule, selection, keep
        self._counter = counter
        self._watched: dict[tuple[int, ...], WatchedModels] = {}
        self._open = False

    @contextlib.contextmanager
    def step(self, models: tuple[keras.Model, ...]) -> Iterator[None]:
        """Around one step that trains these models."""
        _check(models)
        if self._open:
            raise InvalidArgument(
                "`watch` is open already: a step is one block. Give it all models of the step, "
                "`recorder.watch(first, second)`, or use a Recorder for each."
            )
        watched = self._watched_for(models)
        self._open = True
        try:
            with watched.step():
                yield
        finally:
            self._open = False

    def _watched_for(self, models: tuple[keras.Model, ...]) -> WatchedModels:
        """The taps in these models, made once."""
        key = tuple(map(id, models))
        if key not in self._watched:
            self._check_layers(models)
            self._watched[key] = WatchedModels(list(models), self._selection.of_layer, self._begin, self._end)
        return self._watched[key]

    def _check_layers(self, models: tuple[keras.Model, ...]) -> None:
        """Refuse models without weights, and a selection that none matches, where layers are known."""
        if all(model.built for model in models):
            self._selection.check({k: v for model in models for k, v in check_weights(model).items()})

    def _begin(self) -> bool:
        return self._schedule.is_due(self._counter.begin())

    def _end(self, caught: CaughtStep | None) -> None:
        (step,) = self._counter.ran()
        if caught is not None:
            self._keep(
                CapturedStep(lambda: caught.record(step), step, caught.nbytes, self._selection.of_record)
            )
        elif self._schedule.is_due(range(step, step + 1)):
            warnings.warn(
                f"Step {step} was due, but the watched block took no gradient of the model's weights that "
                f"could be recorded. If it calls a tf.function that was traced before, put "
                f"`with recorder.watch(model):` inside of that function.",
                stacklevel=8,
            )
        self._counter.end()


def _check(models: tuple[keras.Model, ...]) -> None:
    for model in models:
        if not isinstance(model, keras.Model):
            raise InvalidArgument(
                f"`watch` takes the models that the step trains. Received: {model!r} (of type "
                f"{type(model).__name__})."
            )
    if not models:
        raise InvalidArgument("`watch` needs at least one model. Received none.")
