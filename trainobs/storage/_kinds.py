"""What can be stored: all that a step's record or its statistics are made of, read from annotations."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping

from trainobs.linear_ops import LinearOp
from trainobs.records import StepRecord
from trainobs.statistics import Statistics

#: The annotation of a field, as `typing` has it.
Hint = object


@functools.cache
def kinds() -> Mapping[str, type]:
    """The dataclasses that may stand in a file, by name."""
    found: dict[str, type] = {}
    todo: list[type] = [StepRecord, Statistics]
    while todo:
        kind = todo.pop()
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            todo += [part for hint in fields_of(kind).values() for part in _dataclasses_in(hint)]
    return found


@functools.cache
def fields_of(kind: type) -> Mapping[str, Hint]:
    """The fields of a dataclass, each with what it may hold."""
    hints = typing.get_type_hints(kind, localns={"LinearOp": LinearOp})
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _dataclasses_in(hint: Hint) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from _dataclasses_in(part)


def fits(value: object, hint: Hint) -> bool:
    """Whether a value is what an annotation says."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and _items_fit(value, parts)
    if origin is dict:
        return isinstance(value, dict) and _items_fit(tuple(value.values()), (parts[1], Ellipsis))
    if hint is None or hint is type(None):
        return value is None
    return isinstance(hint, type) and _is_a(value, hint)


def _items_fit(value: tuple[object, ...], parts: tuple[Hint, ...]) -> bool:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return all(fits(item, parts[0]) for item in value)
    return len(value) == len(parts) and all(map(fits, value, parts))


def _is_a(value: object, kind: type) -> bool:
    """Whether a value is of a type; a whole number is a real one, and a truth value is neither."""
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)
