"""Which line of the user's code asked for an operation."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sys
import sysconfig
from types import FrameType

import keras
import tensorflow as tf

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FOREIGN = (os.path.dirname(tf.__file__), os.path.dirname(keras.__file__), _OURS)
_STANDARD = sysconfig.get_path("stdlib")
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))

#: A file and a line; "" and 0 for none.
Line = tuple[str, int]


def users_line(outermost: FrameType) -> Line:
    """The innermost line of the user's that led here, inside of the call of a function of ours.

    Parameters
    ----------
    outermost : frame
        That call: what led to it does not count.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not outermost:
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0


@functools.lru_cache(maxsize=4096)
def _is_users(file: str) -> bool:
    if file.startswith("<") and not file.startswith("<ipython"):
        return False
    if file.startswith(_STANDARD) and not file.startswith(_INSTALLED):
        return False
    return not file.startswith(tuple(folder + os.sep for folder in _FOREIGN))


def code_at(line: Line) -> str:
    """The code of a line; "" where it can't be read."""
    return linecache.getline(*line).strip() if line[0] else ""


def this_call() -> FrameType:
    """The frame of the function that calls this one."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back
