"""Where the figures of each check go: event files, and a callable of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable

from trainobs.errors import InvalidArgument
from trainobs.health._report import HealthReport
from trainobs.health._tensorboard import EventFiles, heatmap_png
from trainobs.records import StepRecord

Log = Callable[[dict[str, float], int], object]


class Logs:
    """The logs of one callback; event files are open during a fit.

    Parameters
    ----------
    log_dir : str or path-like, optional
        Where event files are written.
    log : callable, optional
        Called as ``log(dict of str to float, step)``.
    pictures : bool
        Whether the heatmap of causes is drawn for the event files.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None, log: Log | None, pictures: bool) -> None:
        if log is not None and not callable(log):
            raise InvalidArgument(
                f"`log` must be callable as log(dict, step). Received: {log!r}. For TensorBoard pass "
                f"`log_dir=`."
            )
        self._log_dir, self._log, self._pictures = log_dir, log, pictures
        self._files: EventFiles | None = None

    def begin_fit(self) -> None:
        """Open an event file of this fit's own."""
        self.close()
        if self._log_dir is not None:
            self._files = EventFiles(self._log_dir)

    def write(self, report: HealthReport, record: StepRecord) -> None:
        """Log a check to files and to the callable."""
        scalars, step = report.scalars(), report.step or 0
        if self._files is not None:
            self._files.scalars(scalars, step)
            if self._pictures and record.sites:
                self._files.image("causes", *heatmap_png(record, report.thresholds), step)
            self._files.flush()
        if self._log is not None:
            self._log(scalars, step)

    def close(self) -> None:
        """Close the event file; a later fit opens another one."""
        if self._files is not None:
            self._files.close()
            self._files = None
