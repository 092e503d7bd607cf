"""Frozen layers, trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras

from trainobs.mechanisms import Mechanism, NothingTrained
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, rebuilt
from trainobs.remedies._treatment import Treatment, listed


class Unfreeze(Remedy):
    """Trains the frozen layer."""

    name = "unfreeze"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """This layer alone, others may be frozen for a reason; all of them, if none is trained."""
        layers = [*mechanism.layers] if isinstance(mechanism, NothingTrained) else [mechanism.layer]
        changes = f"Trains {listed(layers)}."
        yield Treatment.of_model(mechanism, self.name, changes, unfreeze, layers=layers)


def unfreeze(model: keras.Model, *, layers: Iterable[str]) -> keras.Model:
    """Train layers that were frozen."""
    names = checked_names(model, layers)

    def change(layer: keras.Layer) -> keras.Layer:
        layer.trainable = layer.trainable or layer.name in names
        return layer

    return rebuilt(model, change)
