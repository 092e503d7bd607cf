"""From operation to operation: who reads a tensor, who made it, and what is known of it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture.inside._watching import Operation, Pass, is_floating

#: An operation, and which of its inputs the way came from.
Step = tuple[Operation, tf.Tensor]

_READ = "ReadVariableOp"


class Ways:
    """The operations of a pass, linked.

    Parameters
    ----------
    found : Pass
    data : list of tensors
        The batch.
    """

    def __init__(self, found: Pass, data: list[tf.Tensor]) -> None:
        self.operations = found.operations
        self._data = {id(tensor) for tensor in data}
        self._gradients = found.gradients
        self._readers: dict[int, list[Operation]] = collections.defaultdict(list)
        self._makers: dict[int, Operation] = {}
        for operation in found.operations:
            for tensor in operation.inputs:
                self._readers[id(tensor)].append(operation)
            self._makers.update((id(tensor), operation) for tensor in operation.outputs)

    # ---- what is known of a tensor -----------------------------------------------------------

    def gradient(self, tensor: tf.Tensor) -> tf.Tensor | None:
        """The gradient that arrives at a tensor; None where none does, or nothing is known."""
        return self._gradients.get(id(tensor))

    def arrives(self, operation: Operation) -> bool:
        """Whether a gradient arrives at an operation."""
        return any(self.gradient(tensor) is not None for tensor in operation.outputs)

    def maker(self, tensor: tf.Tensor) -> Operation | None:
        """The operation that made a tensor; None of data, weights and constants."""
        return self._makers.get(id(tensor))

    def readers(self, tensor: tf.Tensor) -> list[Operation]:
        """The operations that read a tensor."""
        return self._readers.get(id(tensor), [])

    # ---- forward -----------------------------------------------------------------------------

    def first_behind(
        self, tensors: list[tf.Tensor], holds: Callable[[tf.Tensor], bool]
    ) -> tuple[list[Step], Operation | None]:
        """The nearest operation behind tensors with an output that `holds`.

        Returns
        -------
        list of (Operation, tensor), Operation or None
            The way there with it as the last; without one, all that was reached, and None.
        """
        before: dict[int, Step | None] = {id(tensor): None for tensor in tensors}
        todo, reached = collections.deque(tensors), list[Step]()
        while todo:
            tensor = todo.popleft()
            for operation in self.readers(tensor):
                if any(map(holds, operation.outputs)):
                    return [*_way(before, tensor), (operation, tensor)], operation
                for output in operation.outputs:
                    if id(output) not in before:
                        before[id(output)] = (operation, tensor)
                        reached.append((operation, tensor))
                        todo.append(output)
        return reached, None

    # ---- backward ----------------------------------------------------------------------------

    def origin(self, tensor: tf.Tensor, holds: Callable[[tf.Tensor], bool]) -> Operation | None:
        """The operation that made something true which is true of a tensor, and of nothing it read.

        None where it was true of the data, or of a weight.
        """
        maker = self.maker(tensor)
        while maker is not None:
            given = any(id(t) in self._data and holds(t) for t in maker.inputs)
            if given or maker.type == _READ:
                return None
            inherited = [t for t in maker.inputs if is_floating(t) and self.maker(t) is not None and holds(t)]
            if not inherited:
                return maker
            maker = self.maker(inherited[0])
        return None


def reads_of(ways: Ways, variable: keras.Variable) -> list[tf.Tensor]:
    """The values that were read of a variable.

    What operations put out that read it. An operation that is given the variable itself may read it without
    one: then it reads a tensor of these values that nothing made.
    """
    noted = [tensor for operation in ways.readers(variable.value.handle) for tensor in operation.outputs]
    if noted:
        return noted
    unmade = (t for o in ways.operations for t in o.inputs if is_floating(t) and ways.maker(t) is None)
    alike = (t for t in unmade if t.shape == variable.shape and t.dtype == variable.dtype)
    return [t for t in alike if np.array_equal(values_of(t), values_of(variable.value))]


def loudest_way(ways: Ways, tensors: list[tf.Tensor]) -> Iterator[tuple[float, Operation]]:
    """The way to the loss by the largest gradients: each operation, and what part of one it passes on."""
    while tensors:
        tensor = max(tensors, key=lambda t: size_of(ways.gradient(t)))
        arriving = [(size_of(ways.gradient(t)), r) for r in ways.readers(tensor) for t in r.outputs]
        size, operation = max(arriving, default=(0.0, None), key=lambda pair: pair[0])
        if operation is None or size == 0:
            return
        yield size_of(ways.gradient(tensor)) / size, operation
        tensors = [t for t in operation.outputs if ways.gradient(t) is not None]


def size_of(tensor: tf.Tensor | None) -> float:
    """The norm of a tensor; 0 of none."""
    return 0.0 if tensor is None else float(np.linalg.norm(values_of(tensor)))


def _way(before: dict[int, Step | None], tensor: tf.Tensor) -> list[Step]:
    steps: list[Step] = []
    step = before[id(tensor)]
    while step is not None:
        steps.append(step)
        step = before[id(step[1])]
    return steps[::-1]


def values_of(tensor: tf.Tensor | tf.IndexedSlices) -> np.ndarray:
    """The values of a tensor; of rows, those of the rows."""
    return np.asarray(getattr(tensor, "values", tensor), np.float64)


def is_broken(tensor: tf.Tensor | None) -> bool:
    """Whether a tensor contains NaN or infinite values."""
    return tensor is not None and not bool(np.all(np.isfinite(values_of(tensor))))


def is_nan(tensor: tf.Tensor) -> bool:
    """Whether a tensor contains NaN."""
    return bool(np.any(np.isnan(values_of(tensor))))


def is_zero(tensor: tf.Tensor | None) -> bool:
    """Whether nothing, or nothing but zeros, is there."""
    return tensor is None or not bool(np.any(values_of(tensor)))


def floating(tensors: tuple[tf.Tensor, ...]) -> Iterator[tf.Tensor]:
    """Those that gradients can flow through."""
    return filter(is_floating, tensors)
