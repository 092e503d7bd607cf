"""Save the records of steps, and load them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from trainobs.errors import UnreadableFile
from trainobs.records import StepRecord
from trainobs.statistics import Statistics
from trainobs.storage._agreement import check_agreement
from trainobs.storage._archive import Archive, write_archive
from trainobs.storage._packing import Packing, unpacked
from trainobs.storage._replacing import replaced_at_once

Step = StepRecord | Statistics


def save_records(records: tuple[Step, ...], path: str | os.PathLike[str]) -> None:
    """Write the records or statistics of steps to one file; a crash leaves an older file as it was.

    Parameters
    ----------
    records : tuple of StepRecord or Statistics
    path : str or path-like
        The file; an existing one is replaced.

    Raises
    ------
    InvalidArgument
        If the path is that of a folder or a device.
    """
    packing = Packing()
    contents = packing.of(records)
    with replaced_at_once(Path(path)) as partial:
        write_archive(partial, contents, packing.arrays)


def load_records(path: str | os.PathLike[str]) -> tuple[Step, ...]:
    """Read what `save_records` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    tuple of StepRecord or Statistics

    Raises
    ------
    UnreadableFile
        If the file is none of ours, or is damaged; the message says where.
    FileNotFoundError
        If there is no such file.
    """
    with Archive(Path(path)) as archive, _faults_of(archive):
        records = unpacked(archive.contents, tuple[Step, ...], archive.array)
        assert isinstance(records, tuple)
        for record in records:
            check_agreement(record)
        return records


@contextlib.contextmanager
def _faults_of(archive: Archive) -> Iterator[None]:
    """Tell whatever goes wrong with a file's contents as the file's fault."""
    try:
        yield
    except UnreadableFile:
        raise
    except (TypeError, ValueError, LookupError, RecursionError, AttributeError) as error:
        raise UnreadableFile(archive.told(f"what it holds is no recording: {error}")) from error
