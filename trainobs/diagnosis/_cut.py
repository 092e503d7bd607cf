"""Where a gradient that the tape returned None for comes to an end."""

from __future__ import annotations

import dataclasses
import functools

from trainobs.analysis import Case, WholeLayerFigures
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
    known : int or None
        The last of these of which the graph shows that it does.
    behind_kernel : bool
        Whether a kernel stands between.
    """

    node: int
    distance: int = 1
    between: int = 0
    first: int = -1
    suspect: int | None = None
    known: int | None = None
    behind_kernel: bool = False


class Cut:
    """Finds where a gradient is cut off: before the nearest node, towards the loss, that one came to.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self._case, self._flow = case, case.flow

    def of_layer(self, figures: WholeLayerFigures) -> Origin:
        """Of a weight of a layer of unknown kind: inside the layer, if a gradient came there, or behind."""
        info = figures.info
        if not info.nodes:
            return Origin(Disconnected(info.layer, "unseen"))
        if any(map(self._arrived, info.nodes)):
            return Origin(Disconnected(info.layer, "inside"))
        return self.behind(info.nodes[-1])

    def behind(self, start: int) -> Origin:
        """Where what a node sends towards the loss is cut off from it."""
        arrival = self._arrivals.get(start)
        if arrival is None:
            last = Disconnected.before_the_loss(self._case, self._flow.end(start))
            return origin_of(last, "no path to the loss")
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
        record, known = self._flow.records[reader], arrival.known
        if known is None and record.cut_at is not None:
            known = reader
        suspect = reader if record.cuts_gradient else arrival.suspect
        between = arrival.between + 1
        return dataclasses.replace(arrival, between=between, first=reader, suspect=suspect, known=known)

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
        record = self._flow.records[reader]
        if record.cuts_gradient or record.cut_at is not None:
            return Disconnected.within(case, reader)
        if arrival.known is not None:  # a gradient arrives there
            return Disconnected.within(case, arrival.known)
        suspect = arrival.first if arrival.between == 1 else arrival.suspect
        if suspect is not None and self._flow.records[suspect].made_at is not None:
            return Disconnected.within(case, suspect)
        if suspect is not None:
            return Disconnected(case.layer_of(suspect), "layer", case.layer_of(reader))
        passes = bool(arrival.between) or self._flow.site_at(reader) is not None  # a kernel hands it on
        return Disconnected(case.layer_of(reader), "before" if passes else "node")
