"""What a finding does in a fit: it warns, or ends the training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import keras

from trainobs.errors import InvalidArgument
from trainobs.health._report import HealthReport

_ACTS = ("warn", "stop", "clip")


class HealthWarning(UserWarning):
    """A training shows a sign of ill health."""


class Acts:
    """Which acts were asked for, and what was warned of already.

    Parameters
    ----------
    act : subset of {"warn", "stop", "clip"}
        Clipping is done elsewhere.
    """

    def __init__(self, act: str | Iterable[str]) -> None:
        self._acts = (act,) if isinstance(act, str) else tuple(act)
        self._warned: set[tuple[str, str]] = set()
        if not set(self._acts) <= set(_ACTS):
            raise InvalidArgument(f"`act` must be a subset of {_ACTS}. Received: act={self._acts!r}.")

    @property
    def clips(self) -> bool:
        """Whether clipping was asked for."""
        return "clip" in self._acts

    def answer(self, report: HealthReport, model: keras.Model) -> None:
        """Warn of what is new, once per cause and layer; stop at an error."""
        serious = report.findings[report.findings["severity"] != "info"]
        if "warn" in self._acts:
            for row in serious.itertuples():
                if (row.cause, row.layer) not in self._warned:
                    self._warned.add((str(row.cause), str(row.layer)))
                    say(f"Step {report.step}: {row.evidence} {row.remedy}")
        errors = serious[serious["severity"] == "error"]
        if "stop" in self._acts and len(errors):
            model.stop_training = True
            say(f"Training stops at step {report.step}: {errors['evidence'].iloc[0]}")


def say(text: str) -> None:
    """Warn, in the name of the callback."""
    warnings.warn(text, HealthWarning, stacklevel=4)
