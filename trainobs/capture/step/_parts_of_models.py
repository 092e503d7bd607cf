"""What models are made of, as far as it is tapped: layers, operations, optimizers."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from trainobs.capture._keras_internals import all_layers
from trainobs.capture.layers import kind_of

_PASSIVE = (keras.layers.InputLayer, keras.Model)


def nodes_of(model: keras.Model) -> list[keras.Operation]:
    """All layers, and the operations of functional models that are no layers.

    What a layer of a known kind is made of (an activation layer, a cell) is a part of that one.
    """
    layers = all_layers(model)
    inner = {id(part) for layer in layers if kind_of(layer) is not None for part in all_layers(layer)}
    own = [layer for layer in layers if id(layer) not in inner]
    operations = [
        operation
        for part in (model, *layers)
        for operation in (
            part.operations if isinstance(part, keras.Model) and hasattr(part, "operations") else ()
        )
        if not isinstance(operation, keras.layers.Layer)
    ]
    nodes = {id(node): node for node in (*own, *operations) if not isinstance(node, _PASSIVE)}
    return list(nodes.values())


def has_parts(layer: keras.Operation) -> bool:
    """Whether a layer is made of others that are tapped in its place."""
    known = not isinstance(layer, keras.layers.Layer) or kind_of(layer) is not None
    return not known and bool(all_layers(layer))


def variables_by_id(models: Iterable[keras.Model]) -> dict[int, keras.Variable]:
    """The variables of models, by the ids of what a tape is given for them: Keras' object or TensorFlow's."""
    return {id(key): v for model in models for v in model.variables for key in (v, v.value)}


def updating_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that updates: of one that scales the loss, the one inside."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Optimizers that the model holds, also in lists and dictionaries."""
    found: dict[int, keras.optimizers.Optimizer] = {}
    todo = list(vars(model).values())
    while todo:
        value = todo.pop()
        if isinstance(value, keras.optimizers.Optimizer):
            found[id(value)] = value
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, dict):
            todo.extend(value.values())
    return list(found.values())
