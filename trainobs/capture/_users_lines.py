"""Which lines of code are the user's: neither TensorFlow's, nor Keras', nor ours."""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig

import keras
import tensorflow as tf

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOREIGN = (os.path.dirname(tf.__file__), os.path.dirname(keras.__file__), _OURS)
_STANDARD = sysconfig.get_path("stdlib")
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))
#: What calls a model's own train step: what led there, the line of `fit`, did not ask for any operation.
_TAPPED_STEP = os.path.join(_OURS, "capture", "step", "_tapped_step.py")

#: A file and a line; "" and 0 for none.
Line = tuple[str, int]


@functools.lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Whether a file is the user's."""
    if file.startswith("<") and not file.startswith("<ipython"):
        return False
    if file.startswith(_STANDARD) and not file.startswith(_INSTALLED):
        return False
    if os.path.basename(file).startswith("__autograph_generated_file"):
        return False
    return not file.startswith(tuple(folder + os.sep for folder in _FOREIGN))


def line_of(operation: tf.Operation) -> Line:
    """The innermost line of the user's that asked for an operation of a graph, inside of the step."""
    for frame in reversed(operation.traceback):
        if frame.filename == _TAPPED_STEP:
            break
        if is_users(frame.filename):
            return frame.filename, frame.lineno
    return "", 0


def code_at(line: Line) -> str:
    """The code of a line; "" where it can't be read."""
    return linecache.getline(*line).strip() if line[0] else ""
