"""Remedies put to the test: each on a copy of the model, on the same data, from the same seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
import pandas as pd

from trainobs.errors import InvalidArgument
from trainobs.explain import explain_near_zero_gradients
from trainobs.explanation import Explanation
from trainobs.progress import progress
from trainobs.remedies._surgery import rebuilt, seeded
from trainobs.remedies._treatment import Arrays, ModelAndData, Treatment
from trainobs.remedies._treatments import is_open, treatments

COLUMNS = (
    "cause", "layer", "remedy", "gone", "findings_after", "near_zero_before", "near_zero_after",
    "gradient_gain", "loss_before", "loss_after", "loss_untreated", "changes", "call", "failed",
)  # fmt: skip


def try_remedies(
    report: Explanation,
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    *,
    steps: int = 20,
    batch_size: int = 32,
    seed: int = 0,
    remedies: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Apply every remedy that fits a report's findings to a copy of the model, and rank them.

    Parameters
    ----------
    report : Report
        Of this model and data.
    model : keras.Model
        Compiled; it is left as it is.
    x, y : array or structure of arrays of shape (samples, …)
        What is explained again, and trained on.
    steps : int, default 20
        Training steps of each copy, all over the same batches.
    batch_size : int, default 32
        Samples of a training step.
    seed : int, default 0
        Of the batches' order, of new weights and of dropout.
    remedies : iterable of str, optional
        Only these, by name or the beginning of it ("swap activation"). Default: all that fit.

    Returns
    -------
    pandas.DataFrame
        A row per finding and remedy, the best first: those that remove their finding, then by the
        findings that are left, then by the loss after training. Rows of the same `call` share one trial.
        `cause`, `layer`: the finding; `remedy`; `gone`: whether it is; `findings_after`: errors and
        warnings left; `near_zero_before`, `near_zero_after`: part of all weights; `gradient_gain`: root
        mean square of the gradients of the layers that the finding held down, relative to the one before;
        `loss_before`: of the treated model, untrained; `loss_after`: mean over the last quarter of the
        steps; `loss_untreated`: the same without a remedy; `changes`; `call`; `failed`: why it could not
        be applied, else "".

    Raises
    ------
    InvalidArgument
        If `steps` or `batch_size` is not positive, or no remedy has such a name.
    """
    if min(steps, batch_size) < 1:
        raise InvalidArgument(
            f"`steps` and `batch_size` must be positive. Received: {steps!r} and {batch_size!r}."
        )
    chosen = _chosen(treatments(report), remedies)
    if not chosen:
        return pd.DataFrame(columns=list(COLUMNS))
    training, case = _Training(steps, batch_size, seed), (model, x, y)
    with seeded(seed):
        untreated = training.losses((rebuilt(model), x, y))
    rows = _rows(chosen, case, report, training)
    return _ranked(pd.DataFrame(rows, columns=list(COLUMNS)).assign(loss_untreated=untreated[1]))


def _chosen(fitting: list[Treatment], remedies: Iterable[str] | None) -> list[Treatment]:
    if remedies is None:
        return fitting
    starts = (remedies,) if isinstance(remedies, str) else tuple(remedies)
    chosen = [t for t in fitting if t.remedy.startswith(starts)]
    if fitting and not chosen:
        known = list(dict.fromkeys(t.remedy for t in fitting))
        raise InvalidArgument(f"No remedy that fits is called {starts}. There are: {known}.")
    return chosen


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    order = rows.assign(lost=~rows["gone"]).sort_values(
        ["lost", "findings_after", "loss_after"], kind="stable", na_position="last"
    )
    return rows.loc[order.index].reset_index(drop=True)


