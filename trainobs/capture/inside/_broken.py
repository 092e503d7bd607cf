"""Which operation made NaN or infinite values."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainobs.capture.inside._watching import Operation, is_floating
from trainobs.capture.inside._ways import Ways, floating, is_broken, is_nan, values_of

#: Operations whose derivative is infinite somewhere: where several read one tensor, they are looked at first.
_STEEP = frozenset(
    {"Sqrt", "Rsqrt", "Log", "Log1p", "Pow", "RealDiv", "Div", "Reciprocal", "Inv", "DivNoNan", "Xlogy"}
    | {"Acos", "Asin", "Acosh", "Atanh", "Atan2", "Xdivy", "Digamma", "Lgamma"}
)
SOFTMAX = ("Softmax", "LogSoftmax")


def made_going_forward(ways: Ways, target: object) -> Operation | None:
    """What made the loss NaN or infinite; None if it is finite.

    A softmax may read -inf, as masks make them: only where nothing else is left in a row does it make NaN.
    """
    if not is_floating(target) or not is_broken(target):
        return None
    of_nan = ways.origin(target, is_nan)
    if of_nan is not None and of_nan.type in SOFTMAX and not any(map(_is_positive_infinite, of_nan.inputs)):
        return of_nan
    return ways.origin(target, is_broken)


def made_going_back(ways: Ways) -> Operation | None:
    """The last operation that sent back NaN or infinite values, though it got a finite gradient."""
    for operation in reversed(ways.operations):
        if _gets_finite(ways, operation):
            for tensor in floating(operation.inputs):
                if is_broken(ways.gradient(tensor)) and not _is_inherited(ways, tensor):
                    return _suspect(ways, tensor)
    return None


def _is_inherited(ways: Ways, tensor: tf.Tensor) -> bool:
    """Whether something that reads a tensor got a broken gradient itself."""
    arriving = (ways.gradient(made) for reader in ways.readers(tensor) for made in reader.outputs)
    return any(map(is_broken, arriving))


def _suspect(ways: Ways, tensor: tf.Tensor) -> Operation:
    """Of several that read a tensor and got a finite gradient: one whose derivative can be infinite."""
    suspects = [operation for operation in ways.readers(tensor) if _gets_finite(ways, operation)]
    return max(suspects, key=lambda operation: (operation.type in _STEEP, operation.number))


def _is_positive_infinite(tensor: tf.Tensor) -> bool:
    return is_floating(tensor) and bool(np.any(np.isposinf(values_of(tensor))))


def _gets_finite(ways: Ways, operation: Operation) -> bool:
    arriving = [g for tensor in operation.outputs if (g := ways.gradient(tensor)) is not None]
    return bool(arriving) and not any(map(is_broken, arriving))
