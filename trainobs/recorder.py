"""A Keras callback that records due steps of an unmodified `fit`."""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from trainobs.capture import (
    CapturedStep,
    CaughtStep,
    TappedTrainFunction,
    WatchedModels,
    check_model,
    check_weights,
)
from trainobs.errors import InvalidArgument
from trainobs.recording import Recording
from trainobs.records import SiteRecord, WeightRecord
from trainobs.selection import Selection
from trainobs.statistics import Statistics, gather
from trainobs.steps import StepCounter
from trainobs.thresholds import NearZero

_KEEPS = ("tensors", "statistics")


def log_spaced(last: int, per_decade: int = 4) -> tuple[int, ...]:
    """Steps that are dense early in training and sparse later.

    Parameters
    ----------
    last : int
        No step beyond this one.
    per_decade : int, default 4
        How many steps between 10 and 100, and so on.

    Returns
    -------
    tuple of int
        For ``Recorder(at=…)``.

    Examples
    --------
    >>> log_spaced(100, per_decade=2)
    (0, 1, 3, 10, 32, 100)
    """
    if not (_is_int(last) and _is_int(per_decade)) or last < 0 or per_decade < 1:
        raise InvalidArgument(
            f"`last` must be an integer of at least 0 and `per_decade` one of at least 1. "
            f"Received: {last!r}, {per_decade!r}."
        )
    steps, exponent = {0}, 0
    while (step := round(10 ** (exponent / per_decade))) <= last:
        steps.add(step)
        exponent += 1
    return tuple(sorted(steps))


