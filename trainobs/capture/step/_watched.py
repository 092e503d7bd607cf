"""One step of a loop that the user wrote: a `with` block around their own tape.

Three places can hold that block, and all give the same records:

* around eager code: what the taps caught is at hand when the block ends;
* inside a `tf.function`: the block is traced once, and what it caught is handed out, step by step,
  by an op that calls back;
* around the call of a `tf.function`: its graph is traced inside of the block the first time, and
  hands out in the same way. So does that of another function, or for another shape, that is traced
  at a later step.

Private TensorFlow name used here: `GraphOrParentsInXlaContext`, for a graph in the making does not
tell otherwise whether XLA will compile it, and only that fails, with an error of its own.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from trainobs.capture.reading import StepPlan, StepTrace, joined, nbytes, owned_weights, plan_step, to_record
from trainobs.capture.step._patches import Patches
from trainobs.errors import ModelNotReady
from trainobs.records import StepRecord

Selects = Callable[[keras.Layer], bool]
Caught = tuple[StepPlan, list[tf.Tensor]]


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
        Called as each step ends, with the `CaughtStep`, or None if none was caught. A step that an
        exception breaks off does not end.
    """

    def __init__(
        self,
        models: list[keras.Model],
        selects: Selects,
        begin: Callable[[], bool],
        end: Callable[[CaughtStep | None], None],
    ) -> None:
        self._models, self._selects = models, selects
        self._begin, self._end = begin, end
        self._patches = Patches(models, [], on_pass=self._on_pass)
        self._plans: list[StepPlan] = []
        self._first: weakref.WeakKeyDictionary[StepTrace, int] = weakref.WeakKeyDictionary()
        self._due = False
        self._caught: dict[int, Caught] = {}  # by the first plan of their trace

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        if tf.inside_function():
            _refuse_compiled()
            yield from self._inside_function()
        else:
            yield from self._eagerly()

    def _eagerly(self) -> Iterator[None]:
        self._begin_step()
        try:
            # a function that is called inside is traced when it is, whether or not that step is due
            with self._patches.installed(), self._patches.tracing(here=self._due):
                yield
            self._end_step()
        finally:
            self._caught = {}

    def _inside_function(self) -> Iterator[None]:
        tf.py_function(self._calling(WatchedModels._begin_step), [], [])
        with self._patches.installed(), self._patches.tracing():
            yield
        tf.py_function(self._calling(WatchedModels._end_step), [], [])

    def _begin_step(self) -> None:
        self._due, self._caught = self._begin(), {}

    def _end_step(self) -> None:
        caught, self._caught = list(self._caught.values()), {}
        self._end(CaughtStep(caught) if caught and self._due else None)

    def _on_pass(self, trace: StepTrace) -> None:
        """Hand out what the graph has caught so far; its last pass has all of it."""
        owned = owned_weights(self._models)
        plan, tensors = plan_step(trace, self._patches.activations, self._selects, [], owned)
        if not tf.inside_function():
            self._caught[-1] = plan, tensors
            return
        _refuse_compiled()
        self._plans.append(plan)
        number = len(self._plans) - 1
        first = self._first.setdefault(trace, number)

        def catch(watched: WatchedModels, *values: tf.Tensor) -> None:
            if watched._due:
                watched._caught.pop(first, None)  # the newest comes last
                watched._caught[first] = watched._plans[number], list(values)

        # at each step: a condition around it in the graph would change the training by rounding
        tf.py_function(self._calling(catch), tensors, [])

    def _calling(self, function: Callable[..., None]) -> Callable[..., None]:
        """For `tf.py_function`: TensorFlow never forgets one, and what it refers to."""
        own = weakref.ref(self)

        def call(*values: tf.Tensor) -> None:
            if (watched := own()) is not None:
                function(watched, *values)

        return call


class CaughtStep:
    """What one step handed out.

    Parameters
    ----------
    caught : list of (StepPlan, list of tensors)
        Of each graph (or none) that differentiated weights: the plan of its trace, and what it
        handed out.
    """

    def __init__(self, caught: list[Caught]) -> None:
        self._caught = caught
        self.nbytes = sum(nbytes(plan, values) for plan, values in caught)

    def record(self, step: int) -> StepRecord:
        """The record of the step, under this number."""
        return joined([to_record(plan, values, step, epoch=0) for plan, values in self._caught])


def _refuse_compiled() -> None:
    """Say what to do where XLA would only say that it can't call back."""
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise ModelNotReady(
            "The watched step is inside of a tf.function(jit_compile=True): what XLA compiles can't hand "
            "tensors over. Drop jit_compile=True while you record."
        )
