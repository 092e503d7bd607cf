"""From the record of a step to its statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from trainobs.records import NodeRecord, Scalars, SiteRecord, StepRecord
from trainobs.statistics._backward import estimated, measured_at_forks
from trainobs.statistics._estimate_sums import error_sums
from trainobs.statistics._gather_weights import Counting, gather_weights
from trainobs.statistics._outputs import OutputStatistics, sum_output
from trainobs.statistics._pseudo_inverse import WORK_BESIDE, estimate_backprop, key, work
from trainobs.statistics._site_statistics import SiteStatistics
from trainobs.statistics._statistics import Statistics
from trainobs.statistics._whole_layer import gather_whole_layers
from trainobs.thresholds import NearZero

#: From the sums of a weight, the thresholds and g* to sums that can't be added any more.
Condense = Callable[[SiteStatistics, NearZero, float], SiteStatistics]


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
        The thresholds to count with; the statistics carry them.
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
    known = {key(site): site for site in record.sites if key(site) in estimates}
    errors = {name: error_sums(site, estimates[name]) for name, site in known.items()}
    if backprop == "pinv":
        record = estimated(record, estimates)
    else:
        record = dataclasses.replace(record, nodes=measured_at_forks(record))
    bare = _without_weights(record, near_zero, backprop)
    scale = near_zero.gradient_scale(*_loudest(bare, record))
    sites = gather_weights(record, Counting(near_zero, scale, estimates, errors, backprop))
    if condense is not None:
        sites = ((name, condense(site, near_zero, scale)) for name, site in sites)
    return dataclasses.replace(bare, sites=dict(sites))


def _without_weights(record: StepRecord, near_zero: NearZero, backprop: str) -> Statistics:
    """The statistics of all but the weights that sites explain."""
    return Statistics(
        sites={},
        nodes=tuple(_per_sample(node) for node in record.nodes),
        outputs=_outputs(record),
        loss_sum=record.loss,
        batches=1,
        near_zero=near_zero,
        backprop=backprop,
        step=record.step,
        others=gather_whole_layers(record),
        idle=record.idle,
    )


def _outputs(record: StepRecord) -> tuple[OutputStatistics, ...]:
    kernels = [site for site in record.sites if site.role == "kernel"]
    in_front = {site.activation_node for site in kernels if site.op.units_in_front}
    return tuple(sum_output(output, 1 if output.node in in_front else -1) for output in record.outputs)


def _loudest(bare: Statistics, record: StepRecord) -> tuple[float, int]:
    """g_out and K of the output with the largest g_out; where the loss touches none, of the loudest site."""
    if any(output.touched for output in bare.outputs):
        return bare.loudest_output()
    known = [_g_out(site) for site in record.sites if site.output_gradient is not None]
    return max((pair for pair in known if np.isfinite(pair[0])), default=(0.0, 1))


def _g_out(site: SiteRecord) -> tuple[float, int]:
    """√(mean over positions of ‖n · dJ/dA‖²) of a site, and its number of units."""
    gradient = site.positions * np.asarray(site.output_gradient, np.float64)
    return float(np.sqrt(np.sum(gradient**2) / site.positions)), site.units


def _per_sample(node: NodeRecord) -> NodeRecord:
    """Gradients times the batch size, so that they can be added over batches of any size."""

    def scaled(scalars: Scalars | None) -> Scalars | None:
        return scalars and dataclasses.replace(scalars, square_sum=scalars.square_sum * node.samples**2)

    return dataclasses.replace(
        node,
        output_gradient=scaled(node.output_gradient),
        input_gradients=tuple(map(scaled, node.input_gradients)),
    )
