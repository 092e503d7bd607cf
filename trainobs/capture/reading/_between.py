"""What lies between two places of a graph, and the user's line that asked for it.

Only what is certain from the graph is said: that no way leads past operations without a gradient, or that all
operations stand in one line. Nothing is read for it, and it is found once, while the step is traced.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

import tensorflow as tf

from trainobs.capture._users_lines import code_at, line_of
from trainobs.records import Place

#: What tells a tensor from others.
Key = tuple[int, str]
#: Operations on numbers that let no gradient through, or only zeros; of what makes integers, its type tells.
_STOPPING = frozenset(
    {"StopGradient", "Round", "Rint", "Floor", "Ceil", "Sign", "FloorDiv", "PyFunc", "PyFuncStateless"}
)
_OPAQUE = (tf.variant, tf.resource)
#: What depends on shapes only.
_OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
#: What hands values on, in another shape or precision.
_HANDING_ON = frozenset(
    {"Identity", "IdentityN", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "EnsureShape"}
)


class Between:
    """The operations of a graph on the ways from some tensors to others.

    Parameters
    ----------
    outputs, inputs : sequences of tensors
        Of one graph.
    layer : str
        Where that is, for their `Place`.
    """

    def __init__(self, outputs: Iterable[tf.Tensor], inputs: Iterable[tf.Tensor], layer: str = "") -> None:
        self._inputs = {_key(tensor) for tensor in inputs if tf.is_symbolic_tensor(tensor)}
        symbolic = [tensor for tensor in outputs if tf.is_symbolic_tensor(tensor)]
        self._outputs, self._layer = symbolic if self._inputs else [], layer
        _, operations = self._back(_never)
        self._operations = _depending(self._inputs, operations)

    def cut(self) -> Place | None:
        """The operation that lets no gradient through; None if there is a way past, or several lines cut.

        Of several on one way, the last: a gradient arrives there.
        """
        passed, operations = self._back(_stops)
        stopping = [o for o in operations if o in self._operations and any(map(_stops, o.outputs))]
        return None if self._inputs & passed else self._place(stopping)

    def sole(self) -> Place | None:
        """The one operation that is there, or the line that asked for all of them; None if there are more."""
        return self._place(self._working())

    def changes(self) -> bool:
        """Whether values come out changed, and not only in another shape or precision."""
        return bool(self._working())

    def _working(self) -> list[tf.Operation]:
        return [operation for operation in self._operations if operation.type not in _HANDING_ON]

    def _back(self, stops: Callable[[tf.Tensor], bool]) -> tuple[set[Key], list[tf.Operation]]:
        """The tensors and operations that ways back come by, each up to an input or where it `stops`."""
        passed, operations, todo = set[Key](), dict[tf.Operation, None](), [*self._outputs]
        while todo:
            tensor = todo.pop()
            if _key(tensor) in passed:
                continue
            passed.add(_key(tensor))
            if _key(tensor) in self._inputs or tensor.op.type in _OF_SHAPES:
                continue
            operations[tensor.op] = None
            if not stops(tensor):
                todo.extend(tensor.op.inputs)
        return passed, list(operations)

    def _place(self, operations: list[tf.Operation]) -> Place | None:
        """Where operations are, if that is one place."""
        lines = {line_of(operation) for operation in operations}
        if len(lines) != 1 or (len(operations) > 1 and lines == {("", 0)}):
            return None
        (line,) = lines
        name = operations[0].type if len(operations) == 1 else "an operation"
        return Place(self._layer, name, *line, code_at(line))


def _key(tensor: tf.Tensor) -> Key:
    return id(tensor.graph), tensor.name


def _depending(inputs: set[Key], operations: list[tf.Operation]) -> dict[tf.Operation, None]:
    """Those of some operations that depend on inputs."""
    readers: dict[Key, list[tf.Operation]] = collections.defaultdict(list)
    for operation in operations:
        for tensor in operation.inputs:
            readers[_key(tensor)].append(operation)
    found, todo = dict[tf.Operation, None](), [*inputs]
    while todo:
        fresh = [operation for operation in readers[todo.pop()] if operation not in found]
        found |= dict.fromkeys(fresh)
        todo += [_key(tensor) for operation in fresh for tensor in operation.outputs]
    return found


def _carries(tensor: tf.Tensor) -> bool:
    """Whether a gradient can flow through a tensor; through lists, as loops have them, it may."""
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex) or tensor.dtype in _OPAQUE


def _stops(tensor: tf.Tensor) -> bool:
    """Whether the operation that made a tensor lets no gradient of it through."""
    if tensor.op.type in _STOPPING:
        return True
    return not _carries(tensor) and any(map(_carries, tensor.op.inputs))


def _never(tensor: tf.Tensor) -> bool:
    """For ways that nothing stops."""
    return False
