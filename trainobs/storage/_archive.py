"""The file: arrays as safetensors has them, and a JSON text that refers to them, with checksums.

| in the file | holds                                                                            |
|-------------|----------------------------------------------------------------------------------|
| metadata    | `format`, and the CRC-32 of the text                                             |
| "contents"  | the text, as bytes: a tensor, for a header may not be longer than 100 MB         |
| "0", "1", … | the arrays; the text has the CRC-32 of each, over its type, shape and bytes      |

Safetensors itself refuses a file whose header promises more than the file holds, before memory is taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trainobs.errors import InvalidArgument, UnreadableFile

FORMAT = "trainobs-recording-4"
_CONTENTS = "contents"


def checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's type, shape and bytes."""
    start = zlib.crc32(f"{array.dtype.str} {array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, start)


def write_archive(path: Path, contents: object, arrays: dict[str, np.ndarray]) -> None:
    """Write plain values, and the arrays that they refer to.

    Raises
    ------
    InvalidArgument
        If an array has a type that has no place in the file, such as strings.
    """
    text = np.frombuffer(json.dumps(contents).encode(), np.uint8)
    metadata = {"format": FORMAT, "crc32": str(checksum(text))}
    try:
        save_file({**arrays, _CONTENTS: text}, path, metadata=metadata)
    except (KeyError, SafetensorError) as error:
        types = sorted({array.dtype.name for array in arrays.values()})
        raise InvalidArgument(
            f"The recording can't be saved: its arrays have the types {types}, of which one has no place in "
            f"a safetensors file ({error})."
        ) from error


class Archive:
    """A file that is open for reading.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    contents : object
        The plain values.

    Raises
    ------
    UnreadableFile
        If it is not one of ours, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays: dict[str, np.ndarray] = {}
        self._opened = contextlib.ExitStack()
        if not path.exists():
            raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
        if not path.is_file():
            raise UnreadableFile(self.told("it is a folder or a device"))
        if not path.stat().st_size:
            raise UnreadableFile(self.told("it is empty"))

    def __enter__(self) -> Archive:
        try:
            self._file = self._opened.enter_context(safe_open(self._path, framework="numpy"))
            self._check_format(self._file.metadata() or {})
            self.contents: object = json.loads(self._text().tobytes())
        except BaseException as error:
            self._opened.close()
            if isinstance(error, (SafetensorError, ValueError, RecursionError)) and not isinstance(
                error, UnreadableFile
            ):
                raise UnreadableFile(self.told(f"it is no whole safetensors file ({error})")) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def told(self, what: str) -> str:
        """A message: which file, and what is wrong with it."""
        return (
            f"{os.fspath(self._path)!r} can't be read as a recording: {what}. Pass a file that "
            f"`Recording.save` wrote."
        )

    def array(self, name: str, expected: int) -> np.ndarray:
        """One of the arrays, if it has this checksum."""
        if name not in self._arrays:
            self._arrays[name] = self._tensor(name)
        if checksum(self._arrays[name]) != expected:
            raise UnreadableFile(self.told(f"array {name!r} is damaged, its checksum is another one"))
        return self._arrays[name]

    def _tensor(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._file.get_tensor(name))
        except (SafetensorError, TypeError) as error:
            raise UnreadableFile(self.told(f"array {name!r} can't be read ({error})")) from error

    def _check_format(self, metadata: dict[str, str]) -> None:
        found = metadata.get("format")
        if found != FORMAT:
            raise UnreadableFile(
                self.told(f"it is none of this version. Expected the format {FORMAT!r}, received {found!r}")
            )
        self._crc = metadata.get("crc32", "")

    def _text(self) -> np.ndarray:
        text = self._tensor(_CONTENTS)
        if str(checksum(text)) != self._crc:
            raise UnreadableFile(self.told("its text is damaged, the checksum is another one"))
        return text
