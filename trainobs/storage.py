"""Records on disk: one safetensors file, no pickle, readable without the model or TensorFlow.

Arrays are tensors named by their number, each stored once however many fields hold it; everything
else is a JSON text in the file's header, in which ``{"array": "7"}`` stands for tensor "7".
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from trainobs.activations import Activation
from trainobs.errors import InvalidArgument
from trainobs.records import (
    NodeRecord,
    OutputRecord,
    Place,
    Scalars,
    SiteRecord,
    StepRecord,
    WeightRecord,
)

FORMAT = "trainobs-recording-3"
_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Activation, NodeRecord, OutputRecord, Place, Scalars, SiteRecord, StepRecord, WeightRecord)
}


def save_records(records: tuple[object, ...], path: str | os.PathLike[str]) -> None:
    """Write records to one file; a crash on the way leaves an older file as it was.

    Parameters
    ----------
    records : tuple of StepRecord
        Records of tensors (``keep="tensors"``).
    path : str or path-like
        The file; an existing one is replaced.
    """
    if not all(isinstance(record, StepRecord) for record in records):
        raise InvalidArgument(
            'Only records with keep="tensors" can be saved. This recording has only statistics.'
        )
    packing = _Packing()
    text = json.dumps([packing.of(record) for record in records])
    partial = Path(f"{os.fspath(path)}.partial")
    save_file(packing.arrays, partial, metadata={"format": FORMAT, "records": text})
    os.replace(partial, path)


class _Packing:
    """Makes plain values of records; each array is put aside once."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}

    def of(self, value: object) -> object:
        """A value as JSON can have it."""
        from trainobs.linear_ops import LinearOp  # here, as it loads TensorFlow

        if isinstance(value, np.ndarray):
            return {"array": self._name(value)}
        if isinstance(value, LinearOp):
            return {"kind": "LinearOp", "config": value.to_config()}
        if dataclasses.is_dataclass(value) and type(value) in _KINDS.values():
            fields = dataclasses.fields(value)
            packed = {field.name: self.of(getattr(value, field.name)) for field in fields}
            return {"kind": type(value).__name__, "fields": packed}
        return [self.of(item) for item in value] if isinstance(value, tuple) else value

    def _name(self, array: np.ndarray) -> str:
        if id(array) not in self._names:
            self._names[id(array)] = str(len(self.arrays))
            self.arrays[self._names[id(array)]] = np.ascontiguousarray(array)
        return self._names[id(array)]


def load_records(path: str | os.PathLike[str]) -> tuple[StepRecord, ...]:
    """Read records that `save_records` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    tuple of StepRecord

    Raises
    ------
    InvalidArgument
        If the file is no recording.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise InvalidArgument(
                f"{os.fspath(path)!r} is no recording of trainobs. Expected format {FORMAT!r}, "
                f"received {metadata.get('format')!r}."
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    records = (_unpack(item, arrays) for item in json.loads(metadata["records"]))
    return tuple(record for record in records if isinstance(record, StepRecord))


def _unpack(value: object, arrays: dict[str, np.ndarray]) -> object:
    if isinstance(value, list):
        return tuple(_unpack(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if value["kind"] == "LinearOp":
        from trainobs.linear_ops import op_from_config  # here, as it loads TensorFlow

        return op_from_config(value["config"])
    return _KINDS[value["kind"]](**{name: _unpack(item, arrays) for name, item in value["fields"].items()})
