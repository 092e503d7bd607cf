"""From the record of a step to its statistics, weight by weight."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainobs.records import NodeRecord, Scalars, SiteRecord, StepRecord, sums_of
from trainobs.statistics._backward import estimated, measured_at_forks
from trainobs.statistics._half_precision import flushed_on_the_way, flushed_sums
from trainobs.statistics._outputs import sum_output
from trainobs.statistics._pseudo_inverse import WORK_BESIDE, BackpropEstimate, estimate_backprop, key, work
from trainobs.statistics._site_sums import bias_sums, count_near_zero_backprop, sum_scale, sum_site
from trainobs.statistics._statistics import PER_WEIGHT, SiteInfo, SiteStatistics, Statistics
from trainobs.statistics._time_steps import step_sums
from trainobs.statistics._whole_layer import gather_whole_layers
from trainobs.thresholds import NearZero

#: From the sums of a weight, the thresholds and g* to sums that can't be added any more.
Condense = Callable[[SiteStatistics, NearZero, float], SiteStatistics]
Array = Any  # arrays and NumPy scalars: sums of shape () are the latter


@np.errstate(invalid="ignore", over="ignore")  # NaN in, NaN out: the report says where they begin
def gather(
    record: StepRecord,
    near_zero: NearZero,
    *,
    pinv: bool = True,
    backprop: str = "tape",
    condense: Condense | None = None,
) -> Statistics:
    """Sum one recorded step up.

    Parameters
    ----------
    record : StepRecord
    near_zero : NearZero
    pinv : bool
        Whether to estimate backprop by pseudo-inverse beside the measured one; left out where it
        would take more than `WORK_BESIDE` multiplications.
    backprop : {"tape", "pinv"}
        Which backprop the attribution uses.
    condense : callable, optional
        Where nothing will be added: what takes the place of large sums, weight by weight (see
        `trainobs.analysis.condensed`).

    Returns
    -------
    Statistics
    """
    beside = pinv and work(record) <= WORK_BESIDE
    estimates = estimate_backprop(record) if beside or backprop == "pinv" else {}
    errors = {
        key(site): _error(site, estimates[key(site)]) for site in record.sites if key(site) in estimates
    }
    if backprop == "pinv":
        record = estimated(record, estimates)
    else:
        record = dataclasses.replace(record, nodes=measured_at_forks(record))
    first = {s.activation_node for s in record.sites if getattr(s.op, "data_format", "") == "channels_first"}
    outputs = tuple(sum_output(output, 1 if output.node in first else -1) for output in record.outputs)
    bare = Statistics({}, (), outputs, 0.0, 1, backprop)
    g_out, elements = bare.loudest_output() if any(o.touched for o in outputs) else _loudest_site(record)
    scale = near_zero.gradient_scale(g_out, elements)
    sites = _sum_sites(record, near_zero, scale, estimates, errors, backprop)
    if condense is not None:
        sites = ((name, condense(site, near_zero, scale)) for name, site in sites)
    return dataclasses.replace(
        bare,
        sites=dict(sites),
        nodes=tuple(_per_sample(node) for node in record.nodes),
        loss_sum=record.loss,
        step=record.step,
        others=gather_whole_layers(record),
    )


def _sum_sites(
    record: StepRecord,
    near_zero: NearZero,
    scale: float,
    estimates: dict[Any, BackpropEstimate],
    errors: dict[Any, dict[str, Array]],
    backprop: str,
) -> Iterator[tuple[str, SiteStatistics]]:
    """The statistics of one weight after the other."""
    flushed = flushed_on_the_way(record)
    by_weight: dict[str, list[SiteRecord]] = {}
    for site in record.sites:
        by_weight.setdefault(site.key, []).append(site)
    of_units: dict[Any, dict[str, Array]] = {}
    for name, calls in by_weight.items():
        positions = calls[0].positions
        parts = []
        for call in calls:
            sums = _sums_of_call(call, near_zero, scale, positions, of_units)
            sums = {**sums, **step_sums(call, near_zero, positions)}
            estimate = estimates.get(key(call))
            pinv = _pinv_sums(call, sums, estimate, near_zero, scale) | errors.get(key(call), {})
            parts.append(_statistics_of(call, sums | pinv))
        total = functools.reduce(lambda a, b: a + b, parts)
        sums = {**total.sums, "positions": np.float64(positions)}
        if backprop == "pinv" and calls[0].kernel_gradient is not None:
            sums["gradient"] = positions * _data_gradient(calls[0])
        sums |= _residual_sums(calls, total.rows, sums)
        if calls[0].dtype == "float16":
            sums |= flushed_sums(calls, sums, flushed.get(name))
        yield name, dataclasses.replace(total, sums=sums)


def _sums_of_call(
    site: SiteRecord, near_zero: NearZero, scale: float, positions: int, of_units: dict[Any, Any]
) -> dict[str, Array]:
    """The sums of one call; those of a bias or a scale come with the kernel that feeds their units."""
    order = site.op.unit_order(site.preactivation.ndim)
    place = (id(site.slope), id(site.output_gradient), site.preactivation.shape, positions, order)
    known, gradient = of_units.get(place, (None, None))
    if known is not None and site.role == "bias" and gradient is site.preactivation_gradient:
        return bias_sums(known)
    if known is not None and site.role == "scale":
        sums = sum_scale(site, known, near_zero, positions)
    else:
        sums = sum_site(site, near_zero, scale, positions)
    if site.role != "bias":
        of_units[place] = sums, site.preactivation_gradient
    return sums


def _statistics_of(site: SiteRecord, sums: dict[str, Array]) -> SiteStatistics:
    bias = site.bias
    rms = float("nan") if bias is None else float(np.sqrt(np.mean(np.square(bias, dtype=np.float64))))
    kernel = np.asarray(site.op.canonical_kernel(site.kernel), np.float32)
    sums = {name: v if name in PER_WEIGHT else np.asarray(v, np.float64) for name, v in sums.items()}
    return SiteStatistics(SiteInfo.of(site), kernel, rms, sums, site.rows)


def _residual_sums(calls: list[SiteRecord], rows: Array | None, sums: dict[str, Array]) -> dict[str, Array]:
    """How far the terms are from the gradient that the tape delivered (docs/definitions.md)."""
    site, positions = calls[0], float(sums["positions"])
    if site.kernel_gradient is None:
        return {"residual": np.float64(0), "residual_scale": np.float64(0)}
    gradient, penalty = (
        _delivered(calls, rows, "kernel_gradient"),
        _delivered(calls[:1] if rows is None else calls, rows, "penalty_gradient"),
    )
    difference = sums["gradient"] / positions + penalty - gradient
    squares = np.maximum(sums["all_sq"], np.float32(_SMALLEST_SQUARE * sums["terms"]))
    of_inputs = np.sum(squares, axis=-1, keepdims=True, dtype=np.float64)
    scale = np.sqrt(np.sum(sums["terms"] * of_inputs)) / positions + _norm(penalty)
    return {
        "residual": np.float64(positions * _norm(difference)),
        "residual_scale": np.float64(positions * scale),
    }


def _norm(values: Array) -> float:
    """Frobenius norm, in float64 where float32 loses the squares."""
    return float(np.sqrt(sums_of(np.asarray(values)).square_sum))


#: Squares of terms below this are 0 in the float32 that they were summed in.
_SMALLEST_SQUARE = float(np.finfo(np.float32).tiny)


def _delivered(calls: list[SiteRecord], rows: Array | None, name: str) -> Array:
    """What the step itself computed for the weight, canonical; of a table, for these rows."""
    one_of_each_pass = {call.loss: call for call in calls if getattr(call, name) is not None}
    if not one_of_each_pass:
        return np.float64(0)
    if rows is None:
        parts = (call.op.canonical_kernel(getattr(call, name)) for call in one_of_each_pass.values())
        return functools.reduce(np.add, (np.asarray(part, np.float32) for part in parts))
    by_pass = {loss: np.zeros((rows.size, calls[0].units)) for loss in one_of_each_pass}
    for call in calls:  # each call holds the rows that it looked up, of the gradient of all calls
        if getattr(call, name) is not None:
            places: Any = call.rows
            by_pass[call.loss][np.searchsorted(rows, places)] = getattr(call, name)
    return sum(by_pass.values())


def _data_gradient(site: SiteRecord) -> Array:
    delivered = np.asarray(site.kernel_gradient)
    own = delivered if site.penalty_gradient is None else delivered - site.penalty_gradient
    return np.asarray(site.op.canonical_kernel(own), np.float64)


def _pinv_sums(
    site: SiteRecord,
    sums: dict[str, Array],
    estimate: BackpropEstimate | None,
    near_zero: NearZero,
    scale: float,
) -> dict[str, Any]:
    if estimate is None:
        return {}
    silent = count_near_zero_backprop(site, estimate.output_gradient, near_zero, scale)
    return {
        "pinv_zero": silent,
        "pinv_terms": sums["terms"],
        "pinv_rank": np.float64(estimate.rank),
        "pinv_positions": np.float64(estimate.positions),
    }


def _error(site: SiteRecord, estimate: BackpropEstimate) -> dict[str, Array]:
    """Squared distance of the estimate from what the tape measured; nothing where it did not."""
    if site.output_gradient is None:
        return {}
    measured = np.asarray(site.op.canonical_units(site.output_gradient))
    error, true = sums_of(estimate.output_gradient - measured), sums_of(measured)
    return {"pinv_error_sq": np.float64(error.square_sum), "pinv_true_sq": np.float64(true.square_sum)}


def _loudest_site(record: StepRecord) -> tuple[float, int]:
    found = [(0.0, 1)]
    for site in record.sites:
        if site.output_gradient is not None:
            h = site.positions * np.asarray(site.output_gradient, np.float64)
            found.append((float(np.sqrt(np.sum(h**2) / site.positions)), site.units))
    return max(pair for pair in found if np.isfinite(pair[0]))


def _per_sample(node: NodeRecord) -> NodeRecord:
    """Gradients times the batch size, so that they can be added over batches of any size."""

    def scaled(scalars: Scalars | None) -> Scalars | None:
        return scalars and dataclasses.replace(scalars, square_sum=scalars.square_sum * node.samples**2)

    return dataclasses.replace(
        node,
        output_gradient=scaled(node.output_gradient),
        input_gradients=tuple(map(scaled, node.input_gradients)),
    )
