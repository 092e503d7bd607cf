"""The sums of a scale: every input meets one weight, so they are sums over columns.

| letter | axis                                  |
|--------|---------------------------------------|
| n      | positions                             |
| c      | channels: inputs and units in one     |

The letters a, s, h and e are those of `_one_pass`.

What `_one_pass` does for kernels, here by `numpy.einsum`, which multiplies and sums in one go. What
depends on the units alone (slopes, what arrives at them) is taken from the kernel that feeds them.
"""

from __future__ import annotations

import numpy as np

from trainobs.records import SiteRecord
from trainobs.statistics._schema import names_over, per_position
from trainobs.statistics._site_arrays import SiteArrays
from trainobs.thresholds import NearZero

Array = np.ndarray


def sum_scale(
    site: SiteRecord, of_units: dict[str, Array], near_zero: NearZero, positions: int
) -> dict[str, Array]:
    """Compute the additive sums of a scale whose units a kernel feeds.

    Parameters
    ----------
    site : SiteRecord
    of_units : dict of str to array
        The sums of that kernel.
    near_zero : NearZero
    positions : int
        n that gradients are multiplied with.

    Returns
    -------
    dict of str to array
        Those of `sum_site`, kernel shape (1, c).
    """
    columns = {
        name: np.asarray(array, np.float32).reshape(-1, array.shape[-1])
        for name, array in vars(SiteArrays.of(site)).items()
    }
    columns["squared_input"] = columns["input"] * columns["input"]
    on = np.abs(columns["slope"]) > site.activation.off_limit(near_zero.slope_atol)
    live = np.abs(columns["input"]) > near_zero.rtol * near_zero.activation_scale
    shared = {name: of_units[name] for name in names_over("units")}
    sums = _over_columns(columns, live, on, positions) | _known_of_units(of_units)
    rows = {name: np.reshape(values, (1, -1)) for name, values in sums.items()}
    return shared | rows | _unit_sums(sums, columns, positions) | _input_sums(sums, columns)


def _over_columns(columns: dict[str, Array], live: Array, on: Array, positions: int) -> dict[str, Array]:
    """The sums that the kernel before it does not have."""
    a, a_sq, s = columns["input"], columns["squared_input"], columns["slope"]
    h, e = columns["output_gradient"], columns["preactivation_gradient"]
    sums = {
        "terms": np.asarray(len(a), np.float32),
        "input_zero": len(a) - _count(live),
        "input_and_slope_live": _count(live & on),
        "input_sq": np.einsum("nc->c", a_sq),
        "slope_backprop_sq": np.einsum("nc,nc->c", e, e, dtype=np.float64),
        "input_slope_sq": np.einsum("nc,nc,nc->c", a_sq, s, s),
        "input_backprop_sq": np.einsum("nc,nc,nc->c", a_sq, h, h),
        "all_sq": np.einsum("nc,nc,nc->c", a_sq, e, e),
        "gradient": np.einsum("nc,nc->c", a, e),
    }
    return per_position(sums, positions)


def _known_of_units(of_units: dict[str, Array]) -> dict[str, Array]:
    names = ("slope_zero", "backprop_zero", "slope_or_backprop_zero", "slope_sq", "backprop_sq")
    return {name: of_units[f"unit_{name}"] for name in names}


def _unit_sums(sums: dict[str, Array], columns: dict[str, Array], positions: int) -> dict[str, Array]:
    gradient = {"unit_gradient": np.einsum("nc->c", columns["preactivation_gradient"])}
    return {
        **per_position(gradient, positions),
        "unit_slope_backprop_sq": sums["slope_backprop_sq"],
        "preactivation_gradient_sq": np.sum(sums["slope_backprop_sq"]),
    }


def _input_sums(sums: dict[str, Array], columns: dict[str, Array]) -> dict[str, Array]:
    a, a_sq = columns["input"], columns["squared_input"]
    return {
        "input_size": np.asarray(len(a), np.float32),
        "input_channel_zero": sums["input_zero"],
        "input_channel_sq": sums["input_sq"],
        "input_channel_sum": np.einsum("nc->c", a),
        "input_channel_negative": np.einsum("nc->c", np.maximum(-a, 0)),
        "input_non_finite": np.asarray(np.count_nonzero(~np.isfinite(a_sq)), np.float32),
    }


def _count(mask: Array) -> Array:
    """How many are true in each column."""
    return np.einsum("nc->c", mask.view(np.uint8), dtype=np.int32)