@dataclasses.dataclass(frozen=True)
class _Training:
    """Some steps over the same batches, whatever the model."""

    steps: int
    batch_size: int
    seed: int

    def losses(self, case: ModelAndData) -> tuple[float, float]:
        """Training losses: of the first step, and the mean over the last quarter of all steps."""
        model, x, y = case
        losses = []
        for rows in self._batches(len(keras.tree.flatten(x)[0])):
            batch = keras.tree.map_structure(lambda leaf: np.asarray(leaf)[rows], (x, y))  # noqa: B023
            model.reset_metrics()
            logs = model.train_on_batch(*batch, return_dict=True)
            losses.append(float(logs["loss"]))
        return losses[0], float(np.mean(losses[-max(1, self.steps // 4) :]))

    def _batches(self, samples: int) -> np.ndarray:
        order = np.random.default_rng(self.seed).permutation(samples)
        return np.resize(order, (self.steps, self.batch_size))


@dataclasses.dataclass(frozen=True, eq=False)
class _Trial:
    """What a treated model shows; `after` is None where it could not be treated."""

    after: Explanation | None
    loss_before: float = np.nan
    loss_after: float = np.nan
    failed: str = ""


def _rows(
    chosen: list[Treatment], case: ModelAndData, before: Explanation, training: _Training
) -> list[dict[str, object]]:
    """A row per treatment; those of the same call are one trial, looked at for each finding."""
    by_call: dict[str, list[int]] = {}
    for place, treatment in enumerate(chosen):
        by_call.setdefault(treatment.call, []).append(place)
    rows: dict[int, dict[str, object]] = {}
    for places in progress(list(by_call.values()), len(by_call), unit="remedy"):
        trial = _trial(chosen[places[0]], case, before, training)
        rows |= {place: _row(chosen[place], trial, before) for place in places}
    return [rows[place] for place in range(len(chosen))]


def _trial(treatment: Treatment, case: ModelAndData, before: Explanation, training: _Training) -> _Trial:
    with seeded(training.seed):
        try:
            treated = treatment.apply(case)
        except InvalidArgument as error:
            return _Trial(None, failed=str(error))
        after = explain_near_zero_gradients(*treated, thresholds=before.thresholds)
        return _Trial(after, *training.losses(treated))


def _row(treatment: Treatment, trial: _Trial, before: Explanation) -> dict[str, object]:
    """What a trial means for one of the findings that share it."""
    row: dict[str, object] = {
        "cause": treatment.cause,
        "layer": treatment.layer,
        "remedy": treatment.remedy,
        "changes": treatment.changes,
        "call": treatment.call,
    }
    row |= {"near_zero_before": _near_zero(before), "failed": trial.failed, "gone": False}
    if trial.after is None:
        return row
    held = _held(before, treatment)
    return row | {
        "gone": not _is_left(trial.after, treatment),
        "findings_after": sum(f.severity != "info" for f in trial.after.diagnosis.findings),
        "near_zero_after": _near_zero(trial.after),
        "gradient_gain": _ratio(_gradient(trial.after, held), _gradient(before, held)),
        "loss_before": trial.loss_before,
        "loss_after": trial.loss_after,
    }


def _is_left(after: Explanation, treatment: Treatment) -> bool:
    """Whether the finding is still there; one without a place may have moved to another layer."""
    layers = [f.layer for f in after.diagnosis.findings if f.cause == treatment.cause and is_open(f)]
    return treatment.layer in layers if treatment.mechanism.has_place else bool(layers)


def _held(before: Explanation, treatment: Treatment) -> set[str]:
    """The layers whose gradients the finding keeps near zero."""
    key = treatment.mechanism.key
    same = [finding for finding in before.diagnosis.findings if (finding.cause, finding.layer) == key]
    return {treatment.layer, *(name for finding in same for name in finding.affects)}


def _gradient(report: Explanation, layers: set[str]) -> float:
    """Root mean square over all weights of layers."""
    rows = report.layers[report.layers["layer"].isin(layers)]
    squares = (rows["gradient_rms"].to_numpy(float) ** 2 * rows["size"].to_numpy(float)).sum()
    return float(np.sqrt(squares / max(rows["size"].sum(), 1)))


def _ratio(after: float, before: float) -> float:
    return after / before if before else (float("inf") if after else float("nan"))


def _near_zero(report: Explanation) -> float:
    """Part of all weights whose gradient is near zero."""
    rows = report.layers
    return float(np.nansum(rows["near_zero"] * rows["size"]) / max(rows["size"].sum(), 1))
