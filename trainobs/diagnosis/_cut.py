"""Where a gradient that the tape returned None for comes to an end."""

from __future__ import annotations

import dataclasses
import functools

from trainobs.analysis import Case, SiteFigures
from trainobs.diagnosis._origin import Origin, at_its_layer, origin_of
from trainobs.mechanisms import Disconnected


@dataclasses.dataclass(frozen=True)
class Arrival:
    """The nearest node, towards the loss, that a gradient came to, as seen from another one.

    Attributes
    ----------
    node : int
    distance : int
        Steps to it.
    between : int
        How many nodes without a kernel stand right before it, where no kernel stands between.
    first : int
        The first of these.
    suspect : int or None
        The first of these that may cut a gradient off.
    behind_kernel : bool
        Whether a kernel stands between.
    """

    node: int
    distance: int = 1
    between: int = 0
    first: int = -1
    suspect: int | None = None
    behind_kernel: bool = False


class Cut:
    """Finds where a gradient is cut off: before the nearest node, towards the loss, that one came to.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self._case, self._flow = case, case.flow

    def before(self, figures: SiteFigures) -> Origin:
        """Where what a weight sends towards the loss is cut off from it."""
        start = figures.info.activation_node
        arrival = self._arrivals.get(start)
        if arrival is None:
            last = self._case.layer_of(self._flow.end(start))
            return origin_of(Disconnected(last, "unused"), "no path to the loss")
        return at_its_layer(self._at(arrival))

    @functools.cached_property
    def _arrivals(self) -> dict[int, Arrival]:
        """From each node, the nearest one that a gradient came to, if there is one."""
        arrivals: dict[int, Arrival] = {}
        for node in reversed(range(len(self._flow.records))):
            found = [self._through(reader, arrivals) for reader in self._flow.consumers[node]]
            known = [arrival for arrival in found if arrival is not None]
            if known:
                arrivals[node] = min(known, key=lambda arrival: arrival.distance)
        return arrivals

    def _through(self, reader: int, arrivals: dict[int, Arrival]) -> Arrival | None:
        """The nearest one by way of a reader."""
        if self._arrived(reader):
            return Arrival(reader)
        arrival = arrivals.get(reader)
        if arrival is None:
            return None
        further = dataclasses.replace(arrival, distance=arrival.distance + 1)
        if self._flow.site_at(reader) is not None or self._flow.gates(reader):
            return dataclasses.replace(further, behind_kernel=True)
        return further if arrival.behind_kernel else self._with(reader, further)

    def _with(self, reader: int, arrival: Arrival) -> Arrival:
        """With one more node between that has no kernel."""
        suspect = reader if self._flow.records[reader].cuts_gradient else arrival.suspect
        return dataclasses.replace(arrival, between=arrival.between + 1, first=reader, suspect=suspect)

    def _arrived(self, node: int) -> bool:
        """Whether a gradient came to a node; to a stage of a call, whether one came to the call."""
        record = self._flow.records[node]
        last = [n for n in self._flow.consumers[node] if record.stage and self._flow.is_call_of(n, record)]
        if last:
            return any(self._arrived(n) for n in last)
        return record.output_gradient is not None or bool(record.unread)

    def _at(self, arrival: Arrival) -> Disconnected:
        """Name the layer that lets no gradient through: one comes to a node, but none to what is between."""
        case, reader = self._case, arrival.node
        if self._flow.records[reader].cuts_gradient:
            return Disconnected(case.layer_of(reader), "node")
        suspect = arrival.first if arrival.between == 1 else arrival.suspect
        if suspect is not None:
            return Disconnected(case.layer_of(suspect), "layer", case.layer_of(reader))
        passes = bool(arrival.between) or self._flow.site_at(reader) is not None  # a kernel hands it on
        return Disconnected(case.layer_of(reader), "before" if passes else "node")
