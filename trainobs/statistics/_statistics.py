"""Additive statistics of recorded steps: what reports, batches and workers have in common.

Every figure of a report is a ratio of sums over terms, so ``Statistics + Statistics`` is the one
way to merge: two batches, two recorded steps of the same weights, two workers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from trainobs.activations import Activation
from trainobs.errors import InvalidArgument
from trainobs.linear_ops import LinearOp
from trainobs.records import NodeRecord, Scalars, SiteRecord
from trainobs.statistics._outputs import OutputStatistics
from trainobs.statistics._time_steps import added_steps
from trainobs.statistics._whole_layer import WholeLayerStatistics

Array = Any  # arrays and NumPy scalars: sums of shape () are the latter


@dataclasses.dataclass(frozen=True)
class SiteInfo:
    """What stays the same about a kernel from batch to batch (see `SiteRecord`).

    `input_shape` and `unit_shape` are those of one sample, in the layer's own layout.
    """

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
    input_shape: tuple[int, ...]
    unit_shape: tuple[int, ...]

    @property
    def key(self) -> str:
        """As of `SiteRecord`."""
        return f"{self.weight} ({self.part})" if self.part else self.weight

    @classmethod
    def of(cls, site: SiteRecord) -> SiteInfo:
        worked_out: dict[str, Any] = {
            "connected": site.kernel_gradient is not None,
            "shape": site.shape or site.kernel.shape,
            "input_shape": site.input.shape[1:],
            "unit_shape": site.preactivation.shape[1:],
        }
        own = {field.name for field in dataclasses.fields(cls)} - set(worked_out)
        return cls(**{name: getattr(site, name) for name in own}, **worked_out)


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
    sums : dict of str to array
        The sums of `site_sums` (float64; those as large as the kernel are float32 as long as they are
        of a single call), and ``residual`` and ``residual_scale`` (), ``pinv_zero``
        (*k, 1, j), ``pinv_rank`` and ``pinv_positions``, ``pinv_error_sq`` and ``pinv_true_sq`` ().
        Once nothing is to be added any more, see `SiteFigures.condensed`.
    """

    info: SiteInfo
    kernel: Array
    bias_rms: float
    sums: dict[str, Array]
    rows: Array | None = None

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        if self.is_condensed or other.is_condensed:
            raise InvalidArgument("Condensed statistics, as of a single batch's report, can't be added.")
        if self.rows is None or other.rows is None:
            return dataclasses.replace(self, sums=added(self.sums, other.sums))
        rows = np.union1d(self.rows, other.rows)
        parts = [_at_rows(part, rows) for part in (self, other)]
        kernel = np.where(np.isin(rows, self.rows)[:, None], parts[0].kernel, parts[1].kernel)
        return dataclasses.replace(self, rows=rows, kernel=kernel, sums=added(parts[0].sums, parts[1].sums))

    @property
    def is_condensed(self) -> bool:
        """Whether only verdicts are left of the sums that are as large as the kernel."""
        return "verdict" in self.sums

    @property
    def positions(self) -> float:
        """n over all batches."""
        return float(self.sums["positions"])

    @property
    def data_gradient(self) -> Array:
        """dJ/dW without the kernel's own penalty, of the mean loss over all batches."""
        return np.asarray(self.sums["gradient"], np.float64) / self.positions


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
    others : dict of str to WholeLayerStatistics
        The weights that no site explains, by path.
    """

    sites: dict[str, SiteStatistics]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[OutputStatistics, ...]
    loss_sum: float
    batches: int
    backprop: str = "tape"
    step: int | None = None
    others: dict[str, WholeLayerStatistics] = dataclasses.field(default_factory=dict)

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


#: The sums that are as large as the kernel.
PER_WEIGHT = frozenset({"input_slope_sq", "input_backprop_sq", "all_sq", "input_and_slope_live", "gradient"})


def added(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    return {**a, **b, **{name: _plus(name, a[name], b[name]) for name in a.keys() & b.keys()}}


def _plus(name: str, a: Array, b: Array) -> Array:
    a = np.asarray(a, np.float64)
    return added_steps(a, b) if name.startswith("step_") and np.ndim(a) == np.ndim(b) == 1 else a + b


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


def _site_g_out(site: SiteStatistics) -> float:
    return float(np.sqrt(site.sums["output_gradient_sq"] / site.sums["unit_positions"]))
