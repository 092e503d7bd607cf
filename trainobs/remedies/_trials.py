"""Remedies put to the test: each on a copy of the model, on the same data, from the same seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd

from trainobs.errors import InvalidArgument
from trainobs.explain import explain_near_zero_gradients
from trainobs.progress import progress
from trainobs.remedies._catalogue import Case, Treatment, treatments
from trainobs.remedies._surgery import rebuilt, seeded

if TYPE_CHECKING:
    from trainobs.report import Report

#: Findings that may move to another layer: they are gone when no layer has them.
_WITHOUT_PLACE = ("vanishing", "exploding", "non_finite")
COLUMNS = (
    "cause", "layer", "remedy", "gone", "findings_after", "near_zero_before", "near_zero_after",
    "gradient_gain", "loss_before", "loss_after", "loss_untreated", "changes", "call", "failed",
)  # fmt: skip


def try_remedies(
    report: Report,
    model: Any,
    x: Any,
    y: Any,
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
        A row per remedy, the best first: those that remove their finding, then by the findings that are
        left, then by the loss after training. `cause`, `layer`: the finding; `remedy`; `gone`: whether
        it is; `findings_after`: errors and warnings left; `near_zero_before`, `near_zero_after`: part of
        all weights; `gradient_gain`: root mean square of the gradients of the layers that the finding
        held down, against the one before; `loss_before`: of the treated model, untrained; `loss_after`:
        mean over the last quarter of the steps; `loss_untreated`: the same without a remedy; `changes`;
        `call`; `failed`: why it could not be applied, else "".

    Raises
    ------
    InvalidArgument
        If `steps` or `batch_size` is not positive, or no remedy is called so.
    """
    if min(steps, batch_size) < 1:
        raise InvalidArgument(
            f"`steps` and `batch_size` must be positive. Received: {steps!r} and {batch_size!r}."
        )
    chosen = _chosen(treatments(report), remedies)
    if not chosen:
        return pd.DataFrame(columns=list(COLUMNS))
    case = (model, x, y)
    with seeded(seed):
        untreated = _losses((rebuilt(model), x, y), steps, batch_size, seed)
    rows = []
    for treatment in progress(chosen, len(chosen), unit="remedy"):
        with seeded(seed):
            tried = _tried(treatment, case, report, steps, batch_size, seed)
        rows.append({**tried, "loss_untreated": untreated[1]})
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    order = found.assign(lost=~found["gone"]).sort_values(
        ["lost", "findings_after", "loss_after"], kind="stable", na_position="last"
    )
    return found.loc[order.index].reset_index(drop=True)


def _chosen(fitting: list[Treatment], remedies: Iterable[str] | None) -> list[Treatment]:
    if remedies is None:
        return fitting
    starts = (remedies,) if isinstance(remedies, str) else tuple(remedies)
    chosen = [t for t in fitting if t.remedy.startswith(starts)]
    if fitting and not chosen:
        known = list(dict.fromkeys(t.remedy for t in fitting))
        raise InvalidArgument(f"No remedy that fits is called {starts}. There are: {known}.")
    return chosen


def _tried(
    treatment: Treatment, case: Case, before: Report, steps: int, batch_size: int, seed: int
) -> dict[str, Any]:
    row = {name: getattr(treatment, name) for name in ("cause", "layer", "remedy", "changes", "call")}
    row |= {"near_zero_before": _near_zero(before), "failed": "", "gone": False}
    try:
        treated = treatment.apply(case)
    except InvalidArgument as error:
        return row | {"failed": str(error)}
    after = explain_near_zero_gradients(*treated, near_zero=before.near_zero)
    held = _held(before, treatment)
    loss_before, loss_after = _losses(treated, steps, batch_size, seed)
    return row | {
        "gone": not _is_left(after, treatment),
        "findings_after": int((after.findings["severity"] != "info").sum()),
        "near_zero_after": _near_zero(after),
        "gradient_gain": _ratio(_gradient(after, held), _gradient(before, held)),
        "loss_before": loss_before,
        "loss_after": loss_after,
    }


def _is_left(after: Report, treatment: Treatment) -> bool:
    findings = after.findings
    same = findings[(findings["cause"] == treatment.cause)]
    if treatment.cause != "frozen":
        same = same[same["severity"] != "info"]
    anywhere = treatment.cause in _WITHOUT_PLACE
    return bool(len(same)) if anywhere else bool((same["layer"] == treatment.layer).any())


def _held(before: Report, treatment: Treatment) -> set[str]:
    """The layers whose gradients the finding keeps near zero."""
    rows = before.findings
    found = rows[(rows["cause"] == treatment.cause) & (rows["layer"] == treatment.layer)]
    return {treatment.layer, *(name for affected in found["affects"] for name in affected)}


def _gradient(report: Report, layers: set[str]) -> float:
    """Root mean square over all weights of layers."""
    rows = report.layers[report.layers["layer"].isin(layers)]
    squares = (rows["gradient_rms"].to_numpy(float) ** 2 * rows["size"].to_numpy(float)).sum()
    return float(np.sqrt(squares / max(rows["size"].sum(), 1)))


def _ratio(after: float, before: float) -> float:
    return after / before if before else (float("inf") if after else float("nan"))


def _near_zero(report: Report) -> float:
    """Part of all weights whose gradient is near zero."""
    rows = report.layers
    return float(np.nansum(rows["near_zero"] * rows["size"]) / max(rows["size"].sum(), 1))


def _losses(case: Case, steps: int, batch_size: int, seed: int) -> tuple[float, float]:
    """Training losses: of the first step, and the mean over the last quarter of all steps."""
    model, x, y = case
    samples = len(keras.tree.flatten(x)[0])
    order = np.resize(np.random.default_rng(seed).permutation(samples), steps * batch_size)
    losses = []
    for step in range(steps):
        rows = order[step * batch_size : (step + 1) * batch_size]
        batch = keras.tree.map_structure(lambda leaf: np.asarray(leaf)[rows], (x, y))  # noqa: B023
        model.reset_metrics()
        logs = model.train_on_batch(*batch, return_dict=True)
        losses.append(float(logs["loss"]))
    return losses[0], float(np.mean(losses[-max(1, steps // 4) :]))
