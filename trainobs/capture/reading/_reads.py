"""Which tensors a step hands over, each once, and how to read them without changing the training.

A tensor of a traced step gets a slot, the place of its value in what the step returns. Reading a
tensor may change the step: TensorFlow's graph optimizer fuses operations (a preactivation and tanh,
x * sigmoid(x)), moves the numbers of a product on to the next one and adds up sums of sums at once,
but leaves alone what somebody else reads. Each way gives another rounding. So of what it may take
apart only the parts are read, and put together when the record is filled.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

_SUMS = ("AddN", "AddV2")


@dataclasses.dataclass(frozen=True)
class Slot:
    """Stands in a layout where the step's tensor of that position goes.

    It goes there times `factor`, and without the scale that mixed precision puts on the loss if it
    is `scaled`.
    """

    position: int
    factor: float = 1.0
    scaled: bool = False


@dataclasses.dataclass(frozen=True)
class SparseSlot:
    """A gradient of some rows of a table: values, and the rows they belong to."""

    values: Slot
    rows: Slot


@dataclasses.dataclass(frozen=True)
class ProductSlot:
    """The product of some tensors, worked out when the record is filled."""

    factors: tuple[Slot, ...]


@dataclasses.dataclass(frozen=True)
class ScalarsSlot:
    """Four sums over what another slot would hold (see `recording.Scalars`)."""

    sums: Slot
    factor: float
    scaled: bool


class Slots:
    """The slots of one step.

    Parameters
    ----------
    loss_scale : tensor or None
        What mixed precision multiplied the loss with.

    Attributes
    ----------
    tensors : list
        What the step has to return.
    loss_scale : Slot or None
    scaled : set of int
        Positions of tensors that are unscaled when the record is filled, in float32.
    """

    def __init__(self, loss_scale: Any) -> None:
        self.tensors: list[Any] = []
        self._positions: dict[int, int] = {}
        self._gradients: dict[Any, Any] = {}
        self._apart: dict[int, Any] = {}
        self.scaled: set[int] = set()
        self._scaled = False
        self.loss_scale = self._gradient(loss_scale)
        self._scaled = loss_scale is not None

    def holds(self, tensor: Any) -> bool:
        """Whether a tensor has a slot already."""
        return id(tensor) in self._positions

    def value(self, tensor: Any) -> Slot | None:
        """The slot of a tensor, None for None."""
        if tensor is None:
            return None
        if id(tensor) not in self._positions:
            self._positions[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return Slot(self._positions[id(tensor)])

    def gradient(self, tensor: Any) -> Slot | SparseSlot | None:
        """Like `value`, of what the scaled loss gave.

        Of a constant's product (a Dropout's, say) the other factor is read: TensorFlow moves the
        constant on to the next product, unless somebody reads this one.
        """
        if isinstance(tensor, tf.IndexedSlices):
            values, rows = self.gradient(tensor.values), self.value(tensor.indices)
            assert isinstance(values, Slot)
            assert rows is not None
            return SparseSlot(values, rows)
        return self._gradient(tensor)

    def _gradient(self, tensor: Any) -> Slot | None:
        if tensor is None:
            return None
        varying, factor = _without_constants(tensor)
        if id(varying) not in self._gradients:
            read = tf.convert_to_tensor(self._added_apart(varying))
            self._gradients[id(varying)] = (read, varying)  # keeps the id taken
        slot = self.value(self._gradients[id(varying)][0])
        assert slot is not None
        if self._scaled:
            self.scaled.add(slot.position)
        return dataclasses.replace(slot, factor=factor, scaled=self._scaled)

    def weight_gradient(self, tensor: Any) -> Slot | SparseSlot | ProductSlot | None:
        """Like `gradient`; of a product only the factors are read.

        TensorFlow takes factors of products in another order (the learning rate first, say), unless
        somebody reads the product.
        """
        first, *others = [tensor] if tensor is None else _factors(tensor)
        if not others:
            return self.gradient(first)
        slots = self.gradient(first), *(self.value(factor) for factor in others)
        return ProductSlot(tuple(slot for slot in slots if isinstance(slot, Slot)))

    def sums(self, gradient: Any) -> Slot | SparseSlot | ScalarsSlot | None:
        """Sums over a gradient; they wait if the whole of it is held anyway."""
        varying, factor = _without_constants(gradient)
        if id(varying) in self._gradients:
            return self.gradient(gradient)
        key = ("scalars", id(varying))
        if key not in self._gradients:
            self._gradients[key] = (_four_sums(self._added_apart(varying)), varying)
        slot = self.value(self._gradients[key][0])
        assert slot is not None
        return ScalarsSlot(slot, factor, self._scaled)

    def _added_apart(self, tensor: Any) -> Any:
        """A tensor; of a sum that is a term of another, the same added up once more.

        TensorFlow adds the terms of both in one operation, in another order, unless somebody reads the
        inner sum. Stacked, they are not taken for that sum.
        """
        if not is_inner_sum(tensor):
            return tensor
        if id(tensor) not in self._apart:
            terms = [_without_constants(term) for term in terms_of(tensor)]
            factors = tf.constant([factor for _, factor in terms], tensor.dtype)
            self._apart[id(tensor)] = tf.tensordot(factors, tf.stack([term for term, _ in terms]), 1)
        return self._apart[id(tensor)]


def parts_read(tensor: Any) -> list[Any]:
    """What of a gradient is read: itself, unless it is taken apart."""
    varying, _ = _without_constants(tensor)
    return [_without_constants(term)[0] for term in terms_of(varying)] if is_inner_sum(varying) else [varying]


def length_of(tensor: Any) -> Any:
    """Size of the first axis, 1 if there is none; of what is taken apart, that of its parts."""
    tensor = parts_read(tensor)[0]
    return tf.shape(tensor)[0] if tensor.shape.rank else tf.constant(1)


def _factors(tensor: Any) -> list[Any]:
    """What a tensor is the product of: itself, unless it was made by multiplication."""
    if not tf.is_symbolic_tensor(tensor) or tensor.op.type != "Mul":
        return [tensor]
    sole = [len(factor.consumers()) == 1 for factor in tensor.op.inputs]
    return [
        part
        for factor, alone in zip(tensor.op.inputs, sole, strict=True)
        for part in (_factors(factor) if alone else [factor])
    ]


def is_sum(tensor: Any) -> bool:
    """Whether a tensor of a graph was made by addition."""
    return tf.is_symbolic_tensor(tensor) and tensor.op.type in _SUMS


def is_inner_sum(tensor: Any) -> bool:
    """Whether a tensor is a sum, and read by nothing but another sum that it is a term of."""
    readers = tensor.consumers() if is_sum(tensor) else []
    return len(readers) == 1 and readers[0].type in _SUMS


def terms_of(tensor: Any) -> list[Any]:
    """What a sum is the sum of, in the end."""
    parts = [(part, is_inner_sum(part)) for part in tensor.op.inputs]
    return [term for part, inner in parts for term in (terms_of(part) if inner else [part])]


def _without_constants(tensor: Any) -> tuple[Any, float]:
    """A tensor without the numbers it was multiplied with or divided by, and the factor they make."""
    factor = 1.0
    while (parts := _constant_product(tensor)) is not None:
        tensor, number = parts
        factor *= number
    return tensor, factor


def _constant_product(tensor: Any) -> tuple[Any, float] | None:
    """A tensor and a number, of which another is the product; TensorFlow makes quotients products."""
    if not tf.is_symbolic_tensor(tensor) or tensor.op.type not in ("Mul", "RealDiv"):
        return None
    left, right = tensor.op.inputs
    first, second = _number(left), _number(right)
    if tensor.op.type == "RealDiv":
        return (left, 1 / second) if second else None
    if second is not None:
        return left, second
    return None if first is None else (right, first)


def _number(tensor: Any) -> float | None:
    """The value of a constant of no axes."""
    constant = tensor.op.type == "Const" and tensor.shape.rank == 0
    return float(tf.get_static_value(tensor)) if constant else None


def _four_sums(tensor: Any) -> Any:
    """Square sum, zeros, non-finite values and size of a tensor, as one vector."""
    values = tf.cast(tf.convert_to_tensor(tensor), tf.float32)
    return tf.stack(
        [
            tf.reduce_sum(values * values),
            tf.reduce_sum(tf.cast(values == 0, tf.float32)),
            tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.float32)),
            tf.cast(tf.size(values), tf.float32),
        ]
    )
