"""A Keras callback that checks a training's health every so many steps."""

from __future__ import annotations

import collections
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import pandas as pd

from trainobs.capture import CapturedStep
from trainobs.errors import InvalidArgument
from trainobs.health._clipping import AdaptiveClipping
from trainobs.health._figures import FIGURES
from trainobs.health._oscillation import LossHistory
from trainobs.health._report import HealthReport, report_of
from trainobs.health._samples import Samples, samples_of
from trainobs.health._settings import HealthSettings
from trainobs.health._tensorboard import EventFiles, heatmap_png
from trainobs.recorder import DueSteps, Schedule
from trainobs.records import StepRecord
from trainobs.selection import Layers, Selection

_ACTS = ("warn", "stop", "clip")
_KEPT_REPORTS = 100


class HealthWarning(UserWarning):
    """A training shows a sign of ill health."""


class GradientHealth(keras.callbacks.Callback):
    """Watch gradients, activations, weights and updates during an unmodified `model.fit`.

    Every `every` steps a step is recorded as a `Recorder` does, and checked; all others run the model's own
    train function, untouched. Without "clip" the trained weights are the same, bit for bit.

    Parameters
    ----------
    every : int, default 100
        Check steps 0, every, 2·every, …, counted over all `fit` calls.
    settings : HealthSettings, optional
        The thresholds.
    log_dir : str or path-like, optional
        Where TensorBoard's event files are written: a scalar "health/…" per figure, and the heatmap of causes
        as an image.
    log : callable, optional
        Called as ``log(dict of str to float, step)`` after each check; all that W&B, MLflow or Comet need.
    act : subset of {"warn", "stop", "clip"}, default ("warn",)
        What a finding does. "warn": a `HealthWarning` with the recommendation, once per rule and layer.
        "stop": training ends at an error. "clip": see Notes.
    layers : str, type, or list of them, optional
        Check only these layers, as of `Recorder`. Norms over all gradients are then theirs alone.
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
        If a value does not fit; in `fit` if the optimizer clips already and `act` holds "clip".

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
        settings: HealthSettings | None = None,
        log_dir: Any = None,
        log: Callable[[dict[str, float], int], Any] | None = None,
        act: Iterable[str] = ("warn",),
        layers: Layers = None,
        explain: bool = True,
    ) -> None:
        super().__init__()
        self._settings = settings or HealthSettings()
        self._acts = (act,) if isinstance(act, str) else tuple(act)
        _check(self._settings, self._acts, log, layers)
        self._log_dir, self._log, self._explain = log_dir, log, explain
        self._clipping = AdaptiveClipping(self._settings) if "clip" in self._acts else None
        self._due: collections.deque[CapturedStep] = collections.deque(maxlen=1)
        self._steps = DueSteps(Schedule.of(every), Selection(layers), self._due.append)
        self._losses = LossHistory(self._settings)
        self._files: EventFiles | None = None
        self._reports: collections.deque[HealthReport] = collections.deque(maxlen=_KEPT_REPORTS)
        self._rows: list[tuple[int, str, str, str, float]] = []
        self._before: Samples | None = None
        self._warned: set[tuple[str, str]] = set()
        self._epoch_begin = 0

    @property
    def report(self) -> HealthReport | None:
        """Of the latest check; None before the first."""
        return self._reports[-1] if self._reports else None

    @property
    def reports(self) -> tuple[HealthReport, ...]:
        """Of the last 100 checks, oldest first."""
        return tuple(self._reports)

    @property
    def history(self) -> pd.DataFrame:
        """Every figure of every check, tidy.

        Returns
        -------
        pandas.DataFrame
            `step`, `layer`, `weight`, `figure`, `value`; layer and weight are "" for figures of the model
            ("loss", "global_norm"). Figures that are not known have no row.
        """
        return pd.DataFrame(self._rows, columns=["step", "layer", "weight", "figure", "value"])

    def __repr__(self) -> str:
        return f"GradientHealth(checked steps: {[report.step for report in self._reports]})"

    # ---- called by Keras ---------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the model and its optimizer before the first step."""
        if self._clipping is not None:
            self._clipping.begin_fit(self.model)
        self._steps.begin_fit(self.model)
        self._due.clear()
        self._close()
        if self._log_dir is not None:
            self._files = EventFiles(self._log_dir)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras begins the mean of the loss anew."""
        self._steps.begin_epoch(epoch)
        self._losses.begin_epoch()
        self._epoch_begin = self._steps.next_step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Let a due step be recorded, and any step be clipped while clipping is on."""
        self._steps.begin_batch(self.model)
        if self._clipping is not None:
            self._clipping.begin_batch()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the step if it was recorded."""
        self._steps.end_batch(self.model)
        while self._due:
            self._check_step(self._due.pop().record(), _running_loss(logs))

    def on_train_end(self, logs: Any = None) -> None:
        """Close the event file."""
        self._close()

    def _close(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None

    # ---- one check ---------------------------------------------------------------------------

    def _check_step(self, record: StepRecord, running_loss: float) -> None:
        if math.isfinite(running_loss):
            self._losses.add(record.step + 1 - self._epoch_begin, running_loss, record.loss)
        report = report_of(
            record,
            self._settings,
            step=record.step,
            first=not self._reports,
            after={variable.path: _array(variable) for variable in self.model.trainable_variables},
            before=self._before,
            oscillation=self._losses.oscillation(self._settings),
        )
        self._before = samples_of(record.sites)
        self._reports.append(report)
        self._note(report)
        self._write(report, record)
        self._act(report)

    def _note(self, report: HealthReport) -> None:
        """Add the figures to the history."""
        step = report.step or 0
        self._rows += [(step, "", "", "loss", report.loss), (step, "", "", "global_norm", report.global_norm)]
        for row in report.layers.reset_index().to_dict("records"):
            known = [(name, row[name]) for name in FIGURES if not math.isnan(row[name])]
            self._rows += [(step, row["layer"], row["weight"], name, float(value)) for name, value in known]

    def _write(self, report: HealthReport, record: StepRecord) -> None:
        """Log the check to files and to the callable."""
        scalars, step = report.scalars(), report.step or 0
        if self._files is not None:
            self._files.scalars(scalars, step)
            if self._explain and record.sites:
                self._files.image("causes", *heatmap_png(record), step)
            self._files.flush()
        if self._log is not None:
            self._log(scalars, step)

    def _act(self, report: HealthReport) -> None:
        if self._clipping is not None:
            decided = self._clipping.measured(report.global_norm)
            if decided is not None:
                self._say(f"Step {report.step}: {decided}.")
        serious = report.findings[report.findings["severity"] != "info"]
        if "warn" in self._acts:
            for row in serious.itertuples():
                if (row.rule, row.layer) not in self._warned:
                    self._warned.add((str(row.rule), str(row.layer)))
                    self._say(f"Step {report.step}: {row.message} {row.recommendation}")
        errors = serious[serious["severity"] == "error"]
        if "stop" in self._acts and len(errors):
            self.model.stop_training = True
            self._say(f"Training stops at step {report.step}: {errors['message'].iloc[0]}")

    def _say(self, text: str) -> None:
        warnings.warn(text, HealthWarning, stacklevel=4)


def _check(settings: Any, acts: tuple[str, ...], log: Any, layers: Any) -> None:
    if not isinstance(settings, HealthSettings):
        raise InvalidArgument(
            f"`settings` must be a trainobs HealthSettings. Received: {settings!r}. For a preset pass "
            f"`HealthSettings.preset(name)`."
        )
    if not set(acts) <= set(_ACTS):
        raise InvalidArgument(f"`act` must be a subset of {_ACTS}. Received: act={acts!r}.")
    if log is not None and not callable(log):
        raise InvalidArgument(
            f"`log` must be callable as log(dict, step). Received: {log!r}. For TensorBoard pass `log_dir=`."
        )
    if "clip" in acts and layers is not None:
        raise InvalidArgument(
            '`act` holds "clip", which needs the norm of all gradients. Leave `layers` out, or "clip".'
        )


def _running_loss(logs: Any) -> float:
    """Keras' running mean of the loss; nan if the train step reports none."""
    value = (logs or {}).get("loss") if isinstance(logs, dict) or logs is None else None
    return math.nan if value is None else float(np.asarray(value))


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable.value)  # Keras' own conversion warns under new versions of NumPy
