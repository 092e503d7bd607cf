"""One step of a loop that the user wrote: a `with` block around their own tape.

Three places can hold that block, and all give the same records:

* around eager code: what the taps caught is at hand when the block ends;
* inside a `tf.function`: the block is traced once, and what it caught is handed out, step by step,
  by an op that calls back when the step is due;
* around the call of a `tf.function`: its graph is traced inside of the block the first time, and
  hands out in the same way.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from trainobs.capture._filling import fill, nbytes
from trainobs.capture._layout import Layout, owned_weights
from trainobs.capture._patches import Patches
from trainobs.capture._trace import StepTrace
from trainobs.recording import StepRecord

Selects = Callable[[Any], bool]


class WatchedModels:
    """Taps on models whose train step is the user's own code.

    Parameters
    ----------
    models : list of keras.Model
    selects : callable
        Given a layer, whether its weights are recorded.
    begin : callable
        Called as each step begins; returns whether it is due.
    end : callable
        Called as each step ends, with the `CaughtStep`, or None if none was caught.
    """

    def __init__(
        self,
        models: list[Any],
        selects: Selects,
        begin: Callable[[], bool],
        end: Callable[[CaughtStep | None], None],
    ) -> None:
        self._models, self._selects = models, selects
        self._begin, self._end = begin, end
        self._patches = Patches(models, [], on_pass=self._on_pass)
        self._layouts: list[Layout] = []
        self._numbers = itertools.count()
        self._traced = False
        self._due = False
        self._caught: CaughtStep | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        if tf.inside_function():
            yield from self._inside_function()
        else:
            yield from self._eagerly()

    def _eagerly(self) -> Iterator[None]:
        self._due, self._caught = self._begin(), None
        # a function that is called inside is traced at its first call, whether or not that is due
        taps = self._due or not self._traced
        try:
            with contextlib.ExitStack() as stack:
                if taps:
                    stack.enter_context(self._patches.installed())
                    stack.enter_context(self._patches.tracing())
                yield
        finally:
            self._traced = True
            caught, self._caught = self._caught, None
            self._end(caught if self._due else None)

    def _inside_function(self) -> Iterator[None]:
        tf.py_function(self._begin_traced, [], [])
        with self._patches.installed(), self._patches.tracing():
            yield
        tf.py_function(self._end_traced, [], [])

    def _begin_traced(self) -> None:
        self._due, self._caught = self._begin(), None

    def _end_traced(self) -> None:
        caught, self._caught = self._caught, None
        self._end(caught if self._due else None)

    def _on_pass(self, trace: StepTrace) -> None:
        """Hand out what the step has caught so far; the last pass of a step has all of it."""
        layout = Layout(trace, self._patches.activations, self._selects, [], owned_weights(self._models))
        tensors, layout.tensors = layout.tensors, []
        if not tf.inside_function():
            self._caught = CaughtStep(layout, tensors)
            return
        self._layouts.append(layout)
        number = len(self._layouts) - 1
        due = tf.py_function(lambda: self._due, [], tf.bool)
        due.set_shape(())
        tf.cond(due, lambda: self._hand_out(number, tensors), lambda: tf.constant(0))

    def _hand_out(self, number: int, tensors: list[Any]) -> Any:
        def catch(*values: Any) -> int:
            self._caught = CaughtStep(self._layouts[number], list(values))
            return 0

        return tf.py_function(catch, tensors, tf.int32)


class CaughtStep:
    """What one step handed out.

    Parameters
    ----------
    layout : Layout
        Of its trace.
    values : list of tensors
        What it handed out.
    """

    def __init__(self, layout: Layout, values: list[Any]) -> None:
        self._layout, self._values = layout, values
        self.nbytes = nbytes(layout, values)

    def record(self, step: int) -> StepRecord:
        """The record of the step, under this number."""
        return fill(self._layout, self._values, step, epoch=0)
