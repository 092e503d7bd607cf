"""What keeps a tensor or a gradient in the trace of a step."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import logits_behind, mask_of, replace_logits
from trainobs.capture.layers import Kind
from trainobs.capture.reading import LayerCall, ModelOutput, StepTrace
from trainobs.capture.step._apart import apart, is_float_tensor, readers_of


def received_by(args: Sequence[object], kwargs: dict[str, object]) -> list[tf.Tensor]:
    """The tensors that a gradient could flow through; where there is none, all that came."""
    tensors = [t for t in keras.tree.flatten((args, kwargs)) if tf.is_tensor(t)]
    return [t for t in tensors if is_float_tensor(t)] or tensors


def keep_operands(
    layer: keras.Layer, kind: Kind, record: LayerCall, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """Keep what the layer's kind asks for, and its weights as they are now."""
    operands = kind.operands(layer, args, kwargs)
    record.operands = {name: _as_tensor(value) for name, value in operands.items()}
    for name, variable in kind.variables(layer).items():
        wanted = variable is not None and kind.reads_weights
        record.weights[name] = tf.convert_to_tensor(variable) if wanted else None


def _as_tensor(value: object) -> tf.Tensor:
    return value if tf.is_tensor(value) else tf.convert_to_tensor(value)


def keep_outputs(trace: StepTrace, record: LayerCall, tensors: list[object]) -> None:
    """Keep what a call made, and ask for its gradients; what it hands back as it came is what it read."""
    record.returned = [tensor for tensor in tensors if tf.is_tensor(tensor)]
    for leaf, tensor in enumerate(tensors):
        if any(tensor is received for received in record.received):
            makers = (call for call in trace.calls if len(call.returned) == 1 and call.returned[0] is tensor)
            maker = next(makers, record)  # of the same tensor
            record.output_gradients, record.unused = maker.output_gradients, maker.unused
        elif is_float_tensor(tensor):
            trace.ask(tensor, record.output_gradients, leaf)


def kept_prediction(trace: StepTrace, tensor: object, sought: frozenset[str]) -> object:
    """Ask for the gradient of a prediction and, where the loss may read them instead, of its logits.

    What something else reads too is told apart by an identity of its own, for the loss to read.
    """
    if not is_float_tensor(tensor):
        return tensor
    output = ModelOutput(tensor, mask=mask_of(tensor))
    trace.outputs.append(output)
    logits = logits_behind(tensor, sought)
    own = apart(tensor, sought) if readers_of(trace, tensor) else tensor
    trace.ask(own, output.gradients)
    if logits is not None:
        own_logits = apart(logits) if readers_of(trace, logits) > 1 else logits
        trace.ask(own_logits, output.logits_gradients)
        if own_logits is not logits:
            replace_logits(own, own_logits)
    output.handed_on = own
    return own


def keep_targets(
    model: keras.Model, trace: StepTrace, y: object, y_pred: object, sample_weight: object
) -> None:
    """Keep what the loss is given for each output."""
    targets = _per_output(model, trace, y, y_pred)
    for output, target in zip(trace.outputs, targets, strict=False):
        output.target = target
    weights = _per_output(model, trace, sample_weight, y_pred)
    for output, weight in zip(trace.outputs, weights, strict=False):
        output.sample_weight = weight


def _per_output(
    model: keras.Model, trace: StepTrace, values: object, predictions: object
) -> list[tf.Tensor | None]:
    """The tensor for each output; none at all if there are more or fewer values than outputs."""
    found = _in_the_order_of_outputs(model, values, predictions)
    fits = len(found) == len(trace.outputs)
    return [value if tf.is_tensor(value) else None for value in found] if fits else []


def _in_the_order_of_outputs(model: keras.Model, values: object, predictions: object) -> list[object]:
    """Targets by name are listed as the model lists its outputs."""
    names = getattr(model, "output_names", None) or ()
    if isinstance(values, dict) and not isinstance(predictions, dict) and set(names) >= set(values):
        return [values.get(name) for name in names]
    return keras.tree.flatten(values)


def penalty_gradient(variable: keras.Variable) -> tf.Tensor | None:
    """Gradient of the variable's own regulariser, read before the update."""
    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return None
    value = tf.convert_to_tensor(variable)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(value)
        penalty = regularizer(value)
    return tape.gradient(penalty, value)
