"""A change that can't be made in this model."""

from __future__ import annotations


class NotInPlace(Exception):
    """Says why, as the end of a sentence."""
