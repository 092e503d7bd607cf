"""Trainings that differ by what is given to `compile` and `fit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.capture.zoo._ground import (
    BATCH,
    SAMPLES,
    STEPS,
    Training,
    batches,
    compiled,
    digits,
    flat,
    net,
    problem,
)

layers = keras.layers


@problem
def regularizers() -> Training:
    """Penalties on kernel, bias and activity, and a constraint."""
    hidden = layers.Dense(
        12, "relu", kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2"
    )
    head = layers.Dense(10, kernel_constraint="max_norm")
    return compiled(keras.Sequential([keras.Input((64,)), hidden, head])), flat()


@problem
def sample_weights_and_validation() -> Training:
    """Weighted metrics, and an evaluation between the epochs."""
    x, y = digits()
    model = compiled(
        net(layers.Dropout(0.2), layers.Dense(10)), metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    return model, flat(sample_weight=(1 + y / 10).astype("float32"), validation_data=(x[:20], y[:20]))


@problem
def class_weights() -> Training:
    """Weights made inside the pipeline."""
    return compiled(net()), flat(class_weight={label: 1 + label / 10 for label in range(10)})


def _three_ways(**settings: Any) -> Training:
    """What one layer puts out goes on by ways of one, two and three layers, and into a penalty.

    The sum of the gradients that come back depends on which comes first.
    """
    images = keras.Input((64,))
    hidden = layers.Dense(12, "tanh", kernel_regularizer=keras.regularizers.OrthogonalRegularizer(1e-2))(
        images
    )
    two, three = layers.Dense(12, "tanh")(hidden), layers.Dense(12, "relu")(hidden)
    ways = [hidden, layers.Dense(12)(two), layers.Dense(12)(layers.Dense(12, "tanh")(three))]
    model = keras.Model(images, layers.Dense(10)(layers.Add()(ways)))
    return compiled(model, **settings), flat()


@problem
def ways_of_three_lengths() -> Training:
    """Sums of three gradients, in a graph."""
    return _three_ways()


@problem
def ways_of_three_lengths_in_eager_code() -> Training:
    """And without one, where the tape alone says which gradient comes first."""
    return _three_ways(run_eagerly=True)


@problem
def eager() -> Training:
    """No graph at all."""
    tail = layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(10, "softmax")
    return compiled(net(*tail), "sparse_categorical_crossentropy", run_eagerly=True), flat()


@problem
def several_steps_per_execution() -> Training:
    """Steps inside a loop; the last execution of an epoch is ragged."""
    return compiled(net(layers.Dropout(0.2), layers.Dense(10)), steps_per_execution=4), flat()


@problem
def half_precision() -> Training:
    """A scaled loss."""
    keras.config.set_dtype_policy("mixed_float16")
    model = net(layers.Dropout(0.2), layers.Dense(10, dtype="float32"))
    keras.config.set_dtype_policy("float32")
    return compiled(model), flat()


@problem
def clipped_by_norm() -> Training:
    """Gradients changed between the tape and the update."""
    return compiled(net(), optimizer=keras.optimizers.Adam(0.01, clipnorm=0.1)), flat()


@problem
def moving_average_of_weights() -> Training:
    """An optimizer that overwrites weights."""
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
    return compiled(net(), optimizer=optimizer), flat()


@problem
def gradient_accumulation() -> Training:
    """An optimizer that updates every second step."""
    model = net(layers.Dense(10, kernel_regularizer="l2"))
    return compiled(model, optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)), flat()


@problem
def decayed_learning_rate() -> Training:
    """A learning rate that reads the step, and weight decay."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return compiled(net(), optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.1)), flat()


@problem
def dataset_with_ragged_end() -> Training:
    """A shuffled dataset."""
    data = tf.data.Dataset.from_tensor_slices(digits()).shuffle(SAMPLES, seed=3).batch(BATCH)
    return compiled(net(layers.Dropout(0.2), layers.Dense(10))), {"x": data}


@problem
def sparse_dataset() -> Training:
    """A kernel that multiplies a sparse tensor."""
    data = tf.data.Dataset.from_tensor_slices(digits()).batch(BATCH)
    data = data.map(lambda x, y: (tf.sparse.from_dense(x), y))
    inputs = keras.Input((64,), sparse=True)
    return compiled(keras.Model(inputs, layers.Dense(10)(inputs))), {"x": data}


@problem
def generator() -> Training:
    """Batches from Python, without end."""

    def endless() -> Iterator[Any]:
        while True:
            yield from batches()

    return compiled(net()), {"x": endless(), "steps_per_epoch": STEPS}


@problem
def clipped_by_value() -> Training:
    """Each element of a gradient is cut off."""
    return compiled(net(), optimizer=keras.optimizers.SGD(0.1, clipvalue=0.003)), flat()


@problem
def brain_float() -> Training:
    """Half precision without a scaled loss."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = net(layers.LayerNormalization(), layers.Dropout(0.2), layers.Dense(10, dtype="float32"))
    keras.config.set_dtype_policy("float32")
    return compiled(model), flat()


@problem
def loss_scale_of_the_users() -> Training:
    """A loss scale that grows within the training, in single precision."""
    inner = keras.optimizers.Adam(0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=64.0, dynamic_growth_steps=4)
    return compiled(net(), optimizer=optimizer), flat()


@problem
def endless_dataset() -> Training:
    """Data that repeat, mapped by random numbers of TensorFlow's."""
    data = tf.data.Dataset.from_tensor_slices(digits()).repeat().batch(BATCH).prefetch(2)
    return compiled(net(layers.Dropout(0.2), layers.Dense(10))), {"x": data, "steps_per_epoch": STEPS}


@problem
def weights_of_samples_and_outputs() -> Training:
    """Sample weights for each output, in a dataset, some of them 0."""
    x, y = digits()
    inputs = keras.Input((64,))
    hidden = layers.Dense(8, "relu")(inputs)
    outputs = {"digit": layers.Dense(10, name="digit")(hidden), "size": layers.Dense(1, name="size")(hidden)}
    losses = {"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mae"}
    model = compiled(keras.Model(inputs, outputs), losses, loss_weights={"digit": 1.0, "size": 0.1})
    targets = {"digit": y, "size": x.sum(1, keepdims=True)}
    weights = {"digit": (y % 3).astype("float32"), "size": np.ones(SAMPLES, "float32")}
    data = tf.data.Dataset.from_tensor_slices((x, targets, weights)).batch(BATCH)
    return model, {"x": data}
