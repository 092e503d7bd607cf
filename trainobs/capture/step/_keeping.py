"""What keeps a tensor or a gradient in the trace of a step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import logits_behind, mask_of, replace_logits
from trainobs.capture.layers import Kind
from trainobs.capture.reading import LayerCall, ModelOutput, StepTrace
from trainobs.capture.step._taps import gradient_tap, is_float_tensor


def keeper(
    trace: StepTrace, record: LayerCall | ModelOutput, name: str, leaf: int = 0
) -> Callable[[tf.Tensor], None]:
    """What keeps a gradient in a field of the trace, as long as there is one.

    TensorFlow never forgets the gradient function of a `tf.custom_gradient` that was traced. A
    strong reference would keep the layers, and so the weights, of every captured model alive.
    """
    references = weakref.ref(trace), weakref.ref(record)

    def keep(gradient: tf.Tensor) -> None:
        trace, record = references[0](), references[1]()
        if trace is not None and record is not None:
            getattr(record, name)[trace.current_pass, leaf] = gradient

    return keep


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


def tapped_output(
    trace: StepTrace, record: LayerCall, leaf: int, tensor: object, sought: frozenset[str]
) -> object:
    """Tap what the call made; what it hands back as it came is what it read (see `gradient_tap`)."""
    if any(tensor is received for received in record.received):
        makers = (call for call in trace.calls if len(call.returned) == 1 and call.returned[0] is tensor)
        maker = next(makers, record)  # of the same tensor
        record.output_gradients, record.unused = maker.output_gradients, maker.unused
        return tensor
    return gradient_tap(tensor, keeper(trace, record, "output_gradients", leaf), sought)


def tapped_prediction(trace: StepTrace, tensor: object, sought: frozenset[str]) -> object:
    """Tap the prediction and, where the loss may read them instead, the logits behind it."""
    if not is_float_tensor(tensor):
        return tensor
    output = ModelOutput(tensor, mask=mask_of(tensor))
    trace.outputs.append(output)
    tapped = gradient_tap(tensor, keeper(trace, output, "gradients"), sought)
    logits = logits_behind(tensor, sought)
    if logits is not None:
        replace_logits(tapped, gradient_tap(logits, keeper(trace, output, "logits_gradients")))
    output.handed_on = tapped
    return tapped


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
