"""What a Recorder keeps: the newest steps, as many as fit."""

from __future__ import annotations

import collections
import warnings

from trainobs.capture import CapturedStep
from trainobs.errors import InvalidArgument
from trainobs.recorder._schedule import is_positive_int
from trainobs.recording import Recording
from trainobs.statistics import Statistics, gather
from trainobs.thresholds import NearZero

_KEEPS = ("tensors", "statistics")


class Memory:
    """Recorded steps, oldest first.

    Parameters
    ----------
    keep : {"tensors", "statistics"}
        Whether the arrays are kept, or their additive statistics.
    near_zero : NearZero or None
        Thresholds for the statistics.
    max_bytes : int
        Older steps go for newer ones when they take more than this together; a step that takes more by itself
        is not kept.
    """

    def __init__(self, keep: str, near_zero: NearZero | None, max_bytes: int) -> None:
        if keep not in _KEEPS:
            raise InvalidArgument(f"`keep` must be one of {_KEEPS}. Received: keep={keep!r}.")
        if not is_positive_int(max_bytes):
            raise InvalidArgument(
                f"`max_bytes` must be a positive integer. Received: max_bytes={max_bytes!r}."
            )
        if near_zero is not None and not isinstance(near_zero, NearZero):
            raise InvalidArgument(f"`near_zero` must be a trainobs.NearZero. Received: {near_zero!r}.")
        self._as_statistics = keep == "statistics"
        self._near_zero = near_zero or NearZero()
        self._max_bytes = max_bytes
        self._held: collections.deque[CapturedStep | Statistics] = collections.deque()
        self._has_said = False

    @property
    def recording(self) -> Recording:
        """The steps that are kept."""
        kept = (item.record() if isinstance(item, CapturedStep) else item for item in self._held)
        return Recording(tuple(kept))

    @property
    def steps(self) -> list[int | None]:
        """The numbers of the steps that are kept."""
        return [item.step for item in self._held]

    def add(self, item: CapturedStep) -> None:
        """Keep a step, or its statistics; let go what no longer fits."""
        kept = gather(item.record(), self._near_zero) if self._as_statistics else item
        if kept.nbytes > self._max_bytes:
            self._say_once(f"step {kept.step} takes {kept.nbytes:,} by itself, and is not kept")
            return
        self._held.append(kept)
        while sum(held.nbytes for held in self._held) > self._max_bytes:
            gone = self._held.popleft().step
            self._say_once(f"it let the record of step {gone} go, and will let older steps go for newer ones")

    def _say_once(self, what: str) -> None:
        if not self._has_said:
            self._has_said = True
            warnings.warn(
                f"The Recorder keeps at most max_bytes={self._max_bytes:,} bytes: {what}. Raise `max_bytes`, "
                f'record fewer steps or `layers`, or use keep="statistics".',
                stacklevel=4,
            )
