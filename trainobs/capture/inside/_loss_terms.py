"""The terms that a loss adds up, and which of them read the net before its end."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from trainobs.capture.inside._watching import Operation, Pass, is_floating
from trainobs.capture.inside._ways import Ways, values_of

#: By id of a variable: the gradient that a term sends there.
Gradients = Mapping[int, np.ndarray]

#: What only adds numbers up, or moves them.
_ADDS = frozenset(
    {"Add", "AddV2", "AddN", "Sub", "Neg", "Pack", "Identity", "Cast", "Mean", "Sum", "Reshape"}
)
_DIVIDES = frozenset({"RealDiv", "DivNoNan"})


class LossTerms:
    """The terms of one pass's loss.

    Parameters
    ----------
    ways : Ways
    found : Pass
    """

    def __init__(self, ways: Ways, found: Pass) -> None:
        self._ways, self._found = ways, found

    @functools.cached_property
    def terms(self) -> list[tuple[tf.Tensor, Gradients]]:
        """Those that depend on what layers compute, with what each sends to the weights that it reaches."""
        leaves = [leaf for target in tf.nest.flatten(self._found.target) for leaf in self._leaves(target)]
        own = [leaf for leaf in leaves if self._is_of_data(leaf)]
        return [(leaf, self._sent_by(leaf)) for leaf in own] if len(own) > 1 else []

    @functools.cached_property
    def inner(self) -> list[tuple[tf.Tensor, Gradients]]:
        """Those that reach fewer weights than another one, and none but those."""
        return [term for term in self.terms if any(term[1].keys() < other.keys() for _, other in self.terms)]

    @property
    def outer(self) -> list[tuple[tf.Tensor, Gradients]]:
        """The others."""
        return [term for term in self.terms if not any(term is other for other in self.inner)]

    def _leaves(self, tensor: tf.Tensor) -> Iterator[tf.Tensor]:
        """What a tensor is a sum of, as far as it is added up outside of layers."""
        maker = self._ways.maker(tensor)
        if maker is None or maker.layer or not (read := self._added_by(maker)):
            yield tensor
            return
        for part in read:
            yield from self._leaves(part)

    def _added_by(self, operation: Operation) -> list[tf.Tensor]:
        """What an operation adds up; nothing, if it does something else."""
        floating = [tensor for tensor in operation.inputs if is_floating(tensor)]
        if operation.type in _ADDS:
            return floating
        if operation.type in _DIVIDES:
            return floating[:1]
        scaled = [t for t in floating if self._is_of_data(t)] if operation.type == "Mul" else []
        return scaled if len(scaled) == 1 and len(floating) == 2 else []

    def _is_of_data(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on what a layer computed: a penalty on weights alone does not."""
        todo, seen = [tensor], set[int]()
        while todo:
            current = todo.pop()
            maker = None if id(current) in seen else self._ways.maker(current)
            seen.add(id(current))
            if maker is not None and maker.layer:
                return True
            todo += () if maker is None else maker.inputs
        return False

    def _sent_by(self, leaf: tf.Tensor) -> Gradients:
        return {
            key: values_of(tf.convert_to_tensor(gradient))
            for key, gradient in self._found.sent_by(leaf, self._ways.gradient(leaf)).items()
            if gradient is not None
        }


def added(terms: list[tuple[tf.Tensor, Gradients]], key: int) -> float:
    """The norm of what terms send to a weight, all together."""
    parts = [gradients[key] for _, gradients in terms if key in gradients]
    return float(np.linalg.norm(np.sum(parts, axis=0))) if parts else 0.0


def size(term: tuple[tf.Tensor, Gradients]) -> float:
    """The norm of all that a term sends."""
    return float(np.sqrt(sum(np.sum(np.square(gradient)) for gradient in term[1].values())))
