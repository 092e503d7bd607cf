"""The loss between checks, without a look at any step in between, and how much it oscillates.

| symbol | meaning                                                              |
|--------|----------------------------------------------------------------------|
| m_k    | Keras' running mean of the loss after k steps of an epoch            |
| L      | mean loss of the steps a+1 … b: (b m_b − a m_a) / (b − a)            |
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

import numpy as np

from trainobs.thresholds import Thresholds


class LossHistory:
    """Mean losses of stretches of steps, from the running means that Keras reports at their ends.

    Parameters
    ----------
    thresholds : Thresholds
        Its `oscillation_points` and `oscillation_steps`.

    Examples
    --------
    >>> history = LossHistory(Thresholds(oscillation_steps=2))
    >>> history.add(2, 1.0)
    >>> history.add(4, 0.75)
    >>> list(history.points)
    [1.0, 0.5]
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._steps = thresholds.oscillation_steps
        self.points: collections.deque[float] = collections.deque(maxlen=thresholds.oscillation_points)
        self._deviations: collections.deque[float] = collections.deque(maxlen=thresholds.oscillation_points)
        self._from = (0, 0.0)

    def begin_epoch(self) -> None:
        """Keras begins its running mean anew."""
        self._from = (0, 0.0)

    def add(self, steps: int, running_mean: float, batch_loss: float = math.nan) -> None:
        """Note the running mean after so many steps of the epoch.

        Parameters
        ----------
        steps : int
            Steps of the epoch so far.
        running_mean : float
            What Keras calls "loss" then.
        batch_loss : float, optional
            The last step's own loss: how far it is from the mean tells how noisy a batch is.
        """
        before, mean = self._from
        if steps - before < self._steps:
            return
        loss = (steps * running_mean - before * mean) / (steps - before)
        self._from = (steps, running_mean)
        self.points.append(loss)
        if math.isfinite(batch_loss):
            self._deviations.append(batch_loss - loss)

    @property
    def noise(self) -> float:
        """Standard error of a point, from batches against their stretch; 0 if it is not known."""
        finite = [d for d in self._deviations if math.isfinite(d)]
        return float(np.sqrt(np.mean(np.square(finite)) / self._steps)) if finite else 0.0

    def oscillation(self, thresholds: Thresholds) -> float:
        """`oscillation` of the points; nan while there are fewer than `oscillation_points`."""
        if len(self.points) < thresholds.oscillation_points:
            return math.nan
        return oscillation(self.points, thresholds.oscillation_swing, 3 * self.noise)


def oscillation(
    losses: Sequence[float] | collections.deque[float], swing: float, noise: float = 0.0
) -> float:
    """Share of the inner points of a loss curve that are turning points with a swing on both sides.

    Parameters
    ----------
    losses : sequence of float
        At least three.
    swing : float
        Relative to the mean absolute loss: smaller changes do not count.
    noise : float, default 0
        Absolute: smaller changes do not count either.

    Returns
    -------
    float
        In [0, 1]; nan of fewer than three points, or if one is not finite.

    References
    ----------
    Zhang et al.: AUTOTRAINER, ICSE 2021 (unstable convergence: ζ, η), for the accuracy over epochs.

    Examples
    --------
    >>> oscillation([1, 2, 1, 2, 1], swing=0.03)
    1.0
    >>> oscillation([5, 4, 3, 2, 1], swing=0.03)
    0.0
    """
    curve = np.asarray(losses, float)
    if curve.size < 3 or not np.all(np.isfinite(curve)):
        return math.nan
    changes = np.diff(curve)
    large = np.abs(changes) > max(swing * float(np.mean(np.abs(curve))), noise)
    turns = (np.sign(changes[1:]) == -np.sign(changes[:-1])) & large[1:] & large[:-1]
    return float(np.mean(turns))
