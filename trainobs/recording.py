"""The recorded steps of a training, in order; in memory, or in one file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainobs.errors import NotRecorded
from trainobs.storage import load_records, save_records

if TYPE_CHECKING:
    from trainobs.records import StepRecord
    from trainobs.statistics import Statistics


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """The recorded steps of one training, oldest first.

    Attributes
    ----------
    records : tuple
        A `StepRecord` per step, or its `Statistics` where only those were kept.

    Examples
    --------
    >>> Recording(()).steps
    ()
    """

    records: tuple[StepRecord | Statistics, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of the recorded steps."""
        return tuple(record.step for record in self.records if record.step is not None)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[StepRecord | Statistics]:
        return iter(self.records)

    def at(self, step: int | None = None) -> StepRecord | Statistics:
        """The record of a step, by default the last one.

        Raises
        ------
        NotRecorded
            If the recording is empty or has no such step.
        """
        if not self.records:
            raise NotRecorded(
                "The recording is empty: no step was recorded. Pass the Recorder to `fit` as a "
                "callback and let training reach a step that is due (`every=` or `at=`). A step that takes "
                "more than the Recorder's `max_bytes` is not kept."
            )
        if step is None:
            return self.records[-1]
        for record in self.records:
            if record.step == step:
                return record
        raise NotRecorded(f"Step {step} was not recorded. Recorded steps: {_listing(self.steps)}.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to one safetensors file (see `storage`).

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced, at once.
        """
        save_records(self.records, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording back; neither the model nor its code is needed to explain it.

        Parameters
        ----------
        path : str or path-like
            A file that `save` wrote.

        Returns
        -------
        Recording

        Raises
        ------
        UnreadableFile
            If the file is none that `save` wrote, or is damaged; the message says where.
        """
        return cls(load_records(path))

    def __repr__(self) -> str:
        return f"Recording(steps={_listing(self.steps)})"


def _listing(steps: tuple[int, ...], most: int = 20) -> str:
    shown = ", ".join(map(str, steps[:most]))
    return f"[{shown}{', …' if len(steps) > most else ''}]"
