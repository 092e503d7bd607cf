"""Additive statistics of one weight: its sums over the terms, all calls of its layer together."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.activations import Activation
from trainobs.errors import InvalidArgument
from trainobs.linear_ops import LinearOp
from trainobs.records import SiteRecord
from trainobs.statistics._schema import added, is_additive, refuse_unknown, spread, spread_sums

Array = np.ndarray


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
        """What tells a weight, or a part of one, from the others (see `SiteRecord.key`)."""
        return f"{self.weight} ({self.part})" if self.part else self.weight

    @classmethod
    def of(cls, site: SiteRecord) -> SiteInfo:
        """What a record says of its kernel; fields of the same name are taken as they are."""
        worked_out = ("connected", "shape", "input_shape", "unit_shape")
        as_recorded = {field.name for field in dataclasses.fields(cls)}.difference(worked_out)
        return cls(
            connected=site.kernel_gradient is not None,
            shape=site.shape or site.kernel.shape,
            input_shape=site.input.shape[1:],
            unit_shape=site.preactivation.shape[1:],
            **{name: getattr(site, name) for name in as_recorded},
        )


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
        By the names of `_schema.SUMS`, which says what each is; float64, but those as large as the kernel
        are float32 as long as they are of a single call. Once nothing is to be added any more, see
        `analysis.condensed`.

    Raises
    ------
    InvalidArgument
        If a sum has a name that the schema does not know.
    """

    info: SiteInfo
    kernel: Array
    bias_rms: float
    sums: dict[str, Array]
    rows: Array | None = None

    def __post_init__(self) -> None:
        refuse_unknown(self.sums)

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        if self.is_condensed or other.is_condensed:
            raise InvalidArgument(
                "Condensed statistics, which the report of a single batch has, can't be added. Explain the "
                "data of both batches in one call."
            )
        if self.rows is None or other.rows is None:
            return dataclasses.replace(self, sums=added(self.sums, other.sums))
        rows = np.union1d(self.rows, other.rows)
        mine, others = self._at_rows(rows), other._at_rows(rows)
        kernel = np.where(np.isin(rows, self.rows)[:, None], mine.kernel, others.kernel)
        return dataclasses.replace(mine, kernel=kernel, sums=added(mine.sums, others.sums))

    def _at_rows(self, rows: Array) -> SiteStatistics:
        """The same statistics, with zeros for rows of the table they did not speak of."""
        assert self.rows is not None
        sums = spread_sums(self.sums, self.rows, rows)
        return dataclasses.replace(self, rows=rows, kernel=spread(self.kernel, self.rows, rows), sums=sums)

    @property
    def is_condensed(self) -> bool:
        """Whether only verdicts are left of the sums that are as large as the kernel."""
        return not is_additive(self.sums)

    @property
    def positions(self) -> float:
        """n over all batches."""
        return float(self.sums["positions"])

    @property
    def data_gradient(self) -> Array:
        """dJ/dW without the kernel's own penalty, of the mean loss over all batches."""
        return np.asarray(self.sums["gradient"], np.float64) / self.positions
