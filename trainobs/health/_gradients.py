"""The size of a weight's gradient, and how far the step moved the weight.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W, ΔW   | a weight before the step, and what the step added to it        |
| g       | dJ/dW, before clipping and the optimizer                       |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from trainobs.health._weight_health import WeightHealth

Array = np.ndarray


def with_gradient(weight: WeightHealth, gradient: Array | None) -> WeightHealth:
    """The weight with the figures of g; as it is where no gradient arrived."""
    if gradient is None or not gradient.size:
        return weight
    sizes = np.abs(np.asarray(gradient, np.float64))
    return dataclasses.replace(
        weight,
        gradient_norm=norm(sizes),
        gradient_mean_abs=float(np.mean(sizes)),
        gradient_max_abs=float(np.max(sizes)),
        zero_fraction=float(np.mean(sizes == 0)),
        non_finite=int(np.count_nonzero(~np.isfinite(sizes))),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Moved:
    """How far a step moved a weight.

    Attributes
    ----------
    after : mapping of str to array, or None
        By path: the weights after the step.
    """

    after: Mapping[str, Array] | None = None

    def ratio(self, path: str, weight: Array | None, rows: Array | None) -> float:
        """‖ΔW‖ / ‖W‖; nan if nothing is known."""
        before = math.nan if weight is None else norm(weight)
        if weight is None or not before > 0:
            return math.nan
        if self.after is None or path not in self.after:
            return math.nan
        after = np.asarray(self.after[path])
        after = after if rows is None else after[rows]
        return norm(after.reshape(weight.shape).astype(np.float64) - weight) / before


def norm(values: Array) -> float:
    """Frobenius norm, summed in float64."""
    return float(np.sqrt(np.sum(np.square(values, dtype=np.float64))))
