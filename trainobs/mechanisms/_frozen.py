"""Weights that are not trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import are, several


@dataclasses.dataclass(frozen=True)
class Frozen(Mechanism):
    """A layer is not trained.

    Severity: info; warning where nothing of the model is trained, or a gradient is taken of nothing

    When: weights are not trainable; a warning, if those are all, or if the step asks a tape for the gradient
    of no weights at all (of the `trainable_weights` of a model that is frozen, say).

    Where: the layer; the output layer, where it is all of them; else the last one that is frozen.

    Parameters
    ----------
    weights : int
    """

    weights: int

    cause = "frozen"
    treatments = ("unfreeze",)
    rank = 40

    def __post_init__(self) -> None:
        """There are some."""
        assert self.weights > 0, self

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Layers with such weights, if others are trained, and nothing shows that these were to be."""
        if _trains(case) and not case.statistics.idle:
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
        if frozen and not _trains(case):
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
        which = "its only weight" if self.weights == 1 else f"none of the {weights} in {layers}"
        return f"Nothing is trained: {which} is {'not ' if self.weights == 1 else ''}trainable."

    def advice(self) -> str:
        """What to try first, and what makes a model like that."""
        return (
            "Set `model.trainable = True` and compile again. A model whose `trainable` was set to False for "
            "another one, as of a GAN, stays so for its own training."
        )


@dataclasses.dataclass(frozen=True)
class GivenNothing(NothingTrained):
    """A gradient is taken of no weights at all, while some are frozen (see `Frozen`)."""

    cause = "frozen"
    rank = 39

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Steps of several models, say, one of which was to be trained."""
        frozen = _frozen_layers(case)
        if frozen and _trains(case) and case.statistics.idle:
            yield cls([*frozen][-1], sum(frozen.values()), tuple(frozen))

    def evidence(self) -> str:
        """What is frozen."""
        weights, layers = several(self.weights, "weight"), several(len(self.layers), "layer")
        return (
            f"The step takes a gradient of no weights at all, so that an optimizer is given nothing: "
            f"{weights} in {layers} up to {self.layer} {are(self.weights)} not trainable."
        )


def _trains(case: Case) -> bool:
    return any(figures.info.trainable for figures in case.weights.values())


def _frozen_layers(case: Case) -> dict[str, int]:
    """Of each layer with weights that are not trainable, how many there are."""
    weights: dict[str, int] = {}
    for figures in case.weights.values():
        if not figures.info.trainable:
            weights[figures.info.layer] = weights.get(figures.info.layer, 0) + figures.size
    return weights
