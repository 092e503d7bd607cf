"""Which line of the user's code asked for an operation that runs without a graph."""

from __future__ import annotations

import inspect
import sys
from types import FrameType

from trainobs.capture._users_lines import Line, is_users


def users_line(outermost: FrameType) -> Line:
    """The innermost line of the user's that led here, inside of the call of a function of ours.

    Parameters
    ----------
    outermost : frame
        That call: what led to it does not count.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not outermost:
        if is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0


def this_call() -> FrameType:
    """The frame of the function that calls this one."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back
