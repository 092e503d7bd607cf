"""A change that can't be made in this model."""

from __future__ import annotations

from trainobs.capture._keras_internals import HANDED_ON


class NotInPlace(Exception):
    """Says why, as the end of a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        setattr(self, HANDED_ON, True)
