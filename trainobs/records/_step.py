"""Everything one train step handed over."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.errors import NotRecorded
from trainobs.records._nodes import NodeRecord, OutputRecord
from trainobs.records._sites import SiteRecord

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class WeightRecord:
    """A trainable weight of a layer whose kind is not known: explained with its layer, as a whole.

    Attributes
    ----------
    layer, kind : str
        Name and class of the innermost layer that holds it.
    weight : str
        Path of the variable.
    shape : tuple of int
    nodes : tuple of int
        The calls of that layer, where it has no sublayers.
    trainable : bool
    dtype : str
        What the layer computes in.
    bases : tuple of str
        Names of the layer's class and those it inherits from.
    gradient, penalty_gradient : array or None
        See `SiteRecord.kernel_gradient` and `SiteRecord.penalty_gradient`.
    is_zero : bool
        Whether all its values were 0 before the step.
    """

    layer: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    nodes: tuple[int, ...]
    trainable: bool
    dtype: str
    bases: tuple[str, ...]
    gradient: Array | None
    penalty_gradient: Array | None = None
    is_zero: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class StepRecord:
    """Everything one train step handed over.

    Attributes
    ----------
    step, epoch : int
        Number of the step since the recorder was made, from 0; the epoch it belongs to.
    loss : float
        The loss of this batch: what the step's (last) gradient of weights was taken of; nan if it is not
        known.
    sites : tuple of SiteRecord
        In the order of the forward pass.
    nodes : tuple of NodeRecord
        In the order of the forward pass.
    outputs : tuple of OutputRecord
        The model's outputs.
    weights : tuple of WeightRecord
        The trainable weights that no site explains.
    idle : int
        How many gradients of the step were asked for no weights at all.
    """

    step: int
    epoch: int
    loss: float
    sites: tuple[SiteRecord, ...]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[OutputRecord, ...]
    weights: tuple[WeightRecord, ...] = ()
    idle: int = 0

    def site(self, name: str) -> SiteRecord:
        """The first site of a layer or weight.

        Raises
        ------
        NotRecorded
            If no recorded site has that name.
        """
        for site in self.sites:
            if name in (site.layer, site.weight):
                return site
        known = ", ".join(dict.fromkeys(s.layer for s in self.sites))
        raise NotRecorded(f"No site named {name!r} in step {self.step}. Recorded layers: {known}.")

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, each counted once."""
        arrays = {
            id(value): value.nbytes
            for record in (*self.sites, *self.outputs, *self.weights)
            for value in vars(record).values()
            if isinstance(value, np.ndarray) and any(value.strides)  # a broadcast number takes no memory
        }
        return sum(arrays.values())
