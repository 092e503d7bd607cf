"""Gradients that a step must leave unread while it trains, for reading them would change the training.

Training computes only what somebody reads, and computes it the faster the fewer read it. So these
are left alone:

* gradients that nothing depends on that the step asked for, such as those behind the first weight
  that trains: read, they would be computed, and what lies on the way could not be fused any more;
* a product inside of another with a factor that is broadcast: TensorFlow multiplies the small factors
  first, unless somebody reads what lies between;
* all but one of the terms of a sum of three or more. TensorFlow's ``AddN`` adds in the memory of the
  first term that nobody else holds, and begins with that one: readers change the order, and so the
  rounding. As a + b is b + a, none does if it is the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from trainobs.capture.reading._terms import is_inner_sum, is_sum, parts_read, terms_of

#: What is equal for tensors that TensorFlow computes once.
Same = str | tuple[str, ...]
#: Operations whose output may lie in the memory of their (first) input.
_SHARING = (
    "Identity",
    "IdentityN",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "StopGradient",
    "PreventGradient",
    "Sum",
)


def unneeded(gradients: Sequence[tf.Tensor], requested: Iterable[tf.Tensor]) -> list[bool]:
    """Of each gradient whether nothing that was requested depends on it; never so in eager code."""
    symbolic = [t for t in tf.nest.flatten(requested, expand_composites=True) if tf.is_symbolic_tensor(t)]
    needed = ancestors(symbolic)
    return [bool(symbolic) and tf.is_symbolic_tensor(t) and t.op not in needed for t in gradients]


def reordering(gradients: Sequence[tf.Tensor]) -> list[bool]:
    """Of each gradient whether reading it may change the order of a product or sum it is a part of."""
    parts = [parts_read(t) if tf.is_symbolic_tensor(t) else [] for t in gradients]
    held = [[_in_memory(part) for part in of_one] for of_one in parts]
    read = {_same(memory) for memories in held for memory in memories}
    sums = {id(s.op): s for memories in held for memory in memories for s in _sums_of(memory)}
    spared = {memory for found in sums.values() for memory in _one_too_many(found, read)}
    return [
        any(map(_is_inner_product, of_one)) or any(_same(memory) in spared for memory in memories)
        for of_one, memories in zip(parts, held, strict=True)
    ]


def ancestors(tensors: list[tf.Tensor]) -> set[tf.Operation]:
    """All operations that tensors of a graph depend on."""
    found: set[tf.Operation] = set()
    todo = [tensor.op for tensor in tensors]
    while todo:
        operation = todo.pop()
        if operation not in found:
            found.add(operation)
            todo.extend(tensor.op for tensor in operation.inputs)
    return found


def _in_memory(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor in whose memory another one lies."""
    while tensor.op.type in _SHARING:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def _same(tensor: tf.Tensor) -> Same:
    """What is equal for tensors that TensorFlow computes once: those made of the same ones alike."""
    inputs = [part.name for part in tensor.op.inputs]
    return (tensor.op.type, *sorted(inputs)) if tensor.op.type == "Mul" else tensor.name


def _sums_of(tensor: tf.Tensor) -> list[tf.Tensor]:
    """The whole sums that a tensor, or what lies in its memory, is a term of."""
    found, todo = [], [tensor]
    while todo:
        current = todo.pop()
        for reader in current.consumers():
            output = reader.outputs[0] if reader.outputs else None
            if reader.type == "IdentityN":
                todo += [
                    out for out, own in zip(reader.outputs, reader.inputs, strict=True) if own is current
                ]
            elif reader.type in _SHARING or (output is not None and is_inner_sum(output)):
                todo.append(output)
            elif output is not None and is_sum(output):
                found.append(output)
    return found


def _one_too_many(whole: tf.Tensor, read: set[Same]) -> list[Same]:
    """The terms of a sum that must not be read for the order to stay."""
    terms = [_same(_in_memory(term)) for term in terms_of(whole)]
    twice = any(terms.count(term) > 1 for term in terms)  # held by one another
    return [term for term in terms if term in read][0 if twice else 1 :] if len(terms) > 2 else []


def _is_inner_product(tensor: tf.Tensor) -> bool:
    """Whether a product is read by nothing but another one, and some factor is smaller than the others."""
    readers = tensor.consumers()
    if tensor.op.type != "Mul" or len(readers) != 1 or readers[0].type != "Mul":
        return False
    shapes = {tuple(factor.shape) for factor in (*tensor.op.inputs, *readers[0].inputs)}
    return len(shapes) > 1
