"""The causes a near-zero gradient can have, and the minimal sufficient ones of each weight."""

from __future__ import annotations

import enum

import numpy as np


class Cause(enum.IntFlag):
    """Sets of factors that can keep a gradient near zero; a weight's verdict is a union of them.

    `verdict` arrays hold these bits: one bit where a weight has one minimal sufficient set,
    several where it is over-determined, `NONE` where its gradient is not near zero.
    """

    NONE = 0
    INPUT = 1
    ACTIVATION = 2
    BACKPROP = 4
    INPUT_ACTIVATION = 8
    INPUT_BACKPROP = 16
    ACTIVATION_BACKPROP = 32
    INPUT_ACTIVATION_BACKPROP = 64
    CANCELLATION = 128


CAUSES: tuple[Cause, ...] = tuple(cause for cause in Cause if cause)
#: Names as in the column suffixes of a report ("share_input_backprop" → "input_backprop").
CAUSE_NAMES: tuple[str, ...] = tuple(str(cause.name).lower() for cause in CAUSES)

_FACTORS: dict[Cause, frozenset[Cause]] = {
    Cause.INPUT: frozenset({Cause.INPUT}),
    Cause.ACTIVATION: frozenset({Cause.ACTIVATION}),
    Cause.BACKPROP: frozenset({Cause.BACKPROP}),
    Cause.INPUT_ACTIVATION: frozenset({Cause.INPUT, Cause.ACTIVATION}),
    Cause.INPUT_BACKPROP: frozenset({Cause.INPUT, Cause.BACKPROP}),
    Cause.ACTIVATION_BACKPROP: frozenset({Cause.ACTIVATION, Cause.BACKPROP}),
    Cause.INPUT_ACTIVATION_BACKPROP: frozenset({Cause.INPUT, Cause.ACTIVATION, Cause.BACKPROP}),
}


def verdict(sufficient: dict[Cause, np.ndarray], terms: np.ndarray) -> np.ndarray:
    """The minimal sufficient causes of near-zero gradients, as bits of `Cause`.

    Parameters
    ----------
    sufficient : dict of Cause to bool array
        For each of the seven sets of factors, whether it alone keeps the gradients near zero.
    terms : array of the same shape
        |T(w)|; a weight without terms belongs to `Cause.INPUT`.

    Returns
    -------
    uint8 array of the same shape
    """
    code = np.zeros(terms.shape, np.uint8)
    for place, cause in enumerate(_FACTORS):
        code |= sufficient[cause].astype(np.uint8) << place
    return np.where(terms == 0, np.uint8(Cause.INPUT), _MINIMAL[code])


def _minimal(code: int) -> int:
    """Bits of the minimal ones of the sufficient sets, which `code` has by their place in `_FACTORS`."""
    sets = {cause: its for place, (cause, its) in enumerate(_FACTORS.items()) if code >> place & 1}
    minimal = [cause for cause, its in sets.items() if not any(other < its for other in sets.values())]
    return sum(minimal) or int(Cause.CANCELLATION)


_MINIMAL = np.array([_minimal(code) for code in range(2 ** len(_FACTORS))], np.uint8)


def shares(verdicts: np.ndarray, *, per_unit: bool = False) -> dict[Cause, np.ndarray]:
    """Part of the near-zero weights that belongs to each cause; several causes share equally.

    Parameters
    ----------
    verdicts : uint8 array of kernel shape
        Bits of `Cause`.
    per_unit : bool
        Whether to give the shares of each unit, shape (j,), instead of those of the kernel.

    Returns
    -------
    dict of Cause to float array
        They sum to 1; nan where no weight is near zero.
    """
    rows = verdicts.reshape(-1, verdicts.shape[-1]).T if per_unit else verdicts[verdicts != 0][None]
    offsets = 256 * np.arange(len(rows))[:, None]
    counts = np.bincount((rows + offsets).ravel(), minlength=256 * len(rows)).reshape(-1, 256)[:, 1:]
    near_zero = counts.sum(axis=1)
    parts = counts @ _PARTS / np.where(near_zero, near_zero, np.nan)[:, None]
    return {cause: parts[:, i] if per_unit else parts[0, i] for i, cause in enumerate(CAUSES)}


#: For each verdict from 1 to 255, the part that each cause has in it.
_BITS = np.array([[(value & cause) != 0 for cause in CAUSES] for value in range(1, 256)], float)
_PARTS = _BITS / _BITS.sum(axis=1, keepdims=True)
