"""Who consumes whom: read from the tensors that the layers of one step passed to each other.

Layers that hand over the same tensor object are linked by it. In a traced step a tensor that went
through raw ops in between is followed back through the graph to the layers it came from.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from trainobs.capture.layers import is_activation, is_normalisation, keeps_shape
from trainobs.capture.reading._trace import LayerCall, StepTrace

#: What tells a tensor from others: of a graph, its name there.
Key = int | tuple[int, str]
_TRANSPARENT_OPS = frozenset({"Identity", "IdentityN", "Cast"})


@dataclasses.dataclass(frozen=True)
class Wiring:
    """Links between the calls of a step, by their positions.

    Attributes
    ----------
    producers : list of list of tuple
        For each call and each of its inputs, the calls it came from; empty for data.
    consumers : list of list of int
        For each call, the calls that read it.
    direct : set of (int, int)
        Links (producer, consumer) with nothing but casts in between.
    changed : list of list of bool
        For each call and each of its inputs, whether operations that are no layers made it.
    output_nodes : list of int
        For each output of the model, the call it came from; -1 if there is none.
    outputs_changed : list of tuple
        For each output of the model that such operations made, the calls it came from; else empty.
    """

    producers: list[list[tuple[int, ...]]]
    consumers: list[list[int]]
    direct: set[tuple[int, int]]
    changed: list[list[bool]]
    output_nodes: list[int]
    outputs_changed: list[tuple[int, ...]]

    def activation_call(self, calls: list[LayerCall], site: int) -> tuple[list[int], bool]:
        """Follow a linear site's output to the activation layers it belongs to.

        Returns the activation calls in order, empty if there are none, and whether a
        normalisation stands between kernel and activation. Only a sole consumer counts: a
        second path would carry gradient past the activation.
        """
        found: list[int] = []
        normalised = seen_normalisation = False
        node = site
        while len(self.consumers[node]) == 1 and node not in self.output_nodes:
            node, previous = self.consumers[node][0], node
            layer = calls[node].layer
            if (previous, node) not in self.direct or len(calls[node].received) != 1:
                break
            if is_activation(layer):
                found.append(node)
                normalised = normalised or seen_normalisation
            elif is_normalisation(layer) and not found:
                seen_normalisation = True
            elif not keeps_shape(layer) or found:
                break
        return found, normalised

    def next_sites(self, calls: list[LayerCall], node: int) -> list[int]:
        """The sites that read a node's output, directly or through layers without a kernel."""
        reached, todo, seen = [], list(self.consumers[node]), set()
        while todo:
            current = todo.pop(0)
            if current in seen:
                continue
            seen.add(current)
            if calls[current].carries:
                reached.append(current)
            else:
                todo.extend(self.consumers[current])
        return reached


def wire(trace: StepTrace) -> Wiring:
    """Link the calls of a trace."""
    makers: dict[Key, int] = {}
    handed_on = [(_key(o.value), _key(o.handed_on)) for o in trace.outputs if o.handed_on is not None]
    producers, direct, changed = [], set(), []
    consumers: list[list[int]] = [[] for _ in trace.calls]
    for index, call in enumerate(trace.calls):
        received = [trace.casts.get(id(tensor), (tensor,))[0] for tensor in call.received]
        found = [_origins(tensor, makers) for tensor in received]
        makers |= {_key(tensor): index for tensor in call.returned}  # also of what it hands back as it came
        makers |= {given: makers[made] for made, given in handed_on if made in makers}
        producers.append([origin for origin, _ in found])
        changed.append([bool(origin) and not unchanged for origin, unchanged in found])
        for origin, unchanged in found:
            for maker in origin:
                consumers[maker].append(index)
                if unchanged:
                    direct.add((maker, index))
    at_outputs = [_origins(output.value, makers) for output in trace.outputs]
    output_nodes = [(origin or (-1,))[0] for origin, _ in at_outputs]
    outputs_changed = [() if unchanged else origin for origin, unchanged in at_outputs]
    return Wiring(producers, consumers, direct, changed, output_nodes, outputs_changed)


def _key(tensor: tf.Tensor) -> Key:
    return (id(tensor.graph), tensor.name) if tf.is_symbolic_tensor(tensor) else id(tensor)


def _origins(tensor: tf.Tensor, makers: dict[Key, int]) -> tuple[tuple[int, ...], bool]:
    """The calls a tensor came from, and whether nothing changed it on the way."""
    if _key(tensor) in makers:
        return (makers[_key(tensor)],), True
    if not tf.is_symbolic_tensor(tensor):
        return (), True
    origins, unchanged, todo, seen = [], True, [tensor], set()
    while todo:
        current = todo.pop()
        if _key(current) in seen:
            continue
        seen.add(_key(current))
        if _key(current) in makers:
            origins.append(makers[_key(current)])
        else:
            unchanged = unchanged and current.op.type in _TRANSPARENT_OPS
            todo.extend(current.op.inputs)
    return tuple(sorted(set(origins))), unchanged
