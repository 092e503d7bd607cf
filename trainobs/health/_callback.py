"""A Keras callback that checks a training's health every so many steps."""

from __future__ import annotations

import collections
import functools
import math
import os
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import pandas as pd

from trainobs.capture import CapturedStep
from trainobs.errors import InvalidArgument
from trainobs.health._acts import Acts, say
from trainobs.health._clipping import AdaptiveClipping
from trainobs.health._gradients import Moved
from trainobs.health._history import History
from trainobs.health._logs import Log, Logs
from trainobs.health._oscillation import LossHistory
from trainobs.health._report import HealthReport, report_of
from trainobs.health._samples import Samples, samples_of
from trainobs.health._verdict import Asking
from trainobs.recorder import DueSteps, Schedule
from trainobs.records import StepRecord
from trainobs.selection import Layers, Selection
from trainobs.thresholds import Thresholds

#: What Keras hands to a callback: metrics by name, or what the model's own train step returned.
Logged = Mapping[str, float | np.ndarray] | None


class GradientHealth(keras.callbacks.Callback):
    """Watch gradients, activations, weights and updates during an unmodified `model.fit`.

    Every `every` steps a step is recorded as a `Recorder` does, and checked; all others run the model's own
    train function, untouched. Without "clip" the trained weights are the same, bit for bit.

    Parameters
    ----------
    every : int, default 100
        Check steps 0, every, 2·every, …, counted over all `fit` calls.
    thresholds : Thresholds, optional
        What figures are compared with.
    log_dir : str or path-like, optional
        Where TensorBoard's event files are written: a scalar "health/…" per figure, and the heatmap of causes
        as an image.
    log : callable, optional
        Called as ``log(dict of str to float, step)`` after each check; all that W&B, MLflow or Comet need.
    act : subset of {"warn", "stop", "clip"}, default ("warn",)
        What a finding does. "warn": a `HealthWarning` with the remedy, once per rule and layer.
        "stop": training ends at an error. "clip": see Notes.
    layers : str, type, or list of them, optional
        Check only these layers (see `Recorder`). Norms over all gradients are then theirs alone.
    explain : bool, default True
        Whether the heatmap is drawn for `log_dir`.

    Attributes
    ----------
    report : HealthReport or None
        Of the latest check.
    reports : tuple of HealthReport
        Of the last 100 checks.

    Raises
    ------
    InvalidArgument
        If a value does not fit; in `fit` if the optimizer clips already and `act` contains "clip".

    Notes
    -----
    "clip": when the norm of all gradients, before clipping, leaves the healthy band (`global_norm`) upwards,
    gradients are clipped from the next step on to ``median of the last clip_window healthy norms``, or to the
    geometric mean of the band if there were none. Clipping ends after `clip_release` healthy checks in a row;
    it begins at most `clip_most` times in a fit, and stays on the last time. Each time TensorFlow traces the
    train step once more. Outside of steps, and after the fit, the optimizer has its own setting.

    The update ratio is measured: from the weights before and after the step. The loss that may oscillate is
    the mean over the steps between two checks (at least `oscillation_steps`), worked out from the running
    mean that Keras reports at both: no other step is looked at. A model's own `train_step` that reports no
    "loss" has none.

    Examples
    --------
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> health, x = GradientHealth(every=2, act=()), np.random.default_rng(0).random((32, 4))
    >>> history = model.fit(x, np.ones(32), batch_size=8, callbacks=[health], verbose=0)
    >>> [report.step for report in health.reports]
    [0, 2]
    >>> sorted(health.history.columns)
    ['figure', 'layer', 'step', 'value', 'weight']
    """

    def __init__(
        self,
        every: int = 100,
        *,
        thresholds: Thresholds | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        log: Log | None = None,
        act: str | Iterable[str] = ("warn",),
        layers: Layers = None,
        explain: bool = True,
    ) -> None:
        super().__init__()
        self._thresholds = Thresholds.of(thresholds, None)
        self._acts, self._logs = Acts(act), Logs(log_dir, log, explain)
        if self._acts.clips and layers is not None:
            raise InvalidArgument(
                '`act` contains "clip", which needs the norm of all gradients. Leave `layers` out, or "clip".'
            )
        self._clipping = AdaptiveClipping(self._thresholds) if self._acts.clips else None
        self._due: collections.deque[CapturedStep] = collections.deque(maxlen=1)
        self._steps = DueSteps(Schedule.of(every), Selection(layers), self._due.append)
        self._losses, self._checks = LossHistory(self._thresholds), History()
        self._before: Samples | None = None
        self._asking = Asking()
        self._epoch_begin = 0

    @property
    def report(self) -> HealthReport | None:
        """The report of the latest check; None before the first."""
        return self.reports[-1] if self.reports else None

    @property
    def reports(self) -> tuple[HealthReport, ...]:
        """The reports of the last 100 checks, oldest first."""
        return self._checks.reports

    @property
    def history(self) -> pd.DataFrame:
        """Every figure of every check, tidy.

        Returns
        -------
        pandas.DataFrame
            `step`, `layer`, `weight`, `figure`, `value`; layer and weight are "" for figures of the model
            ("loss", "global_norm"). Figures that are not known have no row.
        """
        return self._checks.table()

    def __repr__(self) -> str:
        return f"GradientHealth(checked steps: {[report.step for report in self.reports]})"

    # ---- called by Keras ---------------------------------------------------------------------

    def on_train_begin(self, logs: Logged = None) -> None:
        """Check the model and its optimizer before the first step."""
        if self._clipping is not None:
            self._clipping.begin_fit(self.model)
        self._steps.begin_fit(self.model)
        self._due.clear()
        self._logs.begin_fit()

    def on_epoch_begin(self, epoch: int, logs: Logged = None) -> None:
        """Keras begins the mean of the loss anew."""
        self._steps.begin_epoch(epoch)
        self._losses.begin_epoch()
        self._epoch_begin = self._steps.next_step

    def on_train_batch_begin(self, batch: int, logs: Logged = None) -> None:
        """Let a due step be recorded, and any step be clipped while clipping is on."""
        self._steps.begin_batch(self.model)
        if self._clipping is not None:
            self._clipping.begin_batch()

    def on_train_batch_end(self, batch: int, logs: Logged = None) -> None:
        """Check the step if it was recorded."""
        self._steps.end_batch(self.model)
        while self._due:
            self._check_step(self._due.pop().record(), _running_loss(logs))

    def on_train_end(self, logs: Logged = None) -> None:
        """Close the event file."""
        self._logs.close()

    # ---- one check ---------------------------------------------------------------------------

    def _check_step(self, record: StepRecord, running_loss: float) -> None:
        if math.isfinite(running_loss):
            self._losses.add(record.step + 1 - self._epoch_begin, running_loss, record.loss)
        report = report_of(
            record,
            self._thresholds,
            step=record.step,
            first=not self.reports,
            moved=Moved(_weights_of(self.model)),
            before=self._before,
            oscillation=self._losses.oscillation(self._thresholds),
            ask=functools.partial(self._asking.causes, record, self._thresholds),
        )
        self._before = samples_of(record.sites)
        self._checks.add(report)
        self._logs.write(report, record)
        self._act(report)

    def _act(self, report: HealthReport) -> None:
        if self._clipping is not None:
            decided = self._clipping.measured(report.global_norm)
            if decided is not None:
                say(f"Step {report.step}: {decided}.")
        self._acts.answer(report, self.model)


def _running_loss(logs: Logged) -> float:
    """Keras' running mean of the loss; nan if the train step reports none."""
    value = logs.get("loss") if isinstance(logs, Mapping) else None
    return math.nan if value is None else float(np.asarray(value))


def _weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    """The trainable weights by path; Keras' own conversion warns under new versions of NumPy."""
    return {variable.path: np.asarray(variable.value) for variable in model.trainable_variables}
