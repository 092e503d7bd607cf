"""A file that is replaced at once: whoever reads it finds the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from trainobs.errors import InvalidArgument


@contextlib.contextmanager
def replaced_at_once(path: Path) -> Iterator[Path]:
    """Give the path of a partial file to write, which takes the place of `path` when all went well.

    What writers that are no longer alive have left beside it is removed.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Path
        In the same folder, so that renaming is one act of the file system.

    Raises
    ------
    InvalidArgument
        If the path is that of a folder, a device or another thing that is no regular file.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise InvalidArgument(
            f"{os.fspath(path)!r} is a folder or a device, and would not stay one. Pass the path of a "
            f"file, such as 'run.safetensors'."
        )
    _remove_litter(path)
    partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the file on the disk before its name is: after a loss of power it is whole, or the old one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _remove_litter(path: Path) -> None:
    prefix = f"{path.name}.{socket.gethostname()}."
    for found in path.parent.glob("*.partial"):
        number = found.name.removeprefix(prefix).removesuffix(".partial")
        if found.name.startswith(prefix) and number.isdigit() and not _is_alive(int(number)):
            found.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs; where that can't be asked without harm, it is taken to."""
    if os.name != "posix":  # on Windows the question would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
