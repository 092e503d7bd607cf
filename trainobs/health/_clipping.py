"""Adaptive clipping: a fit's gradients are clipped by what its own healthy norms were.

Keras reads an optimizer's `global_clipnorm` when the train step is traced. So clipping is a second train
function, traced with the setting in place. It stands in for the model's own from the beginning of a batch to
the end of its step; between steps, and after an exception, model and optimizer are as they were.
"""

from __future__ import annotations

import collections
import contextlib
import math
import statistics
from collections.abc import Iterator
from typing import Any

import keras

from trainobs.capture import updating_optimizer
from trainobs.errors import InvalidArgument
from trainobs.health._settings import HealthSettings
from trainobs.recorder import Recorder


def clip_value(norms: Any, band: tuple[float, float]) -> float:
    """The norm to clip to: the median of the measured norms that were healthy.

    Parameters
    ----------
    norms : iterable of float
        Global gradient norms, before clipping.
    band : (float, float)
        Healthy norms.

    Returns
    -------
    float
        Within the band; its geometric mean if no norm was healthy.

    Notes
    -----
    Pascanu, Mikolov & Bengio (2013) take a threshold from the average norm over a number of updates; a median
    is not moved by the few that explode.

    Examples
    --------
    >>> clip_value([0.5, 1.5, 2.5, 1e6], (0.1, 10.0))
    1.5
    >>> round(clip_value([1e6], (0.1, 10.0)), 6)
    1.0
    """
    healthy = [norm for norm in norms if band[0] <= norm <= band[1]]
    return float(statistics.median(healthy)) if healthy else math.sqrt(band[0] * band[1])


class AdaptiveClipping:
    """When to clip, to what norm, and with which train function.

    Parameters
    ----------
    settings : HealthSettings

    Attributes
    ----------
    value : float or None
        The norm that gradients are clipped to; None while they are not.
    """

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._norms: collections.deque[float] = collections.deque(maxlen=settings.clip_window)
        self._model: Any = None
        self._function: ClippedFunction | None = None
        self.value: float | None = None
        self._begun = self._calm = 0

    def begin_fit(self, model: keras.Model) -> None:
        """Refuse an optimizer that clips already; forget what an earlier fit left."""
        if isinstance(model.train_function, ClippedFunction):
            model.train_function = model.train_function.own
        self.take_out()
        self._model, self.value, self._function, self._begun, self._calm = model, None, None, 0, 0
        optimizer = updating_optimizer(model.optimizer)
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            value = getattr(optimizer, name, None)
            if value is not None:
                raise InvalidArgument(
                    f'`act` holds "clip", but the optimizer clips already: {name}={value!r}. Make the '
                    f'optimizer without it, or leave "clip" out.'
                )

    def measured(self, norm: float) -> str | None:
        """Note a global norm before clipping; begin or end clipping if it is time.

        Returns
        -------
        str or None
            What was decided, in words.
        """
        low, high = self._settings.global_norm
        self._norms.append(norm)
        self._calm = self._calm + 1 if low <= norm <= high or norm < low else 0
        if self.value is None:
            if high < norm < math.inf and self._begun < self._settings.clip_most:
                return self._begin(norm)
        elif self._calm >= self._settings.clip_release and self._begun < self._settings.clip_most:
            self.value, self._function = None, None
            return f"gradient norms were healthy in {self._calm} checks: gradients are no longer clipped"
        return None

    def _begin(self, norm: float) -> str:
        self.value, self._begun, self._calm = (
            clip_value(self._norms, self._settings.global_norm),
            self._begun + 1,
            0,
        )
        self._function = ClippedFunction(self._model, self)
        return (
            f"the norm of all gradients is {norm:.4g}, above {self._settings.global_norm[1]:g}: from now on "
            f"gradients are clipped to a global norm of {self.value:.4g}"
        )

    # ---- one batch ---------------------------------------------------------------------------

    def put_in(self) -> None:
        """Let the coming batch be clipped, if clipping is on; after the own Recorder has put its step in."""
        if self._function is None:
            return
        due = self._model.train_function
        if isinstance(due, ClippedFunction):  # an earlier fit broke off right here
            due = self._model.train_function = due.own
        self._function.own = getattr(due, "own", due)
        if due is self._function.own:
            self._model.train_function = self._function
        else:  # a Recorder's: it makes its twin of what stands behind it
            due.own = self._function
            due.within.append(self.in_place)

    def take_out(self) -> None:
        """The model's own train function stands again."""
        if self._model is not None and isinstance(self._model.train_function, ClippedFunction):
            self._model.train_function = self._model.train_function.own

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The optimizer clips inside, where a step is traced and runs; behind, model and optimizer are as
        they were, whether the step ends well or not."""
        optimizer = updating_optimizer(self._model.optimizer)
        optimizer.global_clipnorm = self.value
        try:
            yield
        finally:
            optimizer.global_clipnorm = None
            self.take_out()


class ClippedFunction:
    """A train function that is traced, and runs, while the optimizer clips."""

    def __init__(self, model: keras.Model, clipping: AdaptiveClipping) -> None:
        self._model, self._clipping, self._fit = model, clipping, model.history
        self.within = [clipping.in_place]
        self.own: Any = model.train_function
        try:
            model.make_train_function(force=True)
            self._made = model.train_function
        finally:
            model.train_function = self.own

    def __call__(self, iterator: Any) -> Any:
        if self._model.history is not self._fit:  # left over from a fit that broke off right here
            self._clipping.take_out()
            self._model.train_function = self.own
            return self.own(iterator)
        with self._clipping.in_place():
            return self._made(iterator)


class CheckingRecorder(Recorder):
    """A Recorder that keeps the newest step only, and hands it out once."""

    def __init__(self, every: int, layers: Any) -> None:
        super().__init__(every, layers=layers)
        self._newest: Any = None

    @property
    def next_step(self) -> int:
        """Number of the step that comes next."""
        return self._steps.first

    def take(self) -> Any:
        """The step that was recorded since the last call; None without one."""
        item, self._newest = self._newest, None
        return item

    def _add(self, item: Any) -> None:
        self._newest = item
