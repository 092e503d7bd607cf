"""The mechanism of what alone would keep gradients near zero too, and is no finding of its own."""

from __future__ import annotations

from collections.abc import Callable

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms import DeadActivation, Key, Mechanism, SaturatedActivation, weights_at_fault

_AT: dict[str, Callable[[Case, SiteFigures], Mechanism | None]] = {
    DeadActivation.cause: DeadActivation.of,
    SaturatedActivation.cause: SaturatedActivation.of,
    "zero_weights": weights_at_fault,
}


def mechanism_at(case: Case, key: Key) -> Mechanism | None:
    """The mechanism of this cause at this layer; None where figures of its kernel do not show it."""
    cause, layer = key
    site = next((s for s in case.sites.values() if s.info.layer == layer and s.carries), None)
    make = _AT.get(cause)
    return None if site is None or make is None else make(case, site)
