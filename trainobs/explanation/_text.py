"""The few figures that a reader needs first, and lines of text."""

from __future__ import annotations

import math

import pandas as pd

from trainobs.explanation._columns import SHARES
from trainobs.explanation._facts import Facts

_NOTHING = "–"


def summary_table(kernels: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """The few columns of `kernels` that a reader needs first."""
    columns = {
        "layer": kernels["layer"],
        "activation": kernels["activation"],
        "shape": ["×".join(map(str, shape)) for shape in kernels["shape"]],
        "near_zero": kernels["near_zero"],
        "held by": [_largest_share(row) for _, row in kernels[list(SHARES)].iterrows()],
        "dead units": _dead_of_all(kernels["dead_units"], facts),
        "root cause": [
            _NOTHING if pd.isna(cause) else f"{cause} at {layer}"
            for cause, layer in zip(kernels["root_cause"], kernels["root_layer"], strict=True)
        ],
    }
    return pd.DataFrame(columns)


def _largest_share(shares: pd.Series) -> str:
    if shares.isna().all():
        return _NOTHING
    name = str(shares.idxmax())
    return f"{name.removeprefix('share_').replace('_', ' + ')} {shares.max():.0%}"


def _dead_of_all(dead_units: pd.Series, facts: Facts) -> list[str]:
    units: dict[str, int] = {}
    for figures in facts.sites.values():
        units[figures.info.weight] = units.get(figures.info.weight, 0) + figures.units
    counts = zip(map(str, dead_units.index), dead_units, strict=True)
    return [f"{dead} of {units[weight]}" if units.get(weight) else _NOTHING for weight, dead in counts]


def summary_text(summary: pd.DataFrame) -> str:
    """The summary as lines."""
    text = summary.to_string(index=False, na_rep=_NOTHING, formatters={"near_zero": _percent})
    return f"Kernels, input first (share of near-zero gradients, and what holds them there):\n{text}"


def _percent(value: float) -> str:
    return _NOTHING if pd.isna(value) else f"{value:.0%}"


def scope_text(facts: Facts) -> str:
    """Over what the explanation speaks, in one line."""
    statistics = facts.statistics
    where = "" if statistics.step is None else f"recorded step {statistics.step}: "
    positions = max((figures.positions for figures in facts.sites.values()), default=0)
    batches = f"{statistics.batches} batch{'es' if statistics.batches > 1 else ''}"
    most = f"up to {positions:,} position{'' if positions == 1 else 's'} per kernel"
    scope = f"{where}{batches}, {most} · {_loss(facts)}"
    return f"{scope} · backprop by pseudo-inverse" if statistics.backprop == "pinv" else scope


def _loss(facts: Facts) -> str:
    """The loss; it is NaN itself only where something else is, too, else it was not seen."""
    loss = facts.statistics.loss
    unseen = math.isnan(loss) and not any(cause == "non_finite" for cause, _ in facts.diagnosis.mechanisms)
    return "loss not known" if unseen else f"loss {loss:.4g}"


def thresholds_text(facts: Facts) -> str:
    """What counts as near zero, in one line."""
    near_zero = facts.thresholds.near_zero
    return (
        f"near zero: rtol {near_zero.rtol:g} against a* = {near_zero.activation_scale:g}, "
        f"s* = {near_zero.slope_scale:g}, g* = {facts.gradient_scale:.3g} "
        f"(g_out = {facts.statistics.loudest_output()[0]:.3g})"
    )
