"""From the sites of a step to the statistics of each weight, one weight after the other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from trainobs.records import SiteRecord, StepRecord
from trainobs.statistics._constant_input import bias_sums
from trainobs.statistics._delivered import delivered
from trainobs.statistics._estimate_sums import estimate_sums
from trainobs.statistics._half_precision import Flushed, flushed_on_the_way, flushed_sums
from trainobs.statistics._pseudo_inverse import BackpropEstimate, Key, key
from trainobs.statistics._residual import residual_sums
from trainobs.statistics._scale_sums import sum_scale
from trainobs.statistics._schema import PER_WEIGHT
from trainobs.statistics._site_statistics import SiteInfo, SiteStatistics
from trainobs.statistics._site_sums import sum_site
from trainobs.statistics._time_steps import step_sums
from trainobs.thresholds import NearZero

Array = np.ndarray
Sums = dict[str, Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Counting:
    """What the sums of a step's weights are counted with.

    Attributes
    ----------
    near_zero, gradient_scale : NearZero, float
        The thresholds, and g* of the step.
    estimates, errors : dict by key of site
        Backprop by pseudo-inverse, and the sums of how far it is from the measured one.
    backprop : {"tape", "pinv"}
    """

    near_zero: NearZero
    gradient_scale: float
    estimates: dict[Key, BackpropEstimate]
    errors: dict[Key, Sums]
    backprop: str


def gather_weights(record: StepRecord, counting: Counting) -> Iterator[tuple[str, SiteStatistics]]:
    """The key and the statistics of one weight after the other."""
    flushed = flushed_on_the_way(record)
    by_weight: dict[str, list[SiteRecord]] = {}
    for site in record.sites:
        by_weight.setdefault(site.key, []).append(site)
    units = _SharedUnits(counting)
    for name, calls in by_weight.items():
        parts = [_of_call(call, counting, units, calls[0].positions) for call in calls]
        total = functools.reduce(lambda a, b: a + b, parts)
        sums = total.sums | _of_all_calls(calls, total.sums, counting, flushed.get(name))
        yield name, dataclasses.replace(total, sums=sums)


class _SharedUnits:
    """Sums of calls; those of a bias or a scale come with the kernel that feeds their units."""

    def __init__(self, counting: Counting) -> None:
        self._near_zero, self._gradient_scale = counting.near_zero, counting.gradient_scale
        self._known: dict[tuple[object, ...], tuple[Sums, Array | None]] = {}

    def sums_of(self, site: SiteRecord, positions: int) -> Sums:
        """The sums over terms, units, preactivations and inputs."""
        order = site.op.unit_order(site.preactivation.ndim)
        place = (id(site.slope), id(site.output_gradient), site.preactivation.shape, positions, order)
        known, gradient = self._known.get(place, (None, None))
        if known is not None and site.role == "bias" and gradient is site.preactivation_gradient:
            return bias_sums(known)
        if known is not None and site.role == "scale":
            sums = sum_scale(site, known, self._near_zero, positions)
        else:
            sums = sum_site(site, self._near_zero, self._gradient_scale, positions)
        if site.role != "bias":
            self._known[place] = sums, site.preactivation_gradient
        return sums


def _of_call(site: SiteRecord, counting: Counting, units: _SharedUnits, positions: int) -> SiteStatistics:
    """The statistics of one call, with what can be added over calls."""
    sums = units.sums_of(site, positions) | step_sums(site, counting.near_zero, positions)
    estimate = counting.estimates.get(key(site))
    if estimate is not None:
        sums |= estimate_sums(site, sums["terms"], estimate, counting.near_zero, counting.gradient_scale)
    sums |= counting.errors.get(key(site), {})
    wide = {name: v if name in PER_WEIGHT else np.asarray(v, np.float64) for name, v in sums.items()}
    kernel = np.asarray(site.op.canonical_kernel(site.kernel), np.float32)
    return SiteStatistics(SiteInfo.of(site), kernel, _bias_rms(site.bias), wide, site.rows)


def _of_all_calls(
    calls: Sequence[SiteRecord], total: Sums, counting: Counting, flushed: Flushed | None
) -> Sums:
    """The sums of the weight as a whole."""
    positions = calls[0].positions
    sums = {"positions": np.asarray(positions, np.float64)}
    if counting.backprop == "pinv" and calls[0].kernel_gradient is not None:
        sums["gradient"] = positions * _data_gradient(calls)
    sums |= residual_sums(calls, total | sums)
    if calls[0].dtype == "float16":
        sums |= flushed_sums(calls, total | sums, flushed)
    return sums


def _data_gradient(calls: Sequence[SiteRecord]) -> Array:
    """What the step computed for a kernel, without the kernel's own penalty."""
    own = delivered(calls)
    gradient = own.gradient if own.penalty is None else own.gradient - own.penalty
    return np.asarray(calls[0].op.canonical_kernel(gradient), np.float64)


def _bias_rms(bias: Array | None) -> float:
    return float("nan") if bias is None else float(np.sqrt(np.mean(np.square(bias, dtype=np.float64))))
