"""Records on disk: one safetensors file, no pickle, readable without the model or TensorFlow.

Arrays are tensors named by their number, each stored once however many fields hold it; everything
else is a JSON text in the file's header, in which ``{"array": "7"}`` stands for tensor "7".
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from trainobs.activations import Activation
from trainobs.errors import InvalidArgument
from trainobs.records import (
    NodeRecord,
    OutputRecord,
    Scalars,
    SiteRecord,
    StepRecord,
    WeightRecord,
)

FORMAT = "trainobs-recording-3"
_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Activation, NodeRecord, OutputRecord, Scalars, SiteRecord, StepRecord, WeightRecord)
}


def save_records(records: tuple[Any, ...], path: str | os.PathLike[str]) -> None:
    """Write records to one file; a crash on the way leaves an older file as it was.

    Parameters
    ----------
    records : tuple of StepRecord
        Records of tensors (``keep="tensors"``).
    path : str or path-like
        The file; an existing one is replaced.
    """
    arrays: dict[str, np.ndarray] = {}
    names: dict[int, str] = {}

    def pack(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if id(value) not in names:
                names[id(value)] = str(len(arrays))
                arrays[names[id(value)]] = np.ascontiguousarray(value)
            return {"array": names[id(value)]}
        if hasattr(value, "to_config"):
            return {"kind": "LinearOp", "config": value.to_config()}
        if type(value).__name__ in _KINDS:
            fields = {field.name: pack(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {"kind": type(value).__name__, "fields": fields}
        return [pack(item) for item in value] if isinstance(value, tuple) else value

    if not all(isinstance(record, StepRecord) for record in records):
        raise InvalidArgument(
            'Only records with keep="tensors" can be saved. This recording holds statistics.'
        )
    text = json.dumps([pack(record) for record in records])
    partial = Path(f"{os.fspath(path)}.partial")
    save_file(arrays, partial, metadata={"format": FORMAT, "records": text})
    os.replace(partial, path)


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
    return tuple(_unpack(item, arrays) for item in json.loads(metadata["records"]))


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if value["kind"] == "LinearOp":
        from trainobs.linear_ops import op_from_config

        return op_from_config(value["config"])
    return _KINDS[value["kind"]](**{name: _unpack(item, arrays) for name, item in value["fields"].items()})