class Recorder(keras.callbacks.Callback):
    """Record what weight gradients are made of, during an unmodified `model.fit`.

    Steps that are not due run the model's own train function, untouched. A due step runs a tapped
    twin of it: the same forward and backward pass, which also hands its tensors over.

    Parameters
    ----------
    every : int, optional
        Record steps 0, every, 2·every, … Default: 100, unless `at` is given.
    at : iterable of int, optional
        Record these steps (see `log_spaced`). Steps are counted from 0 over all `fit` calls.
    layers : str, type, or list of them, optional
        Record only these layers: names, patterns such as "conv*", or layer classes.
    keep : {"tensors", "statistics"}, default "tensors"
        Keep the arrays, or only their additive statistics (computed with `near_zero`).
    near_zero : NearZero, optional
        Thresholds for ``keep="statistics"``.
    max_bytes : int, default 1 GiB
        Memory for records. The newest stay; the Recorder warns once when it lets older ones go.

    Attributes
    ----------
    recording : Recording
        What was recorded so far.

    Raises
    ------
    InvalidArgument
        If both `every` and `at` are given, or a value does not fit.

    Notes
    -----
    Steps count once they have run, from 0 over all `fit` calls. With several steps per execution
    (`compile(steps_per_execution=…)`) the last step of an execution that holds a due step is
    recorded.

    A model that its first batch builds is checked, and its `layers` are looked up, after that batch.

    Examples
    --------
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> recorder = Recorder(every=2)
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[recorder], verbose=0)
    >>> recorder.recording.steps
    (0, 2)
    """

    def __init__(
        self,
        every: int | None = None,
        at: Iterable[int] | None = None,
        *,
        layers: Any = None,
        keep: str = "tensors",
        near_zero: NearZero | None = None,
        max_bytes: int = 2**30,
    ) -> None:
        super().__init__()
        self._every, self._at = _schedule(every, at)
        self._selection = Selection(layers)
        if keep not in _KEEPS:
            raise InvalidArgument(f"`keep` must be one of {_KEEPS}. Received: keep={keep!r}.")
        if not _is_positive_int(max_bytes):
            raise InvalidArgument(
                f"`max_bytes` must be a positive integer. Received: max_bytes={max_bytes!r}."
            )
        if near_zero is not None and not isinstance(near_zero, NearZero):
            raise InvalidArgument(f"`near_zero` must be a trainobs.NearZero. Received: {near_zero!r}.")
        self._keep = keep
        self._near_zero = near_zero or NearZero()
        self._max_bytes = max_bytes
        self._records: collections.deque[CapturedStep | Statistics] = collections.deque()
        self._let_go = False
        self._steps = StepCounter()
        self._epoch = 0
        self._checked = False
        self._twin: TappedTrainFunction | None = None
        self._twin_of: Any = None
        self._watched: dict[tuple[int, ...], WatchedModels] = {}
        self._watching = False

    @property
    def recording(self) -> Recording:
        """What was recorded so far, oldest first."""
        kept = (item.record() if isinstance(item, CapturedStep) else item for item in self._records)
        return Recording(tuple(kept))

    def __repr__(self) -> str:
        return f"Recorder(recorded steps: {[item.step for item in self._records]})"

    @contextlib.contextmanager
    def watch(self, *models: keras.Model) -> Iterator[None]:
        """Record a step of a loop that you wrote, around your own `tf.GradientTape`.

        Parameters
        ----------
        *models : keras.Model
            The models that the step trains; they need not be compiled.

        Raises
        ------
        InvalidArgument
            If no model is given, or something else; if none of them has a layer of `layers`; if a block
            of this Recorder is open already.
        ModelNotReady
            If a model has no weights, or inside of a ``tf.function(jit_compile=True)``: compiled code
            can't call back.

        Notes
        -----
        A step is one `with` block that ends without an exception. Its weights' gradients are those that
        `tape.gradient` returns, before any clipping. Inside of a `tf.function` or around its call, the
        function is traced once, and hands out what it computes when a step is due. Inside is better: a
        function that was called before, outside of the block, has been traced without it; and of a
        function that the block calls several times, or of a loop inside, only the last gradients are
        recorded. The layers have to be called where the gradient is taken, not inside of another
        `tf.function`.

        Examples
        --------
        >>> import tensorflow as tf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> recorder = Recorder(every=1)
        >>> with recorder.watch(model):
        ...     with tf.GradientTape() as tape:
        ...         loss = tf.reduce_mean(model(tf.ones((8, 4))) ** 2)
        ...     gradients = tape.gradient(loss, model.trainable_variables)
        >>> recorder.recording.steps
        (0,)
        """
        for model in models:
            if not isinstance(model, keras.Model):
                raise InvalidArgument(
                    f"`watch` takes the models that the step trains. Received: {model!r} (of type "
                    f"{type(model).__name__})."
                )
        if not models:
            raise InvalidArgument("`watch` needs at least one model. Received none.")
        if self._watching:
            raise InvalidArgument(
                "`watch` is open already: a step is one block. Give it all models of the step, "
                "`recorder.watch(first, second)`, or use a Recorder for each."
            )
        key = tuple(map(id, models))
        if key not in self._watched:
            self._check_own(models)
            self._watched[key] = WatchedModels(list(models), self.selects, self._begin_own, self._end_own)
        self._watching = True
        try:
            with self._watched[key].step():
                yield
        finally:
            self._watching = False

    def _check_own(self, models: tuple[keras.Model, ...]) -> None:
        """Refuse models without weights, and a selection that none matches, where layers are known."""
        if all(model.built for model in models):
            self._selection.check({k: v for model in models for k, v in check_weights(model).items()})

    def _begin_own(self) -> bool:
        return self._is_due(self._steps.begin())

    def _end_own(self, caught: CaughtStep | None) -> None:
        (step,) = self._steps.ran()
        if caught is not None:
            self._add(CapturedStep(lambda: caught.record(step), step, caught.nbytes, self._selects_weight))
        elif self._is_due(range(step, step + 1)):
            warnings.warn(
                f"Step {step} was due, but the watched block took no gradient of the model's weights that "
                f"could be recorded. If it calls a tf.function that was traced before, put "
                f"`with recorder.watch(model):` inside of that function.",
                stacklevel=8,
            )
        self._steps.end()

    # ---- called by Keras ---------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the model before the first step, so that nothing fails midway."""
        check_model(self.model)
        left = self.model.train_function
        if isinstance(left, _DueStep):  # an earlier fit broke off right before that step
            self.model.train_function = left.own
        self._checked = False
        self._check_layers()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch for the records."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Let the coming call of the train function run the twin, if a step of it is due."""
        if self._is_due(self._steps.begin(self.model)):
            self.model.train_function = _DueStep(self, self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count what ran."""
        self._steps.end()
        if not self._checked:
            self._check_layers()

    def _check_layers(self) -> None:
        """Refuse a model without kernels, and a selection that none matches, once layers are known."""
        if self.model.built:
            self._checked = True
            self._selection.check(check_weights(self.model))

    # ---- one due step ------------------------------------------------------------------------

    def _is_due(self, steps: range) -> bool:
        if self._every is not None:
            return steps[-1] // self._every > (steps[0] - 1) // self._every
        return any(step in self._at for step in steps)

    def run_due_step(self, own: Any, iterator: Any, wanted: tuple[Recorder, ...]) -> Any:
        """Run the tapped twin of the train function `own` once, for all Recorders that want the step."""
        if self._twin is None or self._twin_of != (own, wanted):
            self._twin_of = own, wanted
            self._twin = TappedTrainFunction(
                self.model, lambda layer: any(recorder.selects(layer) for recorder in wanted)
            )
        logs, captured = self._twin(iterator)
        for recorder in wanted:
            recorder.keep(self._twin, captured)
        return logs

    def selects(self, layer: Any) -> bool:
        """Whether this Recorder records a layer."""
        return self._selection.of_layer(layer)

    def keep(self, twin: TappedTrainFunction, captured: dict[str, Any]) -> None:
        """Keep what was captured, or its statistics, and let go what no longer fits."""
        ran = self._steps.ran()
        if self._is_due(ran):
            self._add(twin.record(captured, ran[-1], self._epoch, self._selects_weight))
        self._steps.end()  # also if another callback breaks the fit off before it comes to this one

    def _add(self, item: CapturedStep) -> None:
        """Keep a step, or its statistics."""
        self._records.append(item if self._keep == "tensors" else gather(item.record(), self._near_zero))
        self._release()

    def _selects_weight(self, of: SiteRecord | WeightRecord) -> bool:
        return self._selection.matches(of.layer, of.weight, of.bases)

    def _release(self) -> None:
        """Let the oldest records go until the rest fits."""
        released = []
        while len(self._records) > 1 and sum(record.nbytes for record in self._records) > self._max_bytes:
            released.append(self._records.popleft().step)
        if released and not self._let_go:
            self._let_go = True
            warnings.warn(
                f"The Recorder holds at most max_bytes={self._max_bytes:,} bytes: it let the record of step "
                f"{released[0]} go, and will let older steps go for newer ones from now on. Raise "
                f'`max_bytes`, record fewer steps or `layers`, or use keep="statistics".',
                stacklevel=2,
            )


class _DueStep:
    """Stands in for ``model.train_function`` for one call, and takes itself out first.

    `within` holds what else is to be in place while the step is traced and runs: as that of the function
    that it stands in for, if that has any.
    """

    def __init__(self, recorder: Recorder, model: keras.Model) -> None:
        current = model.train_function
        self._model = model
        self._fit = model.history
        self.own: Any = current.own if isinstance(current, _DueStep) else current
        shared = isinstance(current, _DueStep) and current._fit is self._fit  # another one wants it too
        self.wanted: tuple[Recorder, ...] = (*(current.wanted if shared else ()), recorder)
        inherits = shared or not isinstance(current, _DueStep)
        inherited = getattr(current, "within", ()) if inherits else ()
        self.within: list[Callable[[], AbstractContextManager[None]]] = [*inherited]

    def __call__(self, iterator: Any) -> Any:
        self._model.train_function = self.own
        if self._model.history is not self._fit:  # left over from a fit that broke off right here
            return self.own(iterator)
        with contextlib.ExitStack() as around:
            for enter in self.within:
                around.enter_context(enter())
            return self.wanted[0].run_due_step(self.own, iterator, self.wanted)


def _schedule(every: int | None, at: Iterable[int] | None) -> tuple[int | None, frozenset[int]]:
    if every is not None and at is not None:
        raise InvalidArgument(f"Give either `every` or `at`, not both. Received: every={every!r}, at={at!r}.")
    if at is not None:
        steps = list(at) if isinstance(at, Iterable) else []
        if not steps or not all(_is_int(step) and step >= 0 for step in steps):
            raise InvalidArgument(f"`at` must hold step numbers from 0. Received: at={at!r}.")
        return None, frozenset(map(int, steps))
    every = 100 if every is None else every
    if not _is_positive_int(every):
        raise InvalidArgument(f"`every` must be a positive integer. Received: every={every!r}.")
    return every, frozenset()


def _is_positive_int(value: Any) -> bool:
    return _is_int(value) and value > 0


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
