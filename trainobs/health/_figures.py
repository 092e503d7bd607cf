"""From one recorded step to a table of figures, a row per weight.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W, ΔW   | a weight before the step, and what the step added to it        |
| g       | dJ/dW, before clipping and the optimizer                       |
| ‖·‖     | Frobenius norm: root of the sum of squares of all elements     |
| w*      | He's scale √(2/fan_in)                                         |
| S       | slope φ'(Z) of the activation behind the weight                |
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from trainobs.health._samples import Samples, samples_of, shift
from trainobs.health._settings import HealthSettings
from trainobs.records import Rows, SiteRecord, StepRecord, WeightRecord

Array = np.ndarray
_CARRYING = ("kernel", "recurrent", "table")
FIGURES = (
    "gradient_norm", "gradient_mean_abs", "gradient_max_abs", "non_finite", "zero_fraction", "weight_rms",
    "he_ratio", "glorot_ratio", "update_ratio", "dead_units", "saturated", "activation_mean",
    "activation_std", "shift",
)  # fmt: skip
COLUMNS = ("layer", "kind", "role", "dtype", "trainable", "cancelled", "at_output", "size", *FIGURES)


@np.errstate(invalid="ignore", over="ignore", divide="ignore")  # NaN in, NaN out: that is a finding
def figures(
    record: StepRecord,
    settings: HealthSettings,
    *,
    after: Mapping[str, Array] | None = None,
    learning_rate: float | None = None,
    before: Samples | None = None,
) -> pd.DataFrame:
    """The figures of every weight of a step.

    Parameters
    ----------
    record : StepRecord
    settings : HealthSettings
        Its `dead_activity` and `saturation_slope`.
    after : mapping of str to array, optional
        By path: the weights after the step.
    learning_rate : float, optional
        Where `after` is not known: ``learning_rate * ‖g‖ / ‖W‖``, a step of plain gradient descent, takes
        the place of the update ratio.
    before : Samples, optional
        Activations at an earlier check, for the shift.

    Returns
    -------
    pandas.DataFrame
        Index `weight` (the variable's path); columns in docs/health.md. nan means "nothing to say".

    Notes
    -----
    Each weight counts once: calls of a shared layer hold the same gradient, parts of a weight (gates) are
    put together, gradients of several passes (`SiteRecord.loss`) are added. A table's figures are those of
    the rows that were looked up.
    """
    by_weight: dict[str, list[SiteRecord]] = {}
    for site in record.sites:
        by_weight.setdefault(site.weight, []).append(site)
    outputs = {output.node for output in record.outputs}
    speaking = _speakers(record.sites)
    moved = _Moved(after, learning_rate)
    rows = {
        path: _row_of_sites(sites, settings, speaking, outputs, moved) for path, sites in by_weight.items()
    }
    rows |= {weight.weight: _row_of_weight(weight) for weight in record.weights}
    now = samples_of(record.sites)
    shifts = {layer: shift((before or {}).get(layer, {}), sample) for layer, sample in now.items()}
    for row in rows.values():
        row["shift"] = shifts.get(row["layer"], math.nan)
    index = pd.Index(list(rows), name="weight", dtype=object)
    return pd.DataFrame(list(rows.values()), index=index, columns=list(COLUMNS))


def global_norm(table: pd.DataFrame) -> float:
    """√(Σ ‖g‖²) over the weights that a gradient arrived at; nan without any, or with one that is NaN."""
    norms = table["gradient_norm"].to_numpy(float)[table["zero_fraction"].notna().to_numpy()]
    return float(np.sqrt(np.sum(np.square(norms)))) if norms.size else math.nan


# ---- one weight ----------------------------------------------------------------------------------


class _Moved:
    """How far a step moved a weight."""

    def __init__(self, after: Mapping[str, Array] | None, learning_rate: float | None) -> None:
        self._after, self._rate = after, learning_rate

    def ratio(self, path: str, weight: Array | None, rows: Array | None, gradient_norm: float) -> float:
        """‖ΔW‖ / ‖W‖, or what plain gradient descent would make of it; nan if nothing is known."""
        norm = math.nan if weight is None else _norm(weight)
        if weight is None or not norm > 0:
            return math.nan
        if self._after is None:
            return math.nan if self._rate is None else self._rate * gradient_norm / norm
        if path not in self._after:
            return math.nan
        after = np.asarray(self._after[path])
        after = after if rows is None else after[rows]
        return _norm(after.reshape(weight.shape).astype(np.float64) - weight) / norm


def _row_of_sites(
    sites: list[SiteRecord],
    settings: HealthSettings,
    speaking: set[int],
    outputs: set[int],
    moved: _Moved,
) -> dict[str, Any]:
    first = sites[0]
    parts: dict[str, list[SiteRecord]] = {}
    for site in sites:
        parts.setdefault(site.part, []).append(site)
    rows = None if first.rows is None else np.unique(np.concatenate([np.asarray(s.rows) for s in sites]))
    gradients = [_gradient(calls, rows) for calls in parts.values()] if first.trainable else []
    known = [gradient for gradient in gradients if gradient is not None]
    row = _of_gradient(np.concatenate([g.reshape(-1) for g in known]) if known else None)
    weight = _whole_weight(parts, rows)
    own = [site for site in sites if id(site) in speaking]
    row |= _scales([calls[0] for calls in parts.values()], weight)
    row |= _of_activations(own, settings)
    return row | {
        "layer": first.layer,
        "kind": first.kind,
        "role": first.role,
        "dtype": first.dtype,
        "trainable": first.trainable,
        "cancelled": first.role == "bias" and _is_cancelled(first),
        "at_output": all(site.activation_node in outputs for site in sites),
        "size": math.prod(first.shape) if first.shape else int(first.kernel.size),
        "update_ratio": moved.ratio(first.weight, weight, rows, row["gradient_norm"]),
    }


def _row_of_weight(weight: WeightRecord) -> dict[str, Any]:
    """Of a weight whose layer is not known there is the gradient alone."""
    gradient = weight.gradient
    if isinstance(gradient, Rows):
        gradient = gradient.dense(weight.shape)
    return _of_gradient(gradient if weight.trainable else None) | {
        "layer": weight.layer,
        "kind": weight.kind,
        "role": "",
        "dtype": weight.dtype,
        "trainable": weight.trainable,
        "cancelled": False,
        "at_output": False,
        "size": math.prod(weight.shape),
    }


def _of_gradient(gradient: Array | None) -> dict[str, Any]:
    """Norm and the like; nan where no gradient arrived."""
    if gradient is None or not gradient.size:
        names = ("gradient_norm", "gradient_mean_abs", "gradient_max_abs", "zero_fraction")
        return {**dict.fromkeys(names, math.nan), "non_finite": 0}
    sizes = np.abs(np.asarray(gradient, np.float64))
    return {
        "gradient_norm": float(np.sqrt(np.sum(np.square(sizes)))),
        "gradient_mean_abs": float(np.mean(sizes)),
        "gradient_max_abs": float(np.max(sizes)),
        "zero_fraction": float(np.mean(sizes == 0)),
        "non_finite": int(np.count_nonzero(~np.isfinite(sizes))),
    }


def _gradient(calls: list[SiteRecord], rows: Array | None) -> Array | None:
    """dJ/dW of one part of a weight: each pass once, calls of one pass hold the same; None without any."""
    one_of_each_pass = {site.loss: site for site in calls if site.kernel_gradient is not None}
    if not one_of_each_pass:
        return None
    if rows is None:
        return functools.reduce(np.add, (np.asarray(s.kernel_gradient) for s in one_of_each_pass.values()))
    width = np.asarray(calls[0].kernel).shape[1:]
    by_pass = {loss: np.zeros((rows.size, *width)) for loss in one_of_each_pass}
    for site in calls:  # each call holds the rows that it looked up, of the gradient of all calls
        if site.kernel_gradient is not None and site.rows is not None:
            by_pass[site.loss][np.searchsorted(rows, site.rows)] = site.kernel_gradient
    return functools.reduce(np.add, by_pass.values())


def _whole_weight(parts: dict[str, list[SiteRecord]], rows: Array | None) -> Array | None:
    """W before the step, of its own shape (of a table, its rows `rows`); None if parts don't make it up."""
    firsts = [calls[0] for calls in parts.values()]
    site = firsts[0]
    if rows is not None:
        whole = np.zeros((rows.size, *site.kernel.shape[1:]), np.float64)
        for call in parts[site.part]:
            whole[np.searchsorted(rows, np.asarray(call.rows))] = call.kernel
        return whole
    if len(firsts) == 1:
        return np.asarray(site.kernel, np.float64)
    pieces = [np.asarray(first.op.canonical_kernel(first.kernel), np.float64) for first in firsts]
    if sum(piece.size for piece in pieces) != math.prod(site.shape):
        return None
    return np.concatenate(pieces, axis=-1).reshape(site.shape)


def _scales(parts: list[SiteRecord], weight: Array | None) -> dict[str, float]:
    """Size of the weight, and of a kernel against the scales of healthy initial weights."""
    squares = sum(float(np.sum(np.square(part.kernel, dtype=np.float64))) for part in parts)
    count = sum(part.kernel.size for part in parts)
    rms = _norm(weight) / math.sqrt(weight.size) if weight is not None and weight.size else math.nan
    if weight is None and count:
        rms = math.sqrt(squares / count)
    if parts[0].role not in ("kernel", "recurrent"):
        return {"weight_rms": rms, "he_ratio": math.nan, "glorot_ratio": math.nan}
    shape = parts[0].op.canonical_kernel(parts[0].kernel).shape
    healthy = parts[0].op.healthy_weight(shape)
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    wider = math.sqrt(1 + fan_out / fan_in)
    return {"weight_rms": rms, "he_ratio": rms / healthy, "glorot_ratio": rms / healthy * wider}


def _norm(values: Array) -> float:
    return float(np.sqrt(np.sum(np.square(values, dtype=np.float64))))


def _is_cancelled(site: SiteRecord) -> bool:
    """Whether a bias has a zero gradient by design: a normalisation or a softmax takes it away again."""
    return site.normalised or site.weight.endswith("/key/bias")


# ---- the activations behind a weight -------------------------------------------------------------


def _speakers(sites: tuple[SiteRecord, ...]) -> set[int]:
    """Ids of the sites that speak for their activation: a kernel if there is one, and one site each."""
    found: dict[int, SiteRecord] = {}
    for site in sites:
        held = found.get(id(site.slope))
        if held is None or (site.role in _CARRYING and held.role not in _CARRYING):
            found[id(site.slope)] = site
    return set(map(id, found.values()))


def _of_activations(sites: list[SiteRecord], settings: HealthSettings) -> dict[str, float]:
    """Dead units, saturated values, mean and standard deviation over all calls and parts."""
    nothing = math.nan
    row = dict.fromkeys(("dead_units", "saturated", "activation_mean", "activation_std"), nothing)
    if not sites:
        return row
    dead = [
        _dead(part, settings) for part in _by_part(sites) if part[0].activation.rectifies(_atol(settings))
    ]
    if dead:
        row["dead_units"] = float(np.mean(np.concatenate(dead)))
    saturating = [site for site in sites if not site.logits and _saturates(site, settings)]
    if saturating:
        row["saturated"] = float(np.mean([np.mean(_off(site, settings)) for site in saturating]))
    values = np.concatenate([np.asarray(site.output, np.float64).reshape(-1) for site in sites])
    if values.size:
        row |= {"activation_mean": float(np.mean(values)), "activation_std": float(np.std(values))}
    return row


def _by_part(sites: list[SiteRecord]) -> list[list[SiteRecord]]:
    parts: dict[str, list[SiteRecord]] = {}
    for site in sites:
        parts.setdefault(site.part, []).append(site)
    return list(parts.values())


def _dead(calls: list[SiteRecord], settings: HealthSettings) -> Array:
    """Which units are on at no more than `dead_activity` of the positions of all calls, shape (j,)."""
    live = positions = 0
    for site in calls:
        off = np.asarray(site.op.canonical_units(_off(site, settings)))
        off = off.reshape(-1, off.shape[-1])
        live, positions = live + np.sum(~off, axis=0), positions + off.shape[0]
    return np.asarray(live <= settings.dead_activity * positions)


def _off(site: SiteRecord, settings: HealthSettings) -> Array:
    return np.asarray(np.abs(site.slope) <= site.activation.off_limit(_atol(settings)))


def _saturates(site: SiteRecord, settings: HealthSettings) -> bool:
    """Whether the activation is bounded: flat on a side without being a rectifier."""
    rectifies = site.activation.rectifies(_atol(settings))
    return not rectifies and site.activation.saturation_point(_atol(settings)) > 0


def _atol(settings: HealthSettings) -> float:
    return settings.saturation_slope
