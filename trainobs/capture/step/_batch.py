"""Capture one batch: the model's own train step with the update withheld, and all state put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from trainobs.capture._keras_internals import (
    added_losses,
    all_layers,
    forget_global_seed_generator,
    forget_lists_noted_again,
    global_seed_generator,
    lists_noted,
    put_back_losses,
)
from trainobs.capture.step._parts_of_models import optimizers_of
from trainobs.capture.step._readiness import check_input_shape, check_model, check_weights
from trainobs.capture.step._tapped_step import Selects, TappedStep
from trainobs.errors import InvalidArgument, ModelNotReady
from trainobs.records import StepRecord

#: An array or tensor, or a structure of them; None where there is none.
Data = object


class BatchCapture:
    """Capture batch after batch of one model; the step is traced once per shape.

    Parameters
    ----------
    model : keras.Model
        A compiled model.
    selects : callable, optional
        Given a layer, whether its site is recorded. Default: all.
    """

    def __init__(self, model: keras.Model, selects: Selects = lambda layer: True) -> None:
        check_model(model)
        self._model = model
        self._step = TappedStep(model, selects, withhold_update=True)
        self._function = (
            self._step
            if model.run_eagerly
            else tf.function(self._step, autograph=False, reduce_retracing=True)
        )

    def __call__(self, x: Data, y: Data = None, sample_weight: Data = None, *, step: int = 0) -> StepRecord:
        """Run one batch and return its record; the model is left as it was."""
        data = prepared(self._model, x, y, sample_weight)
        check_weights(self._model)
        with state_restored(self._model), _clear_errors(self._model):
            captured = self._function(keras.utils.pack_x_y_sample_weight(*data))
        return self._step.record(captured, step, epoch=0)


def capture_batch(model: keras.Model, x: Data, y: Data = None, sample_weight: Data = None) -> StepRecord:
    """Run a model's own train step on one batch and record it, without training.

    The optimizer's update is withheld; weights, moving statistics, metrics, optimizer and random
    state are left as they were.

    Parameters
    ----------
    model : keras.Model
        A compiled model.
    x : array or structure of arrays, first axis n
        Input batch.
    y : array or structure of arrays, first axis n, optional
        Targets.
    sample_weight : array of shape (n,), optional
        Weights of the samples.

    Returns
    -------
    StepRecord
        What the step computed, for every site.

    Raises
    ------
    ModelNotReady
        If the model is not compiled, has no loss or no kernel.
    InvalidArgument
        If the batch is empty or x and y differ in length.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    >>> model.compile(loss="mse")
    >>> record = capture_batch(model, np.ones((4, 3)), np.zeros((4, 2)))
    >>> record.site("head").kernel_gradient.shape
    (3, 2)
    """
    return BatchCapture(model)(x, y, sample_weight)


def prepared(
    model: keras.Model, x: Data, y: Data, sample_weight: Data
) -> tuple[tf.Tensor | None, tf.Tensor | None, tf.Tensor | None]:
    """A batch as tensors, for a model that is built."""
    _check_batch(x, y, sample_weight)
    data = keras.tree.map_structure(_to_tensor, (x, y, sample_weight))
    check_input_shape(model, data[0])
    _build(model, data[0])
    return data


def _to_tensor(value: object) -> tf.Tensor | None:
    if value is None or tf.is_tensor(value):
        return value
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(keras.config.floatx())
    return tf.convert_to_tensor(array)


def _check_batch(*data: Data) -> None:
    lengths = [len(leaf) for leaf in keras.tree.flatten(data) if leaf is not None and len(np.shape(leaf))]
    if not lengths or min(lengths) == 0:
        raise InvalidArgument(
            f"The batch is empty: its arrays have lengths {lengths}. Pass at least one sample."
        )
    if len(set(lengths)) > 1:
        raise InvalidArgument(
            f"x and y must have the same length. Received arrays of lengths {lengths}. "
            f"Cut them to the same samples."
        )


def _build(model: keras.Model, x: Data) -> None:
    """Build a model that was never called, outside of any graph.

    Of what this changes only the seeds stay drawn that new layers took for their weights, as if training
    had built them: drawn once more, they would give the same weights to the next layer.
    """
    if model.built:
        return
    with state_restored(model):
        model(x)
        drawn = random.getstate()
    random.setstate(drawn)


@contextlib.contextmanager
def _clear_errors(model: keras.Model) -> Iterator[None]:
    """Say what is missing in our words, also where AutoGraph has wrapped them in its own."""
    try:
        yield
    except Exception as error:
        if isinstance(error.__context__, ModelNotReady):
            raise error.__context__ from None
        if not isinstance(error, ValueError) or "No loss to compute" not in str(error):
            raise
        raise ModelNotReady(
            f"The model {model.name!r} has no loss, so there is no gradient to explain. Call "
            f"`model.compile(loss=…)`, or add one with `add_loss`."
        ) from error


def _value_of(variable: keras.Variable) -> tf.Tensor | None:
    """What a variable holds; None before it has a value, as after a fit that failed."""
    value = tf.identity(variable.value)
    return value if value.shape == variable.value.shape else None


@contextlib.contextmanager
def state_restored(model: keras.Model) -> Iterator[None]:
    """Put back what a train step, or the building of a model, changes; random states too."""
    generator, python, losses = global_seed_generator(), random.getstate(), added_losses(model)
    noted = lists_noted(model)
    seeds = [] if generator is None else [generator.state]
    metrics = model.metrics_variables
    optimizers = [variable for optimizer in optimizers_of(model) for variable in optimizer.variables]
    # the states of a stateful layer, which Keras does not list among its variables
    recurrent = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN)]
    states = keras.tree.flatten([layer.states or [] for layer in recurrent])
    changing = (*model.variables, *metrics, *optimizers, *seeds, *states)
    before = [(v, value) for v in changing if (value := _value_of(v)) is not None]
    try:
        yield
    finally:
        if len(model.metrics_variables) > len(metrics):
            model.reset_metrics()
        for variable, value in before:
            # Keras' own assignment checks shape and dtype again, for a millisecond each
            variable.value.assign(value, read_value=False)
        if generator is None:
            forget_global_seed_generator()
        random.setstate(python)
        put_back_losses(losses)
        forget_lists_noted_again(noted)
