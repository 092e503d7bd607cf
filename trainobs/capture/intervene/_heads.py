"""Another way from the output layer to the loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from trainobs.capture.inside import is_floating
from trainobs.capture.intervene._not_in_place import NotInPlace
from trainobs.capture.layers import has_activation, is_activation
from trainobs.capture.step import replaced

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def under_squared_error(
    model: keras.Model, node: keras.Operation
) -> contextlib.AbstractContextManager[object]:
    """Half of the squared distance between a linear output and the targets is the loss."""
    return _with_loss(model, node, _squared_error)


def reading_logits(model: keras.Model, node: keras.Operation) -> contextlib.AbstractContextManager[object]:
    """A crossentropy reads the linear output as logits: that over classes, if there are several units."""
    return _with_loss(model, node, _crossentropy)


@contextlib.contextmanager
def _with_loss(model: keras.Model, node: keras.Operation, loss: Loss) -> Iterator[None]:
    if len(keras.tree.flatten(model.loss)) != 1:
        raise NotInPlace("the model has several losses, or none that was compiled")
    used: list[bool] = []

    def compute(original: Callable[..., object], *args: object, **kwargs: object) -> tf.Tensor:
        given = dict(zip(("x", "y", "y_pred", "sample_weight"), args, strict=False)) | kwargs
        y, y_pred = given.get("y"), given.get("y_pred")
        if not (tf.is_tensor(y) and is_floating(y_pred)):
            raise NotInPlace("targets or predictions are not one tensor")
        used.append(True)
        return tf.add_n([tf.reduce_mean(loss(y, y_pred)), *(tf.reduce_sum(part) for part in model.losses)])

    with _linear(node), replaced(model, "compute_loss", compute):
        yield
    if not used:
        raise NotInPlace("the train step does not use `compute_loss`")


def _linear(node: keras.Operation) -> contextlib.AbstractContextManager[object]:
    if has_activation(node):
        return replaced(node, "activation", lambda original, z: z)
    if is_activation(node):
        return replaced(node, "call", lambda original, z, *args, **kwargs: z)
    return contextlib.nullcontext()


def _squared_error(y: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    target = (
        tf.reshape(tf.cast(y, y_pred.dtype), y_pred.shape) if _same_size(y, y_pred) else _one_hot(y, y_pred)
    )
    return tf.reduce_sum(tf.square(y_pred - target), axis=-1) / 2


def _crossentropy(y: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    if not _same_size(y, y_pred):
        return tf.nn.softmax_cross_entropy_with_logits(_one_hot(y, y_pred), y_pred)
    target = tf.reshape(tf.cast(y, y_pred.dtype), y_pred.shape)
    if y_pred.shape[-1] == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(target, y_pred)
    return tf.nn.softmax_cross_entropy_with_logits(target, y_pred)


def _same_size(y: tf.Tensor, y_pred: tf.Tensor) -> bool:
    return int(tf.size(y)) == int(tf.size(y_pred))


def _one_hot(y: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Numbers of classes as targets for each class."""
    if int(tf.size(y)) * y_pred.shape[-1] != int(tf.size(y_pred)):
        raise NotInPlace("targets and predictions have other shapes")
    numbers = tf.reshape(tf.cast(y, tf.int32), y_pred.shape[:-1])
    return tf.one_hot(numbers, y_pred.shape[-1], dtype=y_pred.dtype)
