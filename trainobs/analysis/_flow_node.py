"""One node of the gradient's way back: its name, what arrives at it, and what it lets through."""

from __future__ import annotations

import dataclasses

from trainobs.records import NodeRecord


@dataclasses.dataclass(frozen=True)
class FlowNode:
    """One node of the way back, with its gains (nan where no gradient came by, or was not read)."""

    index: int
    name: str
    layer: str
    kind: str
    gradient_rms: float
    gain: float
    slope_gain: float
    kernel_gain: float
    zero: float
    unread: bool


def name_of(record: NodeRecord) -> str:
    """A node's name: its layer, and what tells it from others of the same layer."""
    call = f"call {record.call + 1}" if record.call else ""
    loss = f"loss {record.loss + 1}" if record.loss else ""
    extra = ", ".join(filter(None, (record.stage, call, loss)))
    return f"{record.layer} ({extra})" if extra else record.layer
