"""Adaptive clipping: a fit's gradients are clipped by what its own healthy norms were.

Keras reads an optimizer's `global_clipnorm` when the train step is traced. So a clipped step is traced, and
runs, within the setting; between steps, and after an exception, model and optimizer are as they were.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator

import keras

from trainobs.capture import TrainFunction, updating_optimizer
from trainobs.errors import InvalidArgument
from trainobs.thresholds import Thresholds


def clip_value(norms: Iterable[float], band: tuple[float, float]) -> float:
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
    """When to clip, and to what norm.

    Parameters
    ----------
    thresholds : Thresholds

    Attributes
    ----------
    value : float or None
        The norm that gradients are clipped to; None while they are not.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._norms: collections.deque[float] = collections.deque(maxlen=thresholds.clip_window)
        self._train_function: TrainFunction | None = None
        self.value: float | None = None
        self._begun = self._calm = 0

    def begin_fit(self, model: keras.Model) -> None:
        """Refuse an optimizer that clips already; forget what an earlier fit left."""
        self._train_function = TrainFunction.of(model)
        self.value, self._begun, self._calm = None, 0, 0
        optimizer = updating_optimizer(model.optimizer)
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            value = getattr(optimizer, name, None)  # by name, which the message says
            if value is not None:
                raise InvalidArgument(
                    f'`act` contains "clip", but the optimizer clips already: {name}={value!r}. Make the '
                    f'optimizer without it, or leave "clip" out.'
                )

    def measured(self, norm: float) -> str | None:
        """Note a global norm before clipping; begin or end clipping if it is time.

        Returns
        -------
        str or None
            What was decided, in words.
        """
        low, high = self._thresholds.global_norm
        self._norms.append(norm)
        self._calm = self._calm + 1 if low <= norm <= high or norm < low else 0
        if self.value is None:
            if high < norm < math.inf and self._begun < self._thresholds.clip_most:
                return self._begin(norm)
        elif self._calm >= self._thresholds.clip_release and self._begun < self._thresholds.clip_most:
            self.value = None
            checks = f"{self._calm} check" + ("" if self._calm == 1 else "s")
            return f"gradient norms were healthy in {checks}: gradients are no longer clipped"
        return None

    def _begin(self, norm: float) -> str:
        self.value, self._begun, self._calm = (
            clip_value(self._norms, self._thresholds.global_norm),
            self._begun + 1,
            0,
        )
        return (
            f"the norm of all gradients is {norm:.4g}, above {self._thresholds.global_norm[1]:g}: from now "
            f"on gradients are clipped to a global norm of {self.value:.4g}"
        )

    def begin_batch(self) -> None:
        """Let the coming step be clipped, if clipping is on."""
        if self._train_function is not None and self.value is not None:
            self._train_function.within(_Clipped(self._train_function.model, self.value))


@dataclasses.dataclass(frozen=True)
class _Clipped:
    """While a step is traced and runs: the optimizer clips."""

    model: keras.Model
    norm: float

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        optimizer = updating_optimizer(self.model.optimizer)
        optimizer.global_clipnorm = self.norm
        try:
            yield
        finally:
            optimizer.global_clipnorm = None
