"""Stand in for methods and functions for the length of a `with` block."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_ABSENT = object()


@contextlib.contextmanager
def replaced(target: object, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """Let ``target.name`` be `wrapper` around what it was.

    An instance's dictionary is written directly: Keras' attribute tracking sees nothing.
    """
    original = getattr(target, name)
    before = vars(target).get(name, _ABSENT)

    @functools.wraps(original)
    def wrapped(
        *args: object, **kwargs: object
    ) -> object:  # a function: a class binds it like its own method
        return wrapper(original, *args, **kwargs)

    _set(target, name, wrapped)
    try:
        yield
    finally:
        if before is _ABSENT:
            del vars(target)[name]
        else:
            _set(target, name, before)


def _set(target: object, name: str, value: object) -> None:
    if isinstance(target, type):
        setattr(target, name, value)
    else:
        vars(target)[name] = value


def current_graph() -> tf.Graph | None:
    """The graph that is being traced, None when executing eagerly."""
    return tf.compat.v1.get_default_graph() if tf.inside_function() else None


def in_this_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """A user's `tf.function`, to be a part of what is traced: its own graph would hand nothing out."""
    python = getattr(function, "python_function", None)
    if python is None:
        return function
    try:
        return tf.autograph.to_graph(python) if tf.inside_function() else python
    except Exception:  # without its source, `tf.function` takes it as it is too
        return python
