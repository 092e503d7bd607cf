"""The way from a weight to where its gradient is lost, in one line."""

from __future__ import annotations

from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._steps import Steps


def chain(origins: tuple[Origin, ...]) -> str:
    """The way of a weight; if there are several, each with its share."""
    if len(origins) == 1:
        return _way(origins[0])
    return " | ".join(f"{origin.share:.0%}: {_way(origin)}" for origin in origins)


def _way(origin: Origin) -> str:
    """One way, with the numbers of its end and what alone would do the same."""
    summary, also = origin.mechanism.summary(), [f"{cause} at {layer}" for cause, layer in origin.also]
    besides = f"; also: {', '.join(also)}" if also else ""
    return _to_its_end(origin).line() + (f" ({summary})" if summary else "") + besides


def _to_its_end(origin: Origin) -> Steps:
    """The steps of an origin up to the cause."""
    layer, cause = origin.mechanism.layer, origin.mechanism.cause
    last = origin.steps.shown[-1]
    if last.startswith("off: "):
        return origin.steps
    there = last in ("data", "loss") or layer in last.split(" ← ") or origin.mechanism.is_slow
    return origin.steps + Steps((cause,) if there else (layer, cause))
