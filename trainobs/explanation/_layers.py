"""The table of layers: a row per weight, put together from those of its parts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from trainobs.analysis import WeightFigures
from trainobs.explanation._columns import LIKELIHOODS, SHARES, by_column
from trainobs.explanation._facts import Facts
from trainobs.explanation._next_gradient import next_gradient
from trainobs.statistics import OFF_REASONS

Row = dict[str, str | int | float | tuple[int, ...] | None]

#: What says nothing of a weight that is not trained, or whose gradient is broken.
_OF_GRADIENTS = ("near_zero", "exact_zero", "gradient_rms", *SHARES)


def layers_table(facts: Facts) -> pd.DataFrame:
    """A row per weight that is shown."""
    by_weight: dict[str, list[WeightFigures]] = {}
    for figures in facts.shown:
        by_weight.setdefault(figures.info.weight, []).append(figures)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = [_joined([_row(part, facts) for part in parts]) for parts in by_weight.values()]
    return pd.DataFrame(rows, index=pd.Index(list(by_weight), name="weight", dtype=object))


def parts_table(name: str, facts: Facts) -> pd.DataFrame:
    """A row per part of a layer's weights."""
    named = facts.named(name)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = [_row(figures, facts) for figures in named]
    keys = [(figures.info.weight, figures.info.part) for figures in named]
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(keys, names=["weight", "part"]))


def modifying(facts: Facts) -> set[str]:
    """Paths of biases and scales."""
    return {f.info.weight for f in facts.weights if f.info.role in ("bias", "scale")}


def _row(figures: WeightFigures, facts: Facts) -> Row:
    info = figures.info
    row: Row = {
        "layer": info.layer,
        "kind": info.kind,
        "activation": figures.activation,
        "shape": info.shape,
        "size": figures.size,
        "positions": figures.positions,
        "near_zero": figures.near_zero_fraction,
        "exact_zero": figures.exact_zero_fraction,
        "gradient_rms": figures.gradient_rms,
        "threshold": figures.threshold,
        **_likelihoods(figures, facts),
        **by_column(figures.shares),
        "dead_units": figures.dead_units,
        **{f"off_by_{reason}": figures.off_by(reason) for reason in OFF_REASONS},
        "gain": figures.gain(facts.flow),
        "pinv_trust": figures.pinv_trust,
        "residual": figures.residual,
    }
    if not info.trainable or not figures.is_finite:
        row |= dict.fromkeys(_OF_GRADIENTS, math.nan)
    return row | _root(figures, facts)


def _likelihoods(figures: WeightFigures, facts: Facts) -> dict[str, float]:
    site = facts.sites.get(figures.key)
    means = figures.mean_likelihoods
    means["p_next_gradient"] = math.nan if site is None else float(np.mean(next_gradient(site, facts)))
    return {name: means[name] for name in LIKELIHOODS}


def _root(figures: WeightFigures, facts: Facts) -> Row:
    """The finding that keeps the largest share of a weight's near-zero gradients."""
    origins = facts.diagnosis.origins.get(figures.key, ())
    frozen = (None, None) if figures.info.trainable else ("frozen", figures.info.layer)
    cause, layer = origins[0].key if origins else frozen
    return {"root_cause": cause, "root_layer": layer}


def _joined(rows: list[Row]) -> Row:
    """The row of a weight from those of its parts."""
    if len(rows) == 1:
        return rows[0]
    parts = pd.DataFrame(rows)
    sizes = parts["size"].to_numpy(float)
    near_zero = sizes * np.nan_to_num(parts["near_zero"].to_numpy(float))
    means = {str(name): _mean(parts[name], sizes) for name in parts.select_dtypes("float")}
    return {
        **rows[0],
        **means,
        **{name: _mean(parts[name], near_zero) for name in SHARES},
        "activation": ", ".join(parts["activation"].unique()),
        "size": int(parts["size"].sum()),
        "dead_units": int(parts["dead_units"].sum()),
        "gradient_rms": math.sqrt(_mean(parts["gradient_rms"] ** 2, sizes)),
        "threshold": float(parts["threshold"].max()),
        "residual": float(parts["residual"].max()),
        **_most_frequent_root(rows),
    }


def _mean(values: pd.Series, weights: np.ndarray) -> float:
    """Weighted mean of what is known."""
    known = values.notna().to_numpy()
    if not np.any(weights[known]):
        return math.nan
    return float(np.average(values.to_numpy(float)[known], weights=weights[known]))


def _most_frequent_root(rows: list[Row]) -> Row:
    """The root cause that most parts have, of those that have one."""
    roots = [(row["root_cause"], row["root_layer"]) for row in rows if row["root_cause"] is not None]
    cause, layer = max(roots, key=roots.count) if roots else (None, None)
    return {"root_cause": cause, "root_layer": layer}
