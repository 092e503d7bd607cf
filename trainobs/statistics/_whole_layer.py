"""Weights of layers whose kind is not known: the additive statistics of their gradients.

How such a weight enters its layer is not known, so neither are the terms of its gradient.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from trainobs.records import StepRecord, WeightRecord

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class WholeLayerInfo:
    """What stays the same about such a weight (see `WeightRecord`)."""

    layer: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    nodes: tuple[int, ...]
    trainable: bool
    connected: bool
    bases: tuple[str, ...]
    is_zero: bool = False

    part: ClassVar[str] = ""
    role: ClassVar[str] = "unknown"

    @property
    def key(self) -> str:
        """The path: such a weight has no parts."""
        return self.weight

    @classmethod
    def of(cls, record: WeightRecord) -> WholeLayerInfo:
        """What a record says of its weight; fields of the same name are taken as they are."""
        own = {field.name for field in dataclasses.fields(cls)} - {"connected"}
        return cls(connected=record.gradient is not None, **{name: getattr(record, name) for name in own})


@dataclasses.dataclass(frozen=True, eq=False)
class WholeLayerStatistics:
    """Sums over batches: `gradient` is N · dJ/dw, N samples."""

    info: WholeLayerInfo
    gradient: Array
    samples: float

    def __add__(self, other: WholeLayerStatistics) -> WholeLayerStatistics:
        return WholeLayerStatistics(self.info, self.gradient + other.gradient, self.samples + other.samples)


def gather_whole_layers(record: StepRecord) -> dict[str, WholeLayerStatistics]:
    """The statistics of all weights that no site explains, by path."""
    samples = max((node.samples for node in record.nodes), default=1)
    wholes = {}
    for weight in record.weights:
        gradient = np.zeros(weight.shape) if weight.gradient is None else np.asarray(weight.gradient, float)
        penalty = 0.0 if weight.penalty_gradient is None else weight.penalty_gradient
        own = gradient - penalty if weight.gradient is not None else gradient
        wholes[weight.weight] = WholeLayerStatistics(WholeLayerInfo.of(weight), samples * own, float(samples))
    return wholes
