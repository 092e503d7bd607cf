"""From figures to findings: each rule holds one figure against its threshold."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from trainobs.health._remedies import REMEDIES
from trainobs.health._settings import HealthSettings

SEVERITIES = ("error", "warning", "info")
COLUMNS = ("severity", "rule", "layer", "weight", "value", "threshold", "message", "recommendation")
_KERNELS = ("kernel", "recurrent")


Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """All that the rules look at.

    Attributes
    ----------
    table : pandas.DataFrame
        As of `figures`.
    global_norm, loss : float
    oscillation : float
        nan while it is not known.
    first : bool
        Whether the weights are the initial ones.
    settings : HealthSettings
    """

    table: pd.DataFrame
    global_norm: float
    loss: float
    oscillation: float
    first: bool
    settings: HealthSettings

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The table's rows with their "weight", as plain values: rules read them one by one."""
        return self.table.reset_index().to_dict("records")  # type: ignore[return-value]

    @functools.cached_property
    def trained(self) -> list[Row]:
        """The rows of trainable weights."""
        return [row for row in self.rows if row["trainable"]]

    @functools.cached_property
    def kernels(self) -> list[Row]:
        """The rows of trainable kernels, recurrent ones too."""
        return [row for row in self.trained if row["role"] in _KERNELS]


Finding = dict[str, Any]


def findings(measured: Measured) -> pd.DataFrame:
    """All findings, the most severe first.

    Parameters
    ----------
    measured : Measured

    Returns
    -------
    pandas.DataFrame
        `severity` ("error", "warning", "info"), `rule`, `layer` and `weight` ("" for the whole model),
        `value`, `threshold`, `message`, `recommendation`. Empty if all is well.
    """
    rows = [finding for rule in _RULES for finding in rule(measured)]
    rows.sort(key=lambda row: SEVERITIES.index(row["severity"]))  # stable: rules stay in their order
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float, "threshold": float})


def flow(measured: Measured) -> dict[str, tuple[str, ...]]:
    """Which layers' gradients vanish, explode, or are not finite.

    Returns
    -------
    dict of str to tuple of str
        "vanishing", "exploding", "non_finite": names of layers in the order of the forward pass. A layer
        vanishes when the gradients of all its weights do, of those that have one by design.
    """
    settings = measured.settings
    found: dict[str, list[str]] = {"vanishing": [], "exploding": [], "non_finite": []}
    for layer, rows in _by_layer(measured.trained).items():
        designed = [row for row in rows if not row["cancelled"]]
        if designed and all(_arrived(row, settings.vanishing_of) < settings.vanishing for row in designed):
            found["vanishing"].append(layer)
        if any(settings.exploding < row[_column(settings.exploding_of)] < math.inf for row in rows):
            found["exploding"].append(layer)
        if any(row["non_finite"] for row in rows):
            found["non_finite"].append(layer)
    return {how: tuple(layers) for how, layers in found.items()}


def _by_layer(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["layer"], []).append(row)
    return found


# ---- the rules -----------------------------------------------------------------------------------


def _non_finite(m: Measured) -> Iterator[Finding]:
    broken = [row for row in m.trained if row["non_finite"]]
    if broken and not math.isfinite(m.loss):
        yield _finding("error", "non_finite", "", "", m.loss, 0.0, f"the loss is {m.loss}")
    scaled = math.isfinite(m.loss) and any(row["dtype"] == "float16" for row in m.rows)
    for row in broken:
        count = row["non_finite"]
        text = f"{count:,} of {row['size']:,} gradient elements of {row['weight']} are NaN or infinite"
        if scaled:  # by design, until the scale has come down
            text = f"{text} in half precision; a scaled loss skips such a step"
        yield _of(row, "warning" if scaled else "error", "non_finite", count, 0.0, text)


def _vanishing(m: Measured) -> Iterator[Finding]:
    measure, limit = m.settings.vanishing_of, m.settings.vanishing
    carrying = [row for row in m.trained if row["role"] not in ("bias", "scale")]
    all_low = bool(carrying) and all(_arrived(row, measure) < limit for row in carrying)
    for row in m.trained:
        modifies = row["role"] in ("bias", "scale")
        severity = "info" if modifies else "error" if all_low else "warning"
        value, weight = row[_column(measure)], row["weight"]
        if not _came_by(row):
            text = f"no gradient arrives at {weight}"
            yield _of(row, severity, "no_gradient", 0.0, limit, text)
        elif value < limit and not row["cancelled"]:
            text = f"{_words(measure)} of {weight} is {value:.2g}, below {limit:g}"
            yield _of(row, severity, "vanishing", value, limit, text)


def _exploding(m: Measured) -> Iterator[Finding]:
    measure, limit = m.settings.exploding_of, m.settings.exploding
    for row in m.trained:
        value = row[_column(measure)]
        if limit < value < math.inf:
            text = f"{_words(measure)} of {row['weight']} is {value:.4g}, above {limit:g}"
            yield _of(row, "error", "exploding", value, limit, text)


def _global_norm(m: Measured) -> Iterator[Finding]:
    (low, high), value = m.settings.global_norm, m.global_norm
    if value < low:
        text = f"the norm of all gradients is {value:.2g}, below {low:g}"
        yield _finding("info", "global_norm_low", "", "", value, low, text)
    if high < value < math.inf:
        text = f"the norm of all gradients is {value:.4g}, above {high:g}"
        yield _finding("warning", "global_norm_high", "", "", value, high, text)


def _mean_gradient(m: Measured) -> Iterator[Finding]:
    low, high = m.settings.mean_abs
    for row in m.kernels:
        value = row["gradient_mean_abs"]
        text = f"the mean absolute gradient of {row['weight']} is {value:.3g}"
        if value < low:
            yield _of(row, "info", "mean_gradient_low", value, low, f"{text}, below {low:g}")
        if high < value < math.inf:
            yield _of(row, "warning", "mean_gradient_high", value, high, f"{text}, above {high:g}")


