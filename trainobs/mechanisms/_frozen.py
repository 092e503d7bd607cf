"""Weights that are not trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import several


@dataclasses.dataclass(frozen=True)
class Frozen(Mechanism):
    """A layer is not trained.

    Severity: info

    When: weights are not trainable.

    Where: the layer.

    Parameters
    ----------
    weights : int
    """

    weights: int

    cause = "frozen"
    treatments = ("unfreeze",)
    rank = 40

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Layers with such weights."""
        weights: dict[str, int] = {}
        for figures in case.sites.values():
            if not figures.info.trainable:
                weights[figures.info.layer] = weights.get(figures.info.layer, 0) + figures.size
        yield from (cls(layer, number) for layer, number in weights.items())

    @property
    def severity(self) -> str:
        """An info: somebody asked for it."""
        return "info"

    def evidence(self) -> str:
        """How large the layer is."""
        weights = several(self.weights, "weight")
        return f"{self.layer} is not trainable: no gradient is taken of its {weights}."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Set `layer.trainable = True` and compile again, if it should learn."
