"""The figures of one weight at one check: a row of the report's table, typed.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| W, ΔW   | a weight before the step, and what the step added to it        |
| g       | dJ/dW, before clipping and the optimizer                       |
| ‖·‖     | Frobenius norm: root of the sum of squares of all elements     |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

#: The fields that are figures, which the history keeps; a new one also goes here.
FIGURES = (
    "gradient_norm", "gradient_mean_abs", "gradient_max_abs", "non_finite", "zero_fraction", "weight_rms",
    "he_ratio", "glorot_ratio", "update_ratio", "dead_units", "saturated", "activation_mean",
    "activation_std", "shift",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WeightHealth:
    """What one check knows of one weight. nan means "nothing to say"; definitions in docs/health.md.

    Attributes
    ----------
    weight : str
        Path of the variable.
    layer, kind, role, dtype : str
        As `SiteRecord` has them; the role is "" where the layer's kind is not known.
    trainable : bool
    cancelled : bool
        Whether its gradient is zero by design (see `SiteRecord.cancels`).
    at_output : bool
        Whether the activation behind it is an output of the model.
    size : int
        Number of elements of the whole weight.
    gradient_norm, gradient_mean_abs, gradient_max_abs, zero_fraction : float
        Of g; nan where no gradient arrived.
    non_finite : int
        Elements of g that are NaN or infinite.
    weight_non_finite : int
        Elements of W that are.
    weight_rms, he_ratio, glorot_ratio : float
        Size of W, and of a kernel's W against the scales of healthy initial weights.
    update_ratio : float
        ‖ΔW‖ / ‖W‖.
    dead_units, saturated, activation_mean, activation_std : float
        Of the activation behind it; said by one weight of a layer, its kernel.
    rectifying, positions : int
        How many units this activation rectifies, over how many positions: one, where all read the same.
    shift : float
        How far the layer's activations have moved since the check before.
    """

    weight: str
    layer: str
    kind: str
    role: str
    dtype: str
    trainable: bool
    cancelled: bool
    at_output: bool
    size: int
    gradient_norm: float = math.nan
    gradient_mean_abs: float = math.nan
    gradient_max_abs: float = math.nan
    non_finite: int = 0
    zero_fraction: float = math.nan
    weight_non_finite: int = 0
    weight_rms: float = math.nan
    he_ratio: float = math.nan
    glorot_ratio: float = math.nan
    update_ratio: float = math.nan
    dead_units: float = math.nan
    saturated: float = math.nan
    activation_mean: float = math.nan
    activation_std: float = math.nan
    rectifying: int = 0
    positions: int = 0
    shift: float = math.nan

    @property
    def is_kernel(self) -> bool:
        """Whether it multiplies signals: a kernel, a recurrent one too."""
        return self.role in ("kernel", "recurrent")

    @property
    def modifies(self) -> bool:
        """Whether signals do not pass through it: a bias or a scale."""
        return self.role in ("bias", "scale")

    @property
    def gradient_came(self) -> bool:
        """Whether a gradient arrived, if only of zeros."""
        return not math.isnan(self.zero_fraction)

    def gradient(self, measure: str) -> float:
        """The norm or mean absolute value of g (`Thresholds.vanishing_of`); 0 where no gradient arrived."""
        sizes = {"norm": self.gradient_norm, "mean_abs": self.gradient_mean_abs}
        return sizes[measure] if self.gradient_came else 0.0


def by_layer(weights: Iterable[WeightHealth]) -> dict[str, list[WeightHealth]]:
    """The weights of each layer, in the order of the forward pass."""
    grouped: dict[str, list[WeightHealth]] = {}
    for weight in weights:
        grouped.setdefault(weight.layer, []).append(weight)
    return grouped


def table_of(weights: Sequence[WeightHealth]) -> pd.DataFrame:
    """A row per weight (index `weight`), a column for each other field."""
    names = [field.name for field in dataclasses.fields(WeightHealth)]
    table = pd.DataFrame([vars(weight) for weight in weights], columns=names)
    return table.astype({"weight": object}).set_index("weight")


def global_norm(weights: Iterable[WeightHealth]) -> float:
    """√(Σ ‖g‖²) over the weights that a gradient arrived at; nan without any, or with one that is NaN."""
    norms = [weight.gradient_norm for weight in weights if weight.gradient_came]
    return float(np.sqrt(np.sum(np.square(norms)))) if norms else math.nan
