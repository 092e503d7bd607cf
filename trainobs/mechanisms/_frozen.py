"""Weights that are not trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import several


@dataclasses.dataclass(frozen=True)
class Frozen(Mechanism):
    """A layer is not trained.

    Severity: info; warning where nothing of the model is trained

    When: weights are not trainable.

    Where: the layer; the output layer, where it is all of them.

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
        """Layers with such weights, if others are trained."""
        if any(figures.info.trainable for figures in case.weights.values()):
            yield from (cls(layer, number) for layer, number in _frozen_layers(case).items())

    @property
    def only_informs(self) -> bool:
        """Somebody asked for it."""
        return True

    def evidence(self) -> str:
        """How large the layer is."""
        weights = several(self.weights, "weight")
        return f"{self.layer} is not trainable: no gradient is taken of its {weights}."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Set `layer.trainable = True` and compile again, if it should learn."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: what is not trained has no gradient to compare."""
        return Untried("what is not trained has no gradient")


@dataclasses.dataclass(frozen=True)
class NothingTrained(Frozen):
    """Nothing of a model is trained (see `Frozen`).

    Parameters
    ----------
    layers : tuple of str
        Those with weights.
    """

    layers: tuple[str, ...] = ()

    cause = "frozen"
    rank = 39

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Models that learn nothing."""
        frozen = _frozen_layers(case)
        if frozen and not any(figures.info.trainable for figures in case.weights.values()):
            yield cls(case.output_layer(), sum(frozen.values()), tuple(frozen))

    @property
    def severity(self) -> str:
        """A warning: it was given to a training."""
        return "warning"

    @property
    def only_informs(self) -> bool:
        """Not where nothing learns."""
        return False

    def evidence(self) -> str:
        """How large the model is."""
        weights, layers = several(self.weights, "weight"), several(len(self.layers), "layer")
        return f"Nothing is trained: none of the {weights} in {layers} is trainable."

    def advice(self) -> str:
        """What to try first, and what makes a model like that."""
        return (
            "Set `model.trainable = True` and compile again. A model whose `trainable` was set to False for "
            "another one, as of a GAN, stays so for its own training."
        )


def _frozen_layers(case: Case) -> dict[str, int]:
    """Of each layer with weights that are not trainable, how many there are."""
    weights: dict[str, int] = {}
    for figures in case.weights.values():
        if not figures.info.trainable:
            weights[figures.info.layer] = weights.get(figures.info.layer, 0) + figures.size
    return weights
