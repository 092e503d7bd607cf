"""Where in the user's own code something happens."""

from __future__ import annotations

import dataclasses
import os
from typing import Literal

#: Why a softmax puts out the same whatever it reads: it is over one element, or a mask leaves one element of
#: each row, or none; "" where it does not.
Constant = Literal["", "single", "one left", "none left"]


@dataclasses.dataclass(frozen=True)
class Place:
    """An operation, and the line of the user's code that asked for it.

    Attributes
    ----------
    layer : str
        The innermost layer that was being called; "" outside of all.
    operation : str
        TensorFlow's name of what it does: "Round", "Sqrt".
    file, line, code : str, int, str
        The innermost line that belongs neither to Keras nor to TensorFlow; "", 0 and "" where there is none.
    """

    layer: str
    operation: str
    file: str = ""
    line: int = 0
    code: str = ""

    def __str__(self) -> str:
        """As in a sentence: "Round in model.py:41: `q = tf.round(s)`"."""
        if not self.file:
            return f"{self.operation} in {self.layer}" if self.layer else self.operation
        code = f": `{self.code}`" if self.code else ""
        return f"{self.operation} in {os.path.basename(self.file)}:{self.line}{code}"


@dataclasses.dataclass(frozen=True)
class Ending:
    """Where the gradient of a weight ends.

    Attributes
    ----------
    kind : {"cut", "zero", "unused", "never"}
        An operation lets none through; an operation makes exact zeros of it; nothing leads from the weight to
        the loss; no operation read the weight in this batch.
    place : Place or None
        That operation; the last one that was reached, of what is unused.
    constant : str
        Why that operation is constant, where it is a softmax that is (see `Constant`).
    """

    kind: Literal["cut", "zero", "unused", "never"]
    place: Place | None = None
    constant: Constant = ""


@dataclasses.dataclass(frozen=True)
class Broken:
    """What made the first NaN or infinite values.

    Attributes
    ----------
    direction : {"output", "gradient"}
        Whether it put them out, or sent them back though it got a finite gradient.
    place : Place
    """

    direction: Literal["output", "gradient"]
    place: Place
