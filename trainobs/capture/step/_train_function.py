"""The one owner of a model's `train_function`, for everybody who observes or changes a coming step.

Keras looks `model.train_function` up before each step. Whoever wants something of the coming step tells the
owner: to hand the step's tensors over (`record`), or to let something hold while it is traced and runs
(`within`). The owner puts one stand-in there, and takes it out again before the step runs: so after the step,
and after an exception, the model has its own function.

Only where a callback raises before an announced step comes, the stand-in is still there. It belongs to the
fit that ran when it was put in; called when that is over it goes, and runs the model's own function.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import keras

from trainobs.capture.step._replacing import replaced
from trainobs.capture.step._tapped_step import CapturedStep, HandedOver, Selects, SelectsRecord, TappedStep

#: Makes the captured step, of a number, an epoch, and what it is to hold.
Catch = Callable[[int, int, SelectsRecord], CapturedStep]
#: Is called with it once the step has run.
Keep = Callable[[Catch], None]
#: Makes the context in which a step is traced and runs.
Enter = Callable[[], AbstractContextManager[None]]
Run = Callable[[Iterator[object]], object]

_KERAS_FIT = inspect.unwrap(keras.Model.fit).__code__
_MOST_FUNCTIONS = 16


@dataclasses.dataclass
class _Coming:
    """What is asked of the coming step, and when: in which fit, and whether that was running."""

    own: Run | None
    moment: tuple[object, bool]
    selects: list[Selects] = dataclasses.field(default_factory=list)
    keeps: list[Keep] = dataclasses.field(default_factory=list)
    within: list[Enter] = dataclasses.field(default_factory=list)

    def traced_as(self) -> tuple[object, ...]:
        """Steps that are equal in this run the same function."""
        return self.own, tuple(self.selects), tuple(self.within)


@dataclasses.dataclass(frozen=True)
class _Made:
    """A train function that Keras made for us, and the taps in it."""

    run: Run
    tapped: TappedStep | None


class TrainFunction:
    """Owns ``model.train_function``; there is one for each model (see `of`).

    Keras itself makes what runs in place of the model's own function, so distribution, XLA and steps per
    execution are treated as in that. The functions last as long as somebody holds the owner.

    Parameters
    ----------
    model : keras.Model
        A compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._coming: _Coming | None = None
        self._functions: dict[tuple[object, ...], _Made] = {}

    @classmethod
    def of(cls, model: keras.Model) -> TrainFunction:
        """The owner of a model's train function; hold it, or it is forgotten."""
        owner = _OWNERS.get(id(model))
        if owner is None:
            owner = _OWNERS[id(model)] = cls(model)
        return owner

    # ---- what is asked of the coming step ----------------------------------------------------

    def record(self, selects: Selects, keep: Keep) -> None:
        """Let the coming step hand its tensors over.

        Parameters
        ----------
        selects : callable
            Given a layer, whether its site is recorded.
        keep : callable
            Called with a `Catch` once the step has run. All who record a step share one tapped function.
        """
        coming = self._put_in()
        coming.selects.append(selects)
        coming.keeps.append(keep)

    def within(self, enter: Enter) -> None:
        """Let something hold while the coming step is traced, and while it runs.

        Parameters
        ----------
        enter : callable
            Makes the context; the first that is given is the outermost. Steps within equal ones share
            their trace.
        """
        self._put_in().within.append(enter)

    def clear(self) -> None:
        """Nothing is asked of the coming step: the model has its own function."""
        if self._coming is not None and self._stands_in():
            self.model.train_function = self._coming.own
        self._coming = None

    def _put_in(self) -> _Coming:
        moment = _moment_of(self.model)
        if self._coming is None or not self._stands_in() or self._coming.moment != moment:
            self.clear()
            self._coming = _Coming(self.model.train_function, moment)
            self.model.train_function = self._run
        return self._coming

    def _stands_in(self) -> bool:
        return bool(self.model.train_function == self._run)

    # ---- the step ----------------------------------------------------------------------------

    def _run(self, iterator: Iterator[object]) -> object:
        """Stands in for the model's own function, for one call."""
        coming, self._coming = self._coming, None
        if coming is not None:
            self.model.train_function = coming.own
        if coming is None or coming.moment != _moment_of(self.model):
            self.model.make_train_function()  # does nothing if there is one
            return self.model.train_function(iterator)
        with contextlib.ExitStack() as around:
            for enter in coming.within:
                around.enter_context(enter())
            made = self._function_for(coming)
            return _handed_out(made.tapped, made.run(iterator), coming.keeps)

    def _function_for(self, coming: _Coming) -> _Made:
        """The function that runs this step: made once."""
        key = coming.traced_as()
        if key not in self._functions:
            current = [(k, made) for k, made in self._functions.items() if k[0] is coming.own]
            self._functions = dict(current[1 - _MOST_FUNCTIONS :])
            self._functions[key] = self._make(coming.selects)
        return self._functions[key]

    def _make(self, selects: list[Selects]) -> _Made:
        if not selects:
            return _Made(_made_by_keras(self.model), None)
        tapped = TappedStep(self.model, lambda layer: any(selected(layer) for selected in selects))
        with replaced(self.model, "train_step", lambda original, data: tapped(data)):
            return _Made(_made_by_keras(self.model), tapped)


#: By the model's id, which is its own as long as its owner holds it.
_OWNERS: weakref.WeakValueDictionary[int, TrainFunction] = weakref.WeakValueDictionary()


def _made_by_keras(model: keras.Model) -> Run:
    """A new train function of a model, which keeps the one that it has."""
    own = model.train_function
    try:
        model.make_train_function(force=True)
        made: Run = model.train_function
    finally:
        model.train_function = own
    return made


def _handed_out(tapped: TappedStep | None, result: object, keeps: list[Keep]) -> object:
    """Give what a tapped step handed over to all who asked for it; return the step's logs."""
    if tapped is None:
        return result
    assert isinstance(result, HandedOver)
    for keep in keeps:
        keep(functools.partial(tapped.captured, result))
    return result.logs


def _moment_of(model: keras.Model) -> tuple[object, bool]:
    """Which fit it is, and whether it is running: the model holds on to the `History` of one that is over.

    A loop that the user wrote, which calls callbacks and `train_on_batch`, is no running fit.
    """
    callers = (frame for frame, _ in traceback.walk_stack(inspect.currentframe()))
    fits = (frame for frame in callers if frame.f_code is _KERAS_FIT)
    return getattr(model, "history", None), any(frame.f_locals["self"] is model for frame in fits)
