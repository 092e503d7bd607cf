"""The way from a weight to where its gradient is lost, in one line."""

from __future__ import annotations

from trainobs.diagnosis._origin import Origin
from trainobs.mechanisms import percent


def chain(origins: tuple[Origin, ...]) -> str:
    """The way of a weight; if there are several, each with its share."""
    if len(origins) == 1:
        return _way(origins[0])
    return " | ".join(f"{percent(origin.share)}: {_way(origin)}" for origin in origins)


def _way(origin: Origin, most: int = 8) -> str:
    """One way, the middle of a long one left out."""
    steps = _distinct(origin.steps)
    if not steps[-1].startswith("off: "):
        layer, cause = origin.mechanism.layer, origin.mechanism.cause
        there = steps[-1] in ("data", "loss") or layer in steps[-1].split(" ← ") or origin.mechanism.is_slow
        steps += [cause] if there else [layer, cause]
    if len(steps) > most:
        steps[most // 2 : 1 - most // 2] = [f"… {len(steps) - most + 1} more …"]
    summary = origin.mechanism.summary()
    besides = "; also: " + ", ".join(f"{cause} at {layer}" for cause, layer in origin.also)
    return " ← ".join(steps) + (f" ({summary})" if summary else "") + (besides if origin.also else "")


def _distinct(steps: tuple[str, ...]) -> list[str]:
    """The steps, each layer once in a row, and what is said of one as a step of its own."""
    distinct: list[str] = []
    for step in steps:
        layer, off, reason = step.partition(" off: ")
        distinct += [layer] if distinct[-1:] != [layer] else []
        distinct += [f"off: {reason}"] if off else []
    return distinct
