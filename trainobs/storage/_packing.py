"""Plain values of records, and records of plain values.

| in a record | as JSON                                      |
|-------------|----------------------------------------------|
| array       | ``{"array": "7", "crc32": 2212294583}``      |
| dataclass   | ``{"kind": "Scalars", "fields": {…}}``       |
| op          | ``{"kind": "LinearOp", "config": {…}}``      |
| dict        | ``{"entries": {…}}``                         |
| tuple       | a list                                       |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from trainobs.linear_ops import LinearOp, op_from_config
from trainobs.storage._archive import checksum
from trainobs.storage._kinds import Hint, fields_of, fits, kinds

#: Given the name of an array and its checksum, the array.
Fetch = Callable[[str, int], np.ndarray]


class Packing:
    """Makes plain values of records; each array is put aside once, however many fields hold it.

    Attributes
    ----------
    arrays : dict of str to array
        By number.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._packed: dict[int, object] = {}

    def of(self, value: object) -> object:
        """A value as JSON can have it."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, LinearOp):
            return {"kind": "LinearOp", "config": value.to_config()}
        if isinstance(value, dict):
            return {"entries": {name: self.of(_as_hinted(item, np.ndarray)) for name, item in value.items()}}
        if isinstance(value, tuple):
            return [self.of(item) for item in value]
        if isinstance(value, np.generic):
            return value.item()
        return self._object(value, type(value)) if type(value) in kinds().values() else value

    def _object(self, value: object, kind: type) -> object:
        fields = {name: (getattr(value, name), hint) for name, hint in fields_of(kind).items()}
        packed = {name: self.of(_as_hinted(field, hint)) for name, (field, hint) in fields.items()}
        return {"kind": kind.__name__, "fields": packed}

    def _array(self, array: np.ndarray) -> object:
        if id(array) not in self._packed:
            name, whole = str(len(self.arrays)), np.asarray(array, order="C")
            self.arrays[name] = whole
            self._packed[id(array)] = {"array": name, "crc32": checksum(whole)}
        return self._packed[id(array)]


def _as_hinted(value: object, hint: Hint) -> object:
    """A scalar of NumPy as an array, where an array is asked for: it is a sum over everything."""
    is_array = isinstance(value, np.generic) and fits(np.asarray(value), hint)
    return np.asarray(value) if is_array else value


def unpacked(value: object, hint: Hint, fetch: Fetch, where: str = "recording") -> object:
    """What `Packing.of` made plain, if it is what an annotation says.

    Raises
    ------
    ValueError
        With the place of what is missing, too much, or of another kind.
    """
    found = _unpacked(value, fetch, where)
    if not fits(found, hint):
        received = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else repr(found)[:80]
        raise ValueError(f"{where} must be {_named(hint)}, and is {received}")
    return found


def _unpacked(value: object, fetch: Fetch, where: str) -> object:
    if isinstance(value, list):
        return tuple(_unpacked(item, fetch, f"{where}[{at}]") for at, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "crc32"}:
        return fetch(str(value["array"]), value["crc32"])
    if value.keys() == {"entries"}:
        return {name: _unpacked(item, fetch, f"{where}[{name!r}]") for name, item in value["entries"].items()}
    if value.keys() == {"kind", "config"}:
        return op_from_config(value["config"])
    return _made(value, fetch, where)


def _made(value: dict[str, object], fetch: Fetch, where: str) -> object:
    """A dataclass, with exactly its fields, each of its own kind."""
    kind, fields = kinds().get(str(value.get("kind"))), value.get("fields")
    if kind is None or not isinstance(fields, dict):
        raise ValueError(f"{where} is of no kind that is known: {str(value)[:80]}")
    hints = fields_of(kind)
    if fields.keys() != hints.keys():
        missing, more = sorted(hints.keys() - fields.keys()), sorted(fields.keys() - hints.keys())
        raise ValueError(f"{where} lacks the fields {missing} of a {kind.__name__}, and has {more} besides")
    values = {name: unpacked(fields[name], hint, fetch, f"{where}.{name}") for name, hint in hints.items()}
    return kind(**values) if dataclasses.is_dataclass(kind) else None


def _named(hint: Hint) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
