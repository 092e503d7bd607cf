"""Record the due steps of an unmodified `fit`, for a callback that passes on what Keras calls."""

from __future__ import annotations

from collections.abc import Callable

import keras

from trainobs.capture import CapturedStep, Catch, TrainFunction, check_model, check_weights
from trainobs.recorder._schedule import Schedule
from trainobs.recorder._steps import StepCounter
from trainobs.selection import Selection


class DueSteps:
    """The due steps of one or more `fit` calls.

    Parameters
    ----------
    schedule : Schedule
        Which steps are due.
    selection : Selection
        Which layers are recorded.
    keep : callable
        Called with each recorded step.
    counter : StepCounter, optional
        Numbers the steps; by default from 0.
    """

    def __init__(
        self,
        schedule: Schedule,
        selection: Selection,
        keep: Callable[[CapturedStep], None],
        counter: StepCounter | None = None,
    ) -> None:
        self._schedule, self._selection, self._keep = schedule, selection, keep
        self._counter = counter or StepCounter()
        self._train_function: TrainFunction | None = None
        self._epoch = 0
        self._checked = False

    @property
    def next_step(self) -> int:
        """Number of the step that comes next."""
        return self._counter.first

    def begin_fit(self, model: keras.Model) -> None:
        """Check the model before the first step, so that nothing fails midway."""
        check_model(model)
        self._owner_of(model).clear()  # an earlier fit may have broken off right before a step
        self._checked = False
        self._check_layers(model)

    def begin_epoch(self, epoch: int) -> None:
        """Remember the epoch for the records."""
        self._epoch = epoch

    def begin_batch(self, model: keras.Model) -> None:
        """Ask for the tensors of the coming step, if it is due."""
        if self._schedule.is_due(self._counter.begin(model)):
            self._owner_of(model).record(self._selection.of_layer, self._caught)

    def end_batch(self, model: keras.Model) -> None:
        """Count what ran."""
        self._owner_of(model).clear()
        self._counter.end()
        if not self._checked:
            self._check_layers(model)

    def _owner_of(self, model: keras.Model) -> TrainFunction:
        self._train_function = owner = TrainFunction.of(model)
        return owner

    def _check_layers(self, model: keras.Model) -> None:
        """Refuse a model without kernels, and a selection that none matches, once layers are known."""
        if model.built:
            self._checked = True
            self._selection.check(check_weights(model))

    def _caught(self, catch: Catch) -> None:
        """Keep what was handed over if one of the steps that ran was due."""
        ran = self._counter.ran()
        if self._schedule.is_due(ran):
            self._keep(catch(ran[-1], self._epoch, self._selection.of_record))
        self._counter.end()  # also if another callback breaks the fit off before it comes to this one
