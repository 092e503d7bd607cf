"""What a way to the loss is made of, and what is known of it from the rest of it.

A `Way` is a linked list: its first piece, and the rest, which is the way from where that piece ends. Ways
that meet share what is behind, so that all ways of a model take no more room than the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

#: Where every way ends.
LOSS = -1

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Edge:
    """The way back from a node, or the `LOSS`, to one that it reads."""

    reader: int
    maker: int

    @property
    def start(self) -> int:
        """The maker."""
        return self.maker

    @property
    def end(self) -> int:
        """The reader."""
        return self.reader


@dataclasses.dataclass(frozen=True, eq=False)
class Stretch:
    """The way from a node to where all its readers lead to, which is the same for all of them.

    Attributes
    ----------
    start, end : int
        Nodes; the end may be `LOSS`.
    branches : tuple of Way
        From the start on.
    """

    start: int
    end: int
    branches: tuple[Way, ...] = dataclasses.field(repr=False)


Piece = Edge | Stretch


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is lost on a piece of the way, and which factor of its reader takes most of it.

    Attributes
    ----------
    powers : float
        Powers of ten; inf where nothing gets through.
    factor : {"slope", "kernel", "layer", "loss", "branches"}
    taken : float
        By that factor; the other one may take some more, or give some of it back.
    """

    powers: float
    factor: str
    taken: float


class Way:
    """One piece after the other, up to an end.

    Parameters
    ----------
    piece : Edge or Stretch
        The first one.
    loss : Loss
        What is lost on it.
    rest : Way or None
        What follows; None for nothing.

    Attributes
    ----------
    net : float
        Powers of ten that are lost from start to end.
    lost : float
        The same without what pieces give back, whose gain is above 1.
    worst : Way
        The part that begins with the piece that takes most, the first one of equals.
    end : int
        A node, or `LOSS`.
    last : Edge or Stretch
        The last piece.
    length : int
        Number of pieces.
    """

    __slots__ = ("end", "last", "length", "loss", "lost", "net", "piece", "rest", "worst")

    def __init__(self, piece: Piece, loss: Loss, rest: Way | None = None) -> None:
        self.piece, self.loss, self.rest = piece, loss, rest
        self.net: float = loss.powers + (rest.net if rest else 0.0)
        self.lost: float = max(loss.powers, 0.0) + (rest.lost if rest else 0.0)
        self.worst: Way = self if rest is None or loss.powers >= rest.worst.loss.powers else rest.worst
        self.end: int = rest.end if rest else piece.end
        self.last: Piece = rest.last if rest else piece
        self.length: int = 1 + (rest.length if rest else 0)

    def parts(self) -> Iterator[Way]:
        """The way from each of its pieces on."""
        part: Way | None = self
        while part is not None:
            yield part
            part = part.rest

    def __iter__(self) -> Iterator[Piece]:
        """Its pieces."""
        return (part.piece for part in self.parts())

    def __len__(self) -> int:
        return self.length


class FromTheEnd(Generic[T]):
    """Something that is known of a way from its first piece and what is known of the rest; each once.

    Parameters
    ----------
    known_by : callable
        Takes a way, and what is known of the rest of it; None where nothing follows.
    """

    def __init__(self, known_by: Callable[[Way, T | None], T]) -> None:
        self._known_by = known_by
        self._known: dict[Way | None, T] = {}

    def __call__(self, way: Way) -> T:
        """What is known of a way."""
        new: list[Way] = []
        part: Way | None = way
        while part is not None and part not in self._known:
            new.append(part)
            part = part.rest
        for part in reversed(new):
            self._known[part] = self._known_by(part, self._known.get(part.rest))
        return self._known[way]
