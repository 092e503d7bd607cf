"""Tables of one layer's units, inputs and time steps, and of the pseudo-inverse's estimates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from trainobs.analysis import WITHOUT_TERMS, SiteFigures, mean_per_unit, shares_per_unit
from trainobs.errors import NotRecorded
from trainobs.explanation._columns import LIKELIHOODS, by_column
from trainobs.explanation._facts import Facts
from trainobs.explanation._next_gradient import next_gradient
from trainobs.statistics import OFF_REASONS


def units_table(layer: str, facts: Facts) -> pd.DataFrame:
    """A row per unit."""
    parts = [_units_of(figures, facts) for figures in facts.parts(layer)]
    return pd.concat(parts, ignore_index=True).rename_axis("unit")


def _units_of(figures: SiteFigures, facts: Facts) -> pd.DataFrame:
    squares, off = np.square(figures.gradient, dtype=np.float64), figures.off_units
    columns = {
        "near_zero": mean_per_unit(figures, figures.near_zero, unused=1.0),
        "exact_zero": mean_per_unit(figures, figures.gradient == 0, unused=1.0),
        "gradient_rms": np.sqrt(mean_per_unit(figures, squares)),
        **_likelihoods(figures, facts),
        **by_column(shares_per_unit(figures)),
        "dead": figures.dead,
        "off": off.count / off.positions,
        **{f"off_by_{reason}": [off.by(reason, j) for j in range(figures.units)] for reason in OFF_REASONS},
    }
    table = pd.DataFrame(columns, index=pd.RangeIndex(figures.units, name="unit"))
    if figures.info.part:
        table.insert(0, "part", figures.info.part)
    return table


def _likelihoods(figures: SiteFigures, facts: Facts) -> dict[str, np.ndarray]:
    arrays = {**figures.likelihoods, "p_next_gradient": next_gradient(figures, facts)}
    return {name: mean_per_unit(figures, arrays[name], WITHOUT_TERMS.get(name)) for name in LIKELIHOODS}


def inputs_table(layer: str, facts: Facts) -> pd.DataFrame:
    """A row per input channel."""
    figures = facts.parts(layer)[0]
    inputs = figures.inputs
    count = inputs.dead.size
    ungrouped = figures.shape[-2] == count
    columns = {
        "zero": inputs.zero_fraction,
        "dead": inputs.dead,
        "rms": inputs.channel_rms,
        "near_zero": figures.near_zero_by_input if ungrouped else np.full(count, np.nan),
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(count, name="input"))


def time_steps_table(layer: str, facts: Facts) -> pd.DataFrame:
    """A row per gate and time step of a recurrent layer."""
    timed = [figures for figures in facts.sites.values() if figures.steps]
    gates = [figures for figures in timed if figures.info.layer == layer and figures.carries]
    if not gates:
        known = ", ".join(dict.fromkeys(figures.info.layer for figures in timed)) or "none"
        raise NotRecorded(f"The layer {layer!r} has no time steps in this report. Layers that have: {known}.")
    tables = [
        pd.DataFrame({"off": t.off, "gradient_rms": t.gradient_rms, "near_zero": t.near_zero})
        for t in (figures.time for figures in gates)
    ]
    return pd.concat(tables, keys=[figures.info.part for figures in gates], names=["part", "time_step"])


def estimate_table(facts: Facts) -> pd.DataFrame:
    """A row per kernel that is shown: how good the pseudo-inverse's estimate is."""
    kernels = [f for f in facts.sites.values() if f.info.role == "kernel" and facts.shows(f)]
    trust = [figures.pinv_trust for figures in kernels]
    columns = {
        "pinv_trust": trust,
        "expected_error": [math.sqrt(max(0.0, 1.0 - part)) for part in trust],
        "true_error": [figures.pinv_error for figures in kernels],
    }
    index = pd.Index([figures.key for figures in kernels], name="weight", dtype=object)
    return pd.DataFrame(columns, index=index, dtype=float)
