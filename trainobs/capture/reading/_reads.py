"""Which tensors a step hands over, each once, and how to read them without changing the training.

A tensor of a traced step gets a position, the place of its value in what the step returns. Reading a
tensor may change the step: TensorFlow takes apart what only one operation reads (see `_terms`), and
each way gives another rounding. So of what it may take apart only the parts are read, and put together
when the record is made.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from trainobs.capture.reading._terms import factors_of, is_inner_sum, terms_of, without_constants
from trainobs.capture.reading._values import ProductRead, RowsRead, SumsRead, TensorRead

#: How the gradient of a weight is read.
GradientRead = TensorRead | RowsRead | ProductRead


class Reads:
    """What is read of one step, in the order of asking.

    Parameters
    ----------
    loss_scale : tensor or None
        What mixed precision multiplied the loss with.

    Attributes
    ----------
    tensors : list
        What the step has to return.
    loss_scale : TensorRead or None
    scaled : set of int
        Positions of tensors that are unscaled when the record is made, in float32.
    """

    def __init__(self, loss_scale: tf.Tensor | None) -> None:
        self.tensors: list[tf.Tensor] = []
        self._positions: dict[int, int] = {}
        self._read_for: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}  # the second keeps the id taken
        self._sums_of: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}
        self._apart: dict[int, tf.Tensor] = {}
        self.scaled: set[int] = set()
        self._scaled = False
        self.loss_scale = self.gradient(loss_scale)
        self._scaled = loss_scale is not None

    def holds(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor is read already."""
        return id(tensor) in self._positions

    def value(self, tensor: tf.Tensor | None) -> TensorRead | None:
        """Read a tensor as it is; None for None."""
        return None if tensor is None else self._at(tensor)

    def _at(self, tensor: tf.Tensor) -> TensorRead:
        if id(tensor) not in self._positions:
            self._positions[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return TensorRead(self._positions[id(tensor)])

    def gradient(self, tensor: tf.Tensor | None) -> TensorRead | None:
        """Like `value`, of what the scaled loss gave.

        Of a constant's product (a Dropout's, say) the other factor is read: TensorFlow moves the
        constant on to the next product, unless somebody reads this one.
        """
        return None if tensor is None else self._gradient(tensor)

    def _gradient(self, tensor: tf.Tensor) -> TensorRead:
        varying, factor = without_constants(tensor)
        if id(varying) not in self._read_for:
            self._read_for[id(varying)] = tf.convert_to_tensor(self._added_apart(varying)), varying
        read = self._at(self._read_for[id(varying)][0])
        if self._scaled:
            self.scaled.add(read.position)
        return dataclasses.replace(read, factor=factor, scaled=self._scaled)

    def weight_gradient(self, tensor: tf.Tensor | tf.IndexedSlices | None) -> GradientRead | None:
        """Like `gradient`; of a product only the factors are read, of a table's only its rows.

        TensorFlow takes factors of products in another order (the learning rate first, say), unless
        somebody reads the product.
        """
        if tensor is None:
            return None
        if isinstance(tensor, tf.IndexedSlices):
            return RowsRead(self._gradient(tensor.values), self._at(tensor.indices))
        first, *others = factors_of(tensor)
        if not others:
            return self._gradient(first)
        return ProductRead((self._gradient(first), *map(self._at, others)))

    def sums(self, gradient: tf.Tensor) -> TensorRead | SumsRead:
        """Sums over a gradient; they wait if the whole of it is held anyway."""
        varying, factor = without_constants(gradient)
        if id(varying) in self._read_for:
            return self._gradient(gradient)
        if id(varying) not in self._sums_of:
            self._sums_of[id(varying)] = _four_sums(self._added_apart(varying)), varying
        return SumsRead(self._at(self._sums_of[id(varying)][0]), factor, self._scaled)

    def _added_apart(self, tensor: tf.Tensor) -> tf.Tensor:
        """A tensor; of a sum that is a term of another, the same added up once more.

        TensorFlow adds the terms of both in one operation, in another order, unless somebody reads the
        inner sum. Stacked, they are not taken for that sum.
        """
        if not is_inner_sum(tensor):
            return tensor
        if id(tensor) not in self._apart:
            terms = [without_constants(term) for term in terms_of(tensor)]
            factors = tf.constant([factor for _, factor in terms], tensor.dtype)
            self._apart[id(tensor)] = tf.tensordot(factors, tf.stack([term for term, _ in terms]), 1)
        return self._apart[id(tensor)]


def _four_sums(tensor: tf.Tensor) -> tf.Tensor:
    """Square sum, zeros, non-finite values and size of a tensor, as one vector.

    In float64, which has the squares of all that float32 has, and counts more than 2²⁴.
    """
    values = tf.cast(tf.convert_to_tensor(tensor), tf.float64)
    return tf.stack(
        [
            tf.reduce_sum(tf.square(values)),
            tf.reduce_sum(tf.cast(values == 0, tf.float64)),
            tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.float64)),
            tf.cast(tf.size(values), tf.float64),
        ]
    )
