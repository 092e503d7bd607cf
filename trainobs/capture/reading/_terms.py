"""What a tensor of a graph was made of: the products and sums that TensorFlow may take apart.

TensorFlow's graph optimizer fuses operations (a preactivation and tanh, x * sigmoid(x)), moves the
numbers of a product on to the next one and adds up sums of sums at once, but leaves alone what
somebody else reads.
"""

from __future__ import annotations

import tensorflow as tf

_SUMS = ("AddN", "AddV2")


def parts_read(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What of a gradient is read: itself, unless it is taken apart."""
    varying, _ = without_constants(tensor)
    return [without_constants(term)[0] for term in terms_of(varying)] if is_inner_sum(varying) else [varying]


def length_of(tensor: tf.Tensor) -> tf.Tensor:
    """Size of the first axis, 1 if there is none; of what is taken apart, that of its parts."""
    tensor = parts_read(tensor)[0]
    return tf.shape(tensor)[0] if tensor.shape.rank else tf.constant(1)


def factors_of(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What a tensor is the product of: itself, unless it was made by multiplication."""
    if not tf.is_symbolic_tensor(tensor) or tensor.op.type != "Mul":
        return [tensor]
    sole = [len(factor.consumers()) == 1 for factor in tensor.op.inputs]
    return [
        part
        for factor, alone in zip(tensor.op.inputs, sole, strict=True)
        for part in (factors_of(factor) if alone else [factor])
    ]


def is_sum(tensor: tf.Tensor) -> bool:
    """Whether a tensor of a graph was made by addition."""
    return tf.is_symbolic_tensor(tensor) and tensor.op.type in _SUMS


def is_inner_sum(tensor: tf.Tensor) -> bool:
    """Whether a tensor is a sum, and read by nothing but another sum that it is a term of."""
    readers = tensor.consumers() if is_sum(tensor) else []
    return len(readers) == 1 and readers[0].type in _SUMS


def terms_of(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What a sum is the sum of, in the end."""
    parts = [(part, is_inner_sum(part)) for part in tensor.op.inputs]
    return [term for part, inner in parts for term in (terms_of(part) if inner else [part])]


def without_constants(tensor: tf.Tensor) -> tuple[tf.Tensor, float]:
    """A tensor without the numbers it was multiplied with or divided by, and the factor they make."""
    factor = 1.0
    while (parts := _constant_product(tensor)) is not None:
        tensor, number = parts
        factor *= number
    return tensor, factor


def _constant_product(tensor: tf.Tensor) -> tuple[tf.Tensor, float] | None:
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


def _number(tensor: tf.Tensor) -> float | None:
    """The value of a constant of no axes."""
    constant = tensor.op.type == "Const" and tensor.shape.rank == 0
    return float(tf.get_static_value(tensor)) if constant else None
