"""A remedy made out for one finding: what it changes, the call, and how to apply it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import keras
import numpy as np

from trainobs.mechanisms import Mechanism
from trainobs.remedies._surgery import rebuilt

#: What a model is trained on: an array, or a structure of them.
Arrays: TypeAlias = np.ndarray | Sequence["Arrays"] | Mapping[str, "Arrays"]
#: A model, its inputs and its targets.
ModelAndData: TypeAlias = tuple[keras.Model, Arrays, Arrays]
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Treatment:
    """A remedy for a finding, ready to be applied.

    Attributes
    ----------
    mechanism : Mechanism
        What it is to remove.
    remedy : str
        The remedy's name, such as "swap activation (gelu)".
    changes : str
        What it changes, in a sentence.
    call : str
        The same as code, with `trainobs.remedies` as `remedies`. Treatments of the same call are the same,
        and tried once.
    apply : callable
        From (model, x, y) to new ones; what is given stays as it is.
    """

    mechanism: Mechanism
    remedy: str
    changes: str
    call: str
    apply: Callable[[ModelAndData], ModelAndData]

    @property
    def cause(self) -> str:
        """The finding's cause."""
        return self.mechanism.cause

    @property
    def layer(self) -> str:
        """The finding's layer."""
        return self.mechanism.layer

    @classmethod
    def of_model(
        cls,
        mechanism: Mechanism,
        remedy: str,
        changes: str,
        change: Callable[..., keras.Model],
        *given: object,
        **options: object,
    ) -> Treatment:
        """One that changes the model by ``change(model, *given, **options)``, which is also its `call`."""
        arguments = [*map(repr, given), *(f"{name}={value!r}" for name, value in options.items())]
        call = f"{_name_of(change)}({', '.join(['model', *arguments])})"
        return cls(
            mechanism, remedy, changes, call, lambda case: (change(case[0], *given, **options), *case[1:])
        )

    @classmethod
    def of_data(
        cls,
        mechanism: Mechanism,
        remedy: str,
        changes: str,
        call: str,
        change: Callable[[Arrays, Arrays], tuple[Arrays, Arrays]],
    ) -> Treatment:
        """One that changes x, y or both; the model is copied, for it will be trained."""
        return cls(mechanism, remedy, changes, call, lambda case: (rebuilt(case[0]), *change(*case[1:])))


def _name_of(change: Callable[..., keras.Model]) -> str:
    own = str(change.__module__).startswith("trainobs.remedies.")
    return f"remedies.{change.__name__}" if own else change.__name__


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
