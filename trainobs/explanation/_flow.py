"""The way of the gradient as a table, and of each lost gradient as a line."""

from __future__ import annotations

import numpy as np
import pandas as pd

from trainobs.diagnosis import chain
from trainobs.explanation._facts import Facts
from trainobs.records import OPERATIONS

#: Fields of a `FlowNode`.
_COLUMNS = ("name", "layer", "kind", "gradient_rms", "gain", "slope_gain", "kernel_gain", "zero")


def flow_table(facts: Facts) -> pd.DataFrame:
    """A row per node, from the loss back to the input."""
    rows = [{name: getattr(node, name) for name in _COLUMNS} for node in reversed(facts.flow.nodes)]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).rename(columns={"name": "node"})


def unmeasured_nodes(facts: Facts) -> tuple[str, ...]:
    """The nodes whose gradient is not known."""
    estimated = facts.statistics.backprop == "pinv"
    silent = [node for node in facts.flow.nodes if np.isnan(node.zero)]
    return tuple(node.name for node in silent if node.unread or node.kind == OPERATIONS or estimated)


def chain_of(weight: str, facts: Facts) -> str:
    """The way from a weight to where its gradient is lost; for one in parts, that of the first part lost."""
    origins = (facts.diagnosis.origins.get(key, ()) for key in facts.keys(weight))
    lost = next(filter(None, origins), ())
    return chain(lost) if lost else ""


def chains_table(near_zero: pd.Series, facts: Facts) -> pd.DataFrame:
    """The ways of all weights (the index of `near_zero`) whose gradient is lost."""
    table = near_zero.to_frame()
    table["chain"] = [chain_of(str(weight), facts) for weight in table.index]
    return table[table["chain"] != ""]
