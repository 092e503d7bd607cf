"""Every private Keras name that trainobs uses, with the reason. Tested on Keras 3.8 and 3.15.

* ``Layer._flatten_layers``: Keras has no public way to list sublayers of a layer that is no Model
  (public `Model.layers` stops at direct children).
* ``Layer._losses``: what the layer's last call gave to `add_loss`; `Layer.losses` has it mixed with
  penalties of weights, and there is no public way to put it back.
* ``Layer._tracked``: names of attributes that held a list. Keras adds a name whenever a list is put
  there, which cells with dropout do at every trace with their masks.
* ``_keras_logits`` and ``_keras_mask``: attributes that Keras hangs on tensors. Losses read the
  logits behind a softmax or sigmoid from the first, layers find masks in the second; an identity
  op that does not carry them on changes training.
* ``keras.src.backend.common.global_state``: where the generator behind `keras.random.*` calls
  without a seed is kept; needed to put it back after a batch was captured, without making one.
* The class of ConvLSTM layers' cells, which is not exported; ``RNN.inner_loop``, the loop over time in
  whose place ours is put when a recurrent layer is replayed; the cells' cached dropout masks, which
  decide what the weights multiplied; and the methods that a known layer or cell must not override.
* ``_keras_call_info_injected``: or Keras makes another error of ours, with more words.
* ``_self_setattr_tracking``: or TensorFlow wraps lists that are assigned to a layer for a while.
* ``KerasTensor._keras_history``: who made a tensor of a functional model.
* ``_key_dense`` of attention layers: GroupQueryAttention has no public name for it.
* ``keras.src.ops``: the classes of operations in functional models are not exported.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell
from keras.src.ops import core, nn, numpy

_SEED_GENERATOR = "global_seed_generator"

CONV_LSTM_CELL = ConvLSTMCell
LOOP_OVER_TIME = "inner_loop"
#: An error with this attribute is handed on as it is: Keras adds to the message of others.
HANDED_ON = "_keras_call_info_injected"
#: False makes Keras and TensorFlow leave an object's attributes alone as they are assigned.
TRACKS_ATTRIBUTES = "_self_setattr_tracking"
DROPOUT_MASKS = ("_dropout_mask", "_recurrent_dropout_mask")
#: What a class must not have overridden for us to know what it does.
RECURRENT_METHODS = (
    *("__call__", "call", "inner_loop", "_maybe_config_dropout_masks", "_maybe_reset_dropout_masks"),
    *("get_dropout_mask", "get_recurrent_dropout_mask", "_create_dropout_mask"),
    *("_compute_carry_and_output", "_compute_carry_and_output_fused", "input_conv", "recurrent_conv"),
)

#: Operations that no gradient passes: they stop it, round, compare or count.
CUTTING_OPERATIONS: tuple[type[keras.Operation], ...] = (
    *(core.StopGradient, nn.OneHot, numpy.Argmax, numpy.Argmin, numpy.Argsort),
    *(numpy.Sign, numpy.Round, numpy.Floor, numpy.Ceil),
    *(numpy.Greater, numpy.GreaterEqual, numpy.Less, numpy.LessEqual, numpy.Equal, numpy.NotEqual),
)

#: Which TensorFlow op Keras' losses look for right behind a prediction: in a graph they read the
#: input of that op, the logits, in place of its output.
_SOUGHT_OPS = {
    keras.losses.categorical_crossentropy: "Softmax",
    keras.losses.sparse_categorical_crossentropy: "Softmax",
    keras.losses.categorical_focal_crossentropy: "Softmax",
    keras.losses.binary_crossentropy: "Sigmoid",
    keras.losses.binary_focal_crossentropy: "Sigmoid",
}


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer below `model` (or below a layer), each once."""
    return model._flatten_layers(include_self=False)


def added_losses(model: keras.Model) -> list[tuple[keras.Layer, list[object]]]:
    """What the last call of the model and of every layer in it gave to `add_loss`."""
    return [(layer, [*layer._losses]) for layer in (model, *all_layers(model))]


