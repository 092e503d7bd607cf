"""Number the train steps of one or more `fit` calls, as they really ran."""

from __future__ import annotations

import keras


class StepCounter:
    """Which steps the coming call of a train function may run, and which it ran.

    Keras announces a call before it knows whether there is data for it: a dataset of unknown
    length ends with a call that runs nothing, and with several steps per execution
    (`compile(steps_per_execution=…)`) the last call of an epoch may run fewer. So steps count once
    they have run. How many there were in a call of several is read from the optimizer.

    Attributes
    ----------
    first : int
        Number of the coming call's first step.
    """

    def __init__(self) -> None:
        self.first = 0
        self._most = 1
        self._updates: int | None = None
        self._optimizer: keras.Optimizer | None = None

    def begin(self, model: keras.Model | None = None) -> range:
        """Numbers of the steps that the coming call of the train function may run.

        Without a model the coming step is one that the user wrote.
        """
        self._most = 1 if model is None else model.steps_per_execution
        if model is not None and self._most > 1:
            self._optimizer = model.optimizer
            self._updates = _updates(model.optimizer)
        return range(self.first, self.first + self._most)

    def ran(self) -> range:
        """Numbers of the steps that the call ran; may be asked several times."""
        count = self._most
        now = _updates(self._optimizer) if count > 1 else None
        if now is not None and self._updates is not None:
            updates = now - self._updates
            count = updates if 0 < updates <= count else count
        return range(self.first, self.first + count)

    def end(self) -> None:
        """Count the steps that ran."""
        self.first, self._most = self.ran().stop, 0


def _updates(optimizer: keras.Optimizer | None) -> int | None:
    """Updates so far; None where steps may pass without one."""
    skips = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if optimizer is None or skips or optimizer.gradient_accumulation_steps:
        return None
    return int(optimizer.iterations)
