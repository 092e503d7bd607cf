"""What similarity is asked of: features of one shape, a kind, an eps, a temperature."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

import keras
from keras import ops

from trainobs.errors import InvalidArgument

if TYPE_CHECKING:
    import tensorflow as tf

KINDS = ("einsum", "norm", "cosine", "distance")


def checked_features(owner: str, features: object) -> tuple[list[tf.Tensor], str]:
    """The sets in the dtype to compute in, and the dtype of the result."""
    if not isinstance(features, (list, tuple)) or len(features) < 2:
        got = f"{len(features)}" if isinstance(features, (list, tuple)) else type(features).__name__
        raise InvalidArgument(
            f"{owner}: `features` must be a list or tuple of at least two tensors (B, d). Received: {got}. "
            "Pass one tensor per set."
        )
    sets = [ops.convert_to_tensor(rows) for rows in features]
    shapes = [tuple(rows.shape) for rows in sets]
    dtypes = [keras.backend.standardize_dtype(rows.dtype) for rows in sets]
    known = [{shape[axis] for shape in shapes if len(shape) == 2} - {None} for axis in (0, 1)]
    two_axes = all(len(shape) == 2 for shape in shapes)
    if not (two_axes and len(known[0]) <= 1 and len(known[1]) == 1 and all("float" in d for d in dtypes)):
        raise InvalidArgument(
            f"{owner}: all features must be floats of one shape (B, d), d known. "
            f"Received: shapes {shapes}, dtypes {dtypes}. "
            "Flatten each sample, cast integers, and project all sets to one width."
        )
    dtype = keras.backend.result_type(*dtypes)
    return [ops.cast(rows, compute_dtype(dtype)) for rows in sets], dtype


def checked_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidArgument(f"There is no kind of similarity {kind!r}. Choose one of {', '.join(KINDS)}.")


def checked_eps(eps: float | None, dtype: str) -> float:
    """The default of the dtype, or a positive, finite number."""
    if eps is None:
        return 1e-3 if dtype == "float16" else 1e-6
    if not _positive(eps):
        raise InvalidArgument(
            f"similarity: `eps` must be a positive, finite number. Received: eps={eps!r}. "
            "The default is 1e-6, for float16 1e-3."
        )
    return float(eps)


def checked_temperature(owner: str, temperature: object) -> None:
    """Numbers are checked, tensors are not: their value may not be known yet."""
    if isinstance(temperature, (numbers.Number, str)) and not _positive(temperature):
        raise InvalidArgument(
            f"{owner}: `temperature` must be a positive, finite number, or a tensor. "
            f"Received: temperature={temperature!r}. The default is 0.07."
        )


def compute_dtype(dtype: str) -> str:
    """At least float32."""
    return str(keras.backend.result_type(dtype, "float32"))


def _positive(value: object) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    return math.isfinite(value) and float(value) > 0