def adds_loss(layer: keras.Operation) -> bool:
    """Whether a layer's last call gave something to `add_loss`, or has its output penalised."""
    return bool(getattr(layer, "_losses", ())) or getattr(layer, "activity_regularizer", None) is not None


def put_back_losses(losses: list[tuple[keras.Layer, list[object]]]) -> None:
    """Undo what later calls have changed of `added_losses`."""
    for layer, added in losses:
        layer._losses.clear()
        layer._losses.extend(added)


def lists_noted(model: keras.Model) -> list[tuple[list[str], list[str]]]:
    """For the model and every layer in it: Keras' own list of which attributes held a list, and a copy."""
    noted = (layer._tracked for layer in (model, *all_layers(model)))
    return [(names, [*names]) for names in noted]


def forget_lists_noted_again(noted: list[tuple[list[str], list[str]]]) -> None:
    """Undo what later calls have added to `lists_noted`, but for attributes that are new."""
    for names, before in noted:
        added = dict.fromkeys(names[len(before) :])
        names[:] = [*before, *(name for name in added if name not in before)]


def ops_sought_by(losses: Sequence[object]) -> frozenset[str]:
    """The types of op that losses look for behind a prediction.

    A user's own loss, or one that is not given to `compile`, may call any of Keras'.
    """
    any_op = frozenset(_SOUGHT_OPS.values())
    sought: set[str] = set()
    for loss in losses:
        function = getattr(loss, "fn", loss)  # Keras' loss classes wrap its functions
        if function in _SOUGHT_OPS:
            sought.add(_SOUGHT_OPS[function])
        elif not function.__module__.startswith("keras."):
            return any_op
    return frozenset(sought) if losses else any_op


def logits_behind(tensor: tf.Tensor, sought: frozenset[str]) -> tf.Tensor | None:
    """The logits that a Keras loss would read instead of `tensor`, or None.

    Keras looks at the attribute first and, in a graph, at the op that made the tensor.
    """
    logits = getattr(tensor, "_keras_logits", None)
    if logits is None and tf.is_symbolic_tensor(tensor) and tensor.op.type in sought:
        logits = tensor.op.inputs[0]
    return logits


def carry_attributes(source: tf.Tensor, target: tf.Tensor, sought: frozenset[str]) -> None:
    """Hang what Keras hung on `source`, or would find behind it, on `target`, an identical tensor."""
    logits = logits_behind(source, sought)
    if logits is not None:
        target._keras_logits = logits
    mask = mask_of(source)
    if mask is not None:
        target._keras_mask = mask


def mask_of(tensor: tf.Tensor) -> tf.Tensor | None:
    """Which positions of a prediction count: Keras' losses leave the others out."""
    return getattr(tensor, "_keras_mask", None)


def forget_mask(tensor: object) -> object:
    """Let every position of a prediction count."""
    if isinstance(tensor, tf.Tensor) and mask_of(tensor) is not None:
        tensor._keras_mask = None
    return tensor


def replace_logits(tensor: tf.Tensor, logits: tf.Tensor) -> None:
    """Make a loss read `logits` in place of those behind `tensor`."""
    tensor._keras_logits = logits


def global_seed_generator() -> keras.random.SeedGenerator | None:
    """What `keras.random` calls without a seed draw from; None as long as there was no such call."""
    return global_state.get_global_attribute(_SEED_GENERATOR)


def forget_global_seed_generator() -> None:
    """Let the next `keras.random` call without a seed make its generator."""
    global_state.set_global_attribute(_SEED_GENERATOR, None)


def maker_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or operation of a functional model that makes a symbolic tensor."""
    return tensor._keras_history.operation


def key_projection(attention: keras.Layer) -> keras.Layer:
    """The layer with which an attention makes its keys."""
    return attention._key_dense


def casts_to(operation: keras.Operation) -> str | None:
    """The type that a cast gives its input; None of any other operation."""
    return operation.dtype if isinstance(operation, core.Cast) else None
