"""Additive statistics of recorded steps: what reports, batches and workers have in common.

Every figure of a report is a ratio of sums over terms, so ``Statistics + Statistics`` is the one
way to merge: two batches, two recorded steps of the same weights, two workers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.analysis._half_precision import flushed_on_the_way, flushed_sums
from trainobs.analysis._others import OtherStatistics, gather_others
from trainobs.analysis._pseudo_inverse import WORK_BESIDE, BackpropEstimate, estimate_backprop, key, work
from trainobs.analysis._site_sums import bias_sums, sum_scale, sum_site
from trainobs.analysis._time import added_steps, step_sums
from trainobs.errors import InvalidArgument
from trainobs.linear_ops import LinearOp, input_vjp
from trainobs.near_zero import NearZero
from trainobs.recording import (
    OPERATIONS,
    NodeRecord,
    OutputRecord,
    Scalars,
    SiteRecord,
    StepRecord,
    scalars_of,
)

Array = Any  # arrays and NumPy scalars: sums of shape () are the latter


@dataclasses.dataclass(frozen=True)
class SiteInfo:
    """What stays the same about a kernel from batch to batch (see `SiteRecord`)."""

    layer: str
    kind: str
    weight: str
    node: int
    activation_node: int
    op: LinearOp
    dtype: str
    activation: Activation
    trainable: bool
    connected: bool
    logits: bool
    normalised: bool
    consumers: tuple[str, ...]
    bases: tuple[str, ...]
    role: str
    part: str
    shape: tuple[int, ...]

    @property
    def key(self) -> str:
        """As of `SiteRecord`."""
        return f"{self.weight} ({self.part})" if self.part else self.weight

    @classmethod
    def of(cls, site: SiteRecord) -> SiteInfo:
        own = {field.name for field in dataclasses.fields(cls)} - {"connected"}
        values = {name: getattr(site, name) for name in own}
        shape = site.shape or site.kernel.shape
        return cls(connected=site.kernel_gradient is not None, **{**values, "shape": shape})


@dataclasses.dataclass(frozen=True, eq=False)
class SiteStatistics:
    """Sums over the terms of one kernel, all calls of its layer together.

    Attributes
    ----------
    info : SiteInfo
    kernel : array of canonical kernel shape
    rows : int array of shape (u,) or None
        Of a table, the rows that `kernel` and the sums speak of; all others have no terms.
    bias_rms : float
        nan without a bias.
    sums : dict of str to float64 array
        The sums of `site_sums`, and ``residual`` and ``residual_scale`` (), ``pinv_zero``
        (*k, 1, j), ``pinv_rank`` and ``pinv_positions``, ``pinv_error_sq`` and ``pinv_true_sq`` ().
    """

    info: SiteInfo
    kernel: Array
    bias_rms: float
    sums: dict[str, Array]
    rows: Array | None = None

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        if self.rows is None or other.rows is None:
            return dataclasses.replace(self, sums=_added(self.sums, other.sums))
        rows = np.union1d(self.rows, other.rows)
        parts = [_at_rows(part, rows) for part in (self, other)]
        kernel = np.where(np.isin(rows, self.rows)[:, None], parts[0].kernel, parts[1].kernel)
        return dataclasses.replace(self, rows=rows, kernel=kernel, sums=_added(parts[0].sums, parts[1].sums))

    @property
    def positions(self) -> float:
        """n over all batches."""
        return float(self.sums["positions"])

    @property
    def data_gradient(self) -> Array:
        """dJ/dW without the kernel's own penalty, of the mean loss over all batches."""
        return self.sums["gradient"] / self.positions