def _first_last(m: Measured) -> Iterator[Finding]:
    norms = [row["gradient_norm"] for row in m.kernels]
    if m.settings.first_last is None or len(norms) < 2 or not norms[-1] > 0:
        return
    (low, high), ratio, row = m.settings.first_last, norms[0] / norms[-1], m.kernels[0]
    text = f"the gradient norm of the first kernel, {row['weight']}, is {ratio:.2g} times that of the last"
    if ratio < low and norms[0] < m.settings.first_norm:
        yield _of(row, "warning", "first_last_low", ratio, low, f"{text}, below {low:g}")
    if ratio > high:
        yield _of(row, "warning", "first_last_high", ratio, high, f"{text}, above {high:g}")


def _zero_gradients(m: Measured) -> Iterator[Finding]:
    limit, rows = m.settings.zero_gradients, [row for row in m.trained if _came_by(row)]
    if limit is None or not rows:
        return
    value = sum(row["zero_fraction"] * row["size"] for row in rows) / sum(row["size"] for row in rows)
    if value >= limit:
        text = f"{value:.0%} of all gradient elements are exactly 0, at least {limit:.0%}"
        yield _finding("warning", "zero_gradients", "", "", value, limit, text)


def _dead_units(m: Measured) -> Iterator[Finding]:
    warning, error = m.settings.dead_warning, m.settings.dead_error
    for row in m.rows:
        value = row["dead_units"]
        if value > warning:
            severity, limit = ("error", error) if value > error else ("warning", warning)
            text = (
                f"{value:.0%} of the units of {row['layer']} never fire on this batch, more than {limit:.0%}"
            )
            yield _of(row, severity, "dead_units", value, limit, text)


def _saturated(m: Measured) -> Iterator[Finding]:
    limit = m.settings.saturated
    for row in m.rows:
        value = row["saturated"]
        if value > limit and not row["at_output"]:  # outputs that saturate where they are right are well
            text = f"{value:.0%} of the activations of {row['layer']} are saturated, more than {limit:.0%}"
            yield _of(row, "warning", "saturated", value, limit, text)


def _shift(m: Measured) -> Iterator[Finding]:
    limit = m.settings.shift
    for layer, (row, *_) in _by_layer(m.rows).items():
        value = row["shift"]
        if value > limit:
            text = (
                f"the activations of {layer} have moved since the last check: their Kolmogorov-Smirnov "
                f"distance is {value:.2g}, above {limit:g}"
            )
            yield _of(row, "info", "shift", value, limit, text)


def _initial_weights(m: Measured) -> Iterator[Finding]:
    low, high = m.settings.initial_weights
    for row in m.kernels if m.first else ():
        glorot, he, start = row["glorot_ratio"], row["he_ratio"], f"the initial rms of {row['weight']} is"
        if glorot < low:
            text = f"{start} {glorot:.2g} of Glorot's scale, below {low:g}"
            yield _of(row, "warning", "initial_weights_low", glorot, low, text)
        if he > high:
            text = f"{start} {he:.3g} times He's scale, above {high:g}"
            yield _of(row, "warning", "initial_weights_high", he, high, text)


def _update(m: Measured) -> Iterator[Finding]:
    low, high = m.settings.update_ratio
    for row in m.kernels:
        value = row["update_ratio"]
        text = f"a step changes {row['weight']} by {value:.2g} of its norm"
        if value < low:
            yield _of(row, "info", "update_low", value, low, f"{text}, less than {low:g}")
        if value > high:
            yield _of(row, "warning", "update_high", value, high, f"{text}, more than {high:g}")


def _oscillation(m: Measured) -> Iterator[Finding]:
    limit = m.settings.oscillation_share
    if m.oscillation > limit:
        text = (
            f"the loss turns with swings above {m.settings.oscillation_swing:.0%} at {m.oscillation:.0%} of "
            f"its last points, more than {limit:.0%}"
        )
        yield _finding("warning", "oscillation", "", "", m.oscillation, limit, text)


_RULES: tuple[Callable[[Measured], Iterator[Finding]], ...] = (
    _non_finite,
    _exploding,
    _vanishing,
    _first_last,
    _zero_gradients,
    _global_norm,
    _dead_units,
    _saturated,
    _initial_weights,
    _update,
    _oscillation,
    _mean_gradient,
    _shift,
)


# ---- words ---------------------------------------------------------------------------------------


def _column(measure: str) -> str:
    return f"gradient_{measure}"


def _words(measure: str) -> str:
    return {"norm": "the gradient norm", "mean_abs": "the mean absolute gradient"}[measure]


def _came_by(row: Row) -> bool:
    """Whether a gradient arrived, if only of zeros."""
    return not math.isnan(row["zero_fraction"])


def _arrived(row: Row, measure: str) -> float:
    """The figure, 0 where no gradient came by; nan stays where gradients are NaN."""
    return float(row[_column(measure)]) if _came_by(row) else 0.0


def _of(row: Row, severity: str, rule: str, value: float, limit: float, text: str) -> Finding:
    return _finding(severity, rule, row["layer"], row["weight"], value, limit, text)


def _finding(
    severity: str, rule: str, layer: str, weight: str, value: float, limit: float, text: str
) -> Finding:
    message = f"{text[0].upper()}{text[1:]}."
    return {
        "severity": severity,
        "rule": rule,
        "layer": layer,
        "weight": weight,
        "value": value,
        "threshold": limit,
        "message": message,
        "recommendation": REMEDIES[rule],
    }
