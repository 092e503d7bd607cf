"""What a second look at the batch answers, operation by operation; only a model at hand allows one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trainobs.records import Broken, Ending, InnerTerms, Place


class SecondLook(Protocol):
    """Questions about the operations of the batch that is explained."""

    def ending(self, weight: str) -> Ending | None:
        """Where the gradient of a weight ends, given its path; None for a weight that has one."""

    def drop(self, weight: str, gain: float) -> Place | None:
        """On the way from a weight to the loss, the operation that takes most of the gradient.

        None where none passes on so little as `gain`.
        """

    def broken(self) -> Broken | None:
        """The operation that made the first NaN or infinite values."""

    def zeros_from(self, layer: str) -> Place | None:
        """The operation that made the zeros which a layer reads, or else puts out."""

    def flat_derivative(self) -> Place | None:
        """Where an inner tape took a gradient that is exactly zero."""

    def inner_terms(self) -> InnerTerms | None:
        """The terms of the loss that read the net before its end, if it has both kinds."""

    def used_elsewhere(self, weight: str, layer: str) -> Place | None:
        """What reads a weight, given its path, outside of its layer, and sends it a gradient."""


#: Takes the second look; None where none can be had.
TakeLook = Callable[[], SecondLook | None]
