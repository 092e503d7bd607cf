"""A Keras callback that records due steps of an unmodified `fit`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import keras

from trainobs.recorder._fits import DueSteps
from trainobs.recorder._memory import Memory
from trainobs.recorder._own_loops import OwnLoops
from trainobs.recorder._schedule import Schedule
from trainobs.recorder._steps import StepCounter
from trainobs.recording import Recording
from trainobs.selection import Layers, Selection
from trainobs.thresholds import NearZero

Logs = dict[str, object] | None


class Recorder(keras.callbacks.Callback):
    """Record what weight gradients are made of, during an unmodified `model.fit`.

    Steps that are not due run the model's own train function, untouched. A due step runs a tapped
    twin of it: the same forward and backward pass, which also hands its tensors over.

    Parameters
    ----------
    every : int, optional
        Record steps 0, every, 2·every, … Default: 100, unless `at` is given.
    at : iterable of int, optional
        Record these steps (see `log_spaced`). Steps are counted from 0 over all `fit` calls.
    layers : str, type, or list of them, optional
        Record only these layers: names, patterns such as "conv*", or layer classes.
    keep : {"tensors", "statistics"}, default "tensors"
        Keep the arrays, or only their additive statistics (computed with `near_zero`).
    near_zero : NearZero, optional
        Thresholds for ``keep="statistics"``.
    max_bytes : int, default 1 GiB
        Memory for records. The newest stay; the Recorder warns once when it lets older ones go. A step that
        takes more than this by itself is not kept.

    Attributes
    ----------
    recording : Recording
        What was recorded so far.

    Raises
    ------
    InvalidArgument
        If both `every` and `at` are given, or a value does not fit.

    Notes
    -----
    Steps count once they have run, from 0 over all `fit` calls. With several steps per execution
    (`compile(steps_per_execution=…)`) the last step of an execution that contains a due step is
    recorded.

    A model that its first batch builds is checked, and its `layers` are looked up, after that batch.

    Examples
    --------
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> recorder = Recorder(every=2)
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[recorder], verbose=0)
    >>> recorder.recording.steps
    (0, 2)
    """

    def __init__(
        self,
        every: int | None = None,
        at: Iterable[int] | None = None,
        *,
        layers: Layers = None,
        keep: str = "tensors",
        near_zero: NearZero | None = None,
        max_bytes: int = 2**30,
    ) -> None:
        super().__init__()
        schedule, selection = Schedule.of(every, at), Selection(layers)
        self._memory = Memory(keep, near_zero, max_bytes)
        self._steps = StepCounter()
        self._fits = DueSteps(schedule, selection, self._memory.add, self._steps)
        self._own_loops = OwnLoops(schedule, selection, self._memory.add, self._steps)

    @property
    def recording(self) -> Recording:
        """What was recorded so far, oldest first."""
        return self._memory.recording

    def __repr__(self) -> str:
        return f"Recorder(recorded steps: {self._memory.steps})"

    def watch(self, *models: keras.Model) -> AbstractContextManager[None]:
        """Record a step of a loop that you wrote, around your own `tf.GradientTape`.

        Parameters
        ----------
        *models : keras.Model
            The models that the step trains; they need not be compiled.

        Raises
        ------
        InvalidArgument
            If no model is given, or something else; if none of them has a layer of `layers`; if a block
            of this Recorder is open already.
        ModelNotReady
            If a model has no weights, or inside of a ``tf.function(jit_compile=True)``: compiled code
            can't call back.

        Notes
        -----
        A step is one `with` block that ends without an exception. Its weights' gradients are those that
        `tape.gradient` returns, before any clipping. Inside of a `tf.function` or around its call, the
        function is traced once, and hands out what it computes when a step is due. Inside is better: a
        function that was called before, outside of the block, has been traced without it; and of a
        function that the block calls several times, or of a loop inside, only the last gradients are
        recorded. The layers have to be called where the gradient is taken, not inside of another
        `tf.function`.

        Examples
        --------
        >>> import tensorflow as tf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> recorder = Recorder(every=1)
        >>> with recorder.watch(model):
        ...     with tf.GradientTape() as tape:
        ...         loss = tf.reduce_mean(model(tf.ones((8, 4))) ** 2)
        ...     gradients = tape.gradient(loss, model.trainable_variables)
        >>> recorder.recording.steps
        (0,)
        """
        return self._own_loops.step(models)

    # ---- called by Keras ---------------------------------------------------------------------

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check the model before the first step, so that nothing fails midway."""
        self._fits.begin_fit(self.model)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember the epoch for the records."""
        self._fits.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Ask for the tensors of the coming step, if it is due."""
        self._fits.begin_batch(self.model)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count what ran."""
        self._fits.end_batch(self.model)