@dataclasses.dataclass(frozen=True, eq=False)
class OutputStatistics:
    """Where the loss meets the model; gradients per position (n · dJ/dy)."""

    node: int
    elements: int
    logits: bool
    touched: bool
    gradient_sq: float
    positions: float
    low: float
    high: float
    target_low: float
    target_high: float
    loss_name: str
    from_logits: bool
    masked: float = 0.0
    weighted: float = 0.0

    @property
    def masked_fraction(self) -> float:
        """Part of the positions (or samples) that the loss gives weight 0."""
        return self.masked / self.weighted if self.weighted else 0.0

    @property
    def g_out(self) -> float:
        """√(mean over positions of ‖n · dJ/dy‖²)."""
        return float(np.sqrt(self.gradient_sq / self.positions))

    @property
    def gradient_norm(self) -> float:
        """‖dJ/dy‖, the Frobenius norm."""
        return float(np.sqrt(self.gradient_sq) / self.positions)

    def __add__(self, other: OutputStatistics) -> OutputStatistics:
        return dataclasses.replace(
            self,
            gradient_sq=self.gradient_sq + other.gradient_sq,
            positions=self.positions + other.positions,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            target_low=min(self.target_low, other.target_low),
            target_high=max(self.target_high, other.target_high),
            masked=self.masked + other.masked,
            weighted=self.weighted + other.weighted,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Everything a report is made of. Two of the same model and weights can be added.

    Attributes
    ----------
    sites : dict of str to SiteStatistics
        By `SiteInfo.key`, in the order of the forward pass.
    nodes : tuple of NodeRecord
        With gradients per sample (batch size · dJ/d(output)).
    outputs : tuple of OutputStatistics
    loss_sum, batches : float, int
    backprop : {"tape", "pinv"}
        Whether backprop was measured or estimated.
    step : int or None
        The recorded step; None for data that was run for the report.
    others : dict of str to OtherStatistics
        The weights that no site explains, by path.
    """

    sites: dict[str, SiteStatistics]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[OutputStatistics, ...]
    loss_sum: float
    batches: int
    backprop: str = "tape"
    step: int | None = None
    others: dict[str, OtherStatistics] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Statistics) -> Statistics:
        if list(self.sites) != list(other.sites) or len(self.nodes) != len(other.nodes):
            raise InvalidArgument(
                f"Statistics can be added only if they are of the same model. Received kernels "
                f"{list(self.sites)} and {list(other.sites)}."
            )
        return dataclasses.replace(
            self,
            sites={name: site + other.sites[name] for name, site in self.sites.items()},
            nodes=tuple(_added_nodes(a, b) for a, b in zip(self.nodes, other.nodes, strict=True)),
            outputs=tuple(a + b for a, b in zip(self.outputs, other.outputs, strict=True)),
            loss_sum=self.loss_sum + other.loss_sum,
            batches=self.batches + other.batches,
            others={name: part + other.others[name] for name, part in self.others.items()},
        )

    @property
    def loss(self) -> float:
        """Mean loss of the batches."""
        return self.loss_sum / self.batches

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(
            site.kernel.nbytes + sum(a.nbytes for a in site.sums.values()) for site in self.sites.values()
        )

    def loudest_output(self) -> tuple[float, int]:
        """g_out and K of the output (or, untouched, the site) with the largest g_out."""
        touched = [(o.g_out, o.elements) for o in self.outputs if o.touched]
        if not touched:
            touched = [(_site_g_out(s), s.kernel.shape[-1]) for s in self.sites.values()]
        finite = [pair for pair in touched if np.isfinite(pair[0])]
        return max(finite, default=(0.0, 1))


@np.errstate(invalid="ignore", over="ignore")  # NaN in, NaN out: the report says where they begin
def gather(
    record: StepRecord, near_zero: NearZero, *, pinv: bool = True, backprop: str = "tape"
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
        record = _estimated(record, estimates)
    else:
        record = dataclasses.replace(record, nodes=_measured_at_forks(record))
    first = {s.activation_node for s in record.sites if getattr(s.op, "data_format", "") == "channels_first"}
    outputs = tuple(_output(output, 1 if output.node in first else -1) for output in record.outputs)
    bare = Statistics({}, (), outputs, 0.0, 1, backprop)
    g_out, elements = bare.loudest_output() if any(o.touched for o in outputs) else _loudest_site(record)
    scale = near_zero.gradient_scale(g_out, elements)
    return dataclasses.replace(
        bare,
        sites=_sum_sites(record, near_zero, scale, estimates, errors, backprop),
        nodes=tuple(_per_sample(node) for node in record.nodes),
        loss_sum=record.loss,
        step=record.step,
        others=gather_others(record),
    )


def _sum_sites(
    record: StepRecord,
    near_zero: NearZero,
    scale: float,
    estimates: dict[Any, BackpropEstimate],
    errors: dict[Any, dict[str, Array]],
    backprop: str,
) -> dict[str, SiteStatistics]:
    flushed = flushed_on_the_way(record)
    by_weight: dict[str, list[SiteRecord]] = {}
    for site in record.sites:
        by_weight.setdefault(site.key, []).append(site)
    found: dict[str, SiteStatistics] = {}
    of_units: dict[Any, dict[str, Array]] = {}
    for name, calls in by_weight.items():
        positions = calls[0].positions
        parts = []
        for call in calls:
            sums = _sums_of_call(call, near_zero, scale, positions, of_units)
            sums = {**sums, **step_sums(call, near_zero, positions)}
            estimate = estimates.get(key(call))
            pinv = _pinv_sums(call, estimate, near_zero, scale) | errors.get(key(call), {})
            parts.append(_statistics_of(call, sums | pinv))
        total = functools.reduce(lambda a, b: a + b, parts)
        sums = {**total.sums, "positions": np.float64(positions)}
        if backprop == "pinv" and calls[0].kernel_gradient is not None:
            sums["gradient"] = positions * _data_gradient(calls[0])
        sums |= _residual_sums(calls, total.rows, sums)
        if calls[0].dtype == "float16":
            sums |= flushed_sums(calls, sums, flushed.get(name))
        found[name] = dataclasses.replace(total, sums=sums)
    return found


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
    return SiteStatistics(SiteInfo.of(site), kernel, rms, _added(sums, {}), site.rows)


def _at_rows(part: SiteStatistics, rows: Array) -> SiteStatistics:
    """The same statistics, with zeros for rows of the table they did not speak of."""
    places, many = np.searchsorted(rows, part.rows), len(part.rows)  # type: ignore[arg-type]

    def spread(values: Array) -> Array:
        whole = np.zeros((rows.size, *values.shape[1:]), values.dtype)
        whole[places] = values
        return whole

    sums = {name: spread(v) if name in _OF_ROWS and len(v) == many else v for name, v in part.sums.items()}
    return dataclasses.replace(part, rows=rows, kernel=spread(part.kernel), sums=sums)


#: The sums of a table that have a row for each of its rows.
_OF_ROWS = frozenset({
    "terms", "slope_zero", "backprop_zero", "slope_or_backprop_zero", "slope_sq", "backprop_sq",
    "slope_backprop_sq", "input_zero", "input_sq", "input_slope_sq", "input_backprop_sq", "all_sq",
    "input_and_slope_live", "gradient",
})  # fmt: skip


def _residual_sums(calls: list[SiteRecord], rows: Array | None, sums: dict[str, Array]) -> dict[str, Array]:
    """How far the terms are from the gradient that the tape delivered (docs/definitions.md)."""
    site, positions = calls[0], float(sums["positions"])
    if site.kernel_gradient is None:
        return {"residual": np.float64(0), "residual_scale": np.float64(0)}
    gradient, penalty = (
        _delivered(calls, rows, "kernel_gradient"),
        _delivered(calls, rows, "penalty_gradient"),
    )
    difference = sums["gradient"] / positions + penalty - gradient
    scale = np.sqrt(np.sum(sums["terms"] * sums["all_sq"])) / positions + np.linalg.norm(penalty)
    return {
        "residual": np.float64(positions * np.linalg.norm(difference)),
        "residual_scale": np.float64(positions * scale),
    }


def _delivered(calls: list[SiteRecord], rows: Array | None, name: str) -> Array:
    """What the step itself computed for the weight, canonical; of a table, for these rows."""
    if getattr(calls[0], name) is None:
        return np.float64(0)
    if rows is None:
        return np.asarray(calls[0].op.canonical_kernel(getattr(calls[0], name)), np.float64)
    whole = np.zeros((rows.size, calls[0].units))
    for call in calls:  # each call holds the rows that it looked up, of the gradient of all calls
        places: Any = call.rows
        whole[np.searchsorted(rows, places)] = getattr(call, name)
    return whole


def _data_gradient(site: SiteRecord) -> Array:
    delivered = np.asarray(site.kernel_gradient)
    own = delivered if site.penalty_gradient is None else delivered - site.penalty_gradient
    return np.asarray(site.op.canonical_kernel(own), np.float64)


def _pinv_sums(
    site: SiteRecord, estimate: BackpropEstimate | None, near_zero: NearZero, scale: float
) -> dict[str, Any]:
    if estimate is None:
        return {}
    own = site.op.own_units(estimate.output_gradient, site.preactivation.shape)
    estimated = dataclasses.replace(site, output_gradient=own)
    sums = sum_site(estimated, near_zero, scale, site.positions)
    return {
        "pinv_zero": sums["backprop_zero"],
        "pinv_terms": sums["terms"],
        "pinv_rank": np.float64(estimate.rank),
        "pinv_positions": np.float64(estimate.positions),
    }


def _error(site: SiteRecord, estimate: BackpropEstimate) -> dict[str, Array]:
    """Squared distance of the estimate from what the tape measured; nothing where it did not."""
    if site.output_gradient is None:
        return {}
    measured = np.asarray(site.op.canonical_units(site.output_gradient), np.float64)
    error = np.sum((estimate.output_gradient - measured) ** 2)
    return {"pinv_error_sq": error, "pinv_true_sq": np.sum(measured**2)}


def _estimated(record: StepRecord, estimates: dict[Any, BackpropEstimate]) -> StepRecord:
    """The step with every backward quantity but dJ/dW replaced by its estimate."""
    sites = []
    for site in record.sites:
        estimate = estimates.get(key(site))
        if estimate is None and site.role != "kernel":
            continue  # a bias or a scale has no estimate of its own
        own = site.op.own_units
        g = None if estimate is None else own(estimate.output_gradient, site.preactivation.shape)
        d = None if g is None else (g if site.logits or not site.consumers else g * site.slope)
        sites.append(dataclasses.replace(site, output_gradient=g, preactivation_gradient=d))
    by_node = {site.activation_node: site for site in sites}
    outputs = []
    for output in record.outputs:
        maker = by_node.get(output.node)
        outputs.append(dataclasses.replace(output, gradient=None if maker is None else maker.output_gradient))
    nodes = _estimated_nodes(record, sites, estimates)
    return dataclasses.replace(record, sites=tuple(sites), outputs=tuple(outputs), nodes=nodes)


def _measured_at_forks(record: StepRecord) -> tuple[NodeRecord, ...]:
    """Nodes with what kernels send back to an input that others read too: dJ/dZ ∘ᵀ W."""
    nodes = list(record.nodes)
    for site in record.sites:
        node, d = nodes[site.node], site.preactivation_gradient
        reads = node.producers[:1] != (-1,) and node.input_gradients == (None,)
        if d is None or not reads or site.role != "kernel":
            continue
        op = site.op
        kernel, cotangent = op.canonical_kernel(site.kernel), op.canonical_units(d)
        shape = op.canonical_input(site.input).shape
        sent = input_vjp(op, tf.cast(kernel, tf.float32), tf.cast(cotangent, tf.float32), shape).numpy()
        nodes[site.node] = dataclasses.replace(node, input_gradients=(scalars_of(sent),))
        before = nodes[node.producers[0]]
        if before.kind == OPERATIONS:  # read by this node only
            nodes[node.producers[0]] = dataclasses.replace(before, output_gradient=scalars_of(sent))
    return tuple(nodes)


def _estimated_nodes(
    record: StepRecord, sites: list[SiteRecord], estimates: dict[Any, BackpropEstimate]
) -> tuple[NodeRecord, ...]:
    arriving = {site.activation_node: scalars_of(site.output_gradient) for site in sites}
    sent = {site.node: scalars_of(estimates[key(site)].sent) for site in sites if key(site) in estimates}
    return tuple(
        dataclasses.replace(node, output_gradient=arriving.get(i), input_gradients=(sent.get(i),))
        for i, node in enumerate(record.nodes)
    )


def _output(output: OutputRecord, channels: int) -> OutputStatistics:
    shape = output.value.shape
    elements = shape[channels] if len(shape) > 1 else 1
    positions = max(output.value.size // max(elements, 1), 1)
    gradient = output.gradient
    square = 0.0 if gradient is None else positions**2 * float(np.sum(np.square(gradient, dtype=np.float64)))
    target = np.empty(0) if output.target is None else np.asarray(output.target)
    numeric = target.dtype.kind in "fiub" and target.size > 0
    left_out = _left_out(output)
    return OutputStatistics(
        node=output.node,
        elements=elements,
        logits=output.logits,
        touched=gradient is not None,
        gradient_sq=square,
        positions=float(positions),
        low=float(output.value.min(initial=np.inf)),
        high=float(output.value.max(initial=-np.inf)),
        target_low=float(target.min()) if numeric else np.nan,
        target_high=float(target.max()) if numeric else np.nan,
        loss_name=output.loss_name,
        from_logits=output.from_logits,
        masked=float(np.sum(left_out)),
        weighted=float(left_out.size),
    )


def _left_out(output: OutputRecord) -> Array:
    """Which positions (or samples) the loss gives weight 0; empty if the step did not say."""
    weight, mask = output.sample_weight, output.mask
    parts = [] if weight is None else [np.asarray(weight) == 0]
    parts += [] if mask is None else [~np.asarray(mask, bool)]
    if not parts:
        return np.zeros(0, bool)
    rank = max(part.ndim for part in parts)
    return functools.reduce(
        np.logical_or, (part.reshape(part.shape + (1,) * (rank - part.ndim)) for part in parts)
    )


def _loudest_site(record: StepRecord) -> tuple[float, int]:
    found = [(0.0, 1)]
    for site in record.sites:
        if site.output_gradient is not None:
            h = site.positions * np.asarray(site.output_gradient, np.float64)
            found.append((float(np.sqrt(np.sum(h**2) / site.positions)), site.units))
    return max(pair for pair in found if np.isfinite(pair[0]))


def _site_g_out(site: SiteStatistics) -> float:
    return float(np.sqrt(site.sums["output_gradient_sq"] / site.sums["unit_positions"]))


def _per_sample(node: NodeRecord) -> NodeRecord:
    """Gradients times the batch size, so that they can be added over batches of any size."""

    def scaled(scalars: Scalars | None) -> Scalars | None:
        return scalars and dataclasses.replace(scalars, square_sum=scalars.square_sum * node.samples**2)

    return dataclasses.replace(
        node,
        output_gradient=scaled(node.output_gradient),
        input_gradients=tuple(map(scaled, node.input_gradients)),
    )


def _added_nodes(a: NodeRecord, b: NodeRecord) -> NodeRecord:
    def plus(x: Scalars | None, y: Scalars | None) -> Scalars | None:
        return y if x is None else x if y is None else x + y

    return dataclasses.replace(
        a,
        samples=a.samples + b.samples,
        output=a.output + b.output,
        output_gradient=plus(a.output_gradient, b.output_gradient),
        input_gradients=tuple(map(plus, a.input_gradients, b.input_gradients)),
    )


def _added(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    names = [*a, *(name for name in b if name not in a)]
    return {name: _plus(name, np.asarray(a.get(name, 0.0), np.float64), b.get(name, 0.0)) for name in names}


def _plus(name: str, a: Array, b: Array) -> Array:
    return added_steps(a, b) if name.startswith("step_") and np.ndim(a) == np.ndim(b) == 1 else a + b
