"""A progress bar for work that takes more than a few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_QUIET_SECONDS = 2.0
Item = TypeVar("Item")


def progress(items: Iterable[Item], length: int | None, unit: str = "batch") -> Iterator[Item]:
    """Pass `items` on; show a bar on the terminal or in the notebook once it takes long.

    Parameters
    ----------
    items : iterable
        What is worked on.
    length : int or None
        How many there are, if known.
    unit : str, default "batch"
        What one of them is called.

    Yields
    ------
    object
        The items.
    """
    start, bar = time.monotonic(), None
    for index, item in enumerate(items):
        yield item
        if bar is None and length != 1 and time.monotonic() - start > _QUIET_SECONDS:
            bar = keras.utils.Progbar(length, unit_name=unit)
        if bar is not None:
            bar.update(index + 1)
