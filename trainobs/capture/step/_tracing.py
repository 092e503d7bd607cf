"""Which trace a call belongs to: that of its thread, and of the graph that is being traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

from trainobs.capture.reading import StepTrace
from trainobs.capture.step._replacing import current_graph


class Tracing:
    """The traces that are open, on each thread its own.

    A `tf.distribute` strategy runs a thread per replica over the same layer objects.

    Parameters
    ----------
    inner_graphs : bool
        Whether calls in graphs that are traced inside of the block have traces of their own.
    """

    def __init__(self, *, inner_graphs: bool) -> None:
        self._inner_graphs = inner_graphs
        self._local = threading.local()

    @contextlib.contextmanager
    def open(self, *, here: bool) -> Iterator[StepTrace]:
        """Record the calls that this thread makes inside the block.

        Not `here`: only those in graphs that are traced inside of it.
        """
        trace = StepTrace(graph=current_graph())
        self._local.traces = {id(trace.graph): trace if here else None}
        self._local.trace = trace if here else None
        self._local.tapes = []
        try:
            yield trace
        finally:
            del self._local.trace, self._local.traces, self._local.tapes

    @property
    def whole(self) -> StepTrace | None:
        """The trace of the step itself, whatever graph this is."""
        return getattr(self._local, "trace", None)

    @property
    def tapes(self) -> list[tf.Graph | None] | None:
        """The graphs in which open tapes were opened."""
        return getattr(self._local, "tapes", None)

    @property
    def here(self) -> StepTrace | None:
        """The trace that calls belong to right now: none where tensors can't be handed out."""
        graph, traces = current_graph(), getattr(self._local, "traces", None)
        if traces is None or id(graph) in traces:
            return None if traces is None else traces[id(graph)]
        if not self._inner_graphs or graph is None:
            return None  # inside a loop's body, say
        if any(own is not graph for own in self._local.tapes):
            return None  # differentiated from outside of this graph
        return traces.setdefault(id(graph), StepTrace(graph=graph))
