"""Put the taps into a model for the length of a `with` block, and take every one out again."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture import _sites
from trainobs.capture._keras_internals import all_layers, logits_behind, replace_logits
from trainobs.capture._taps import gradient_tap, is_float_tensor
from trainobs.capture._trace import LayerCall, ModelOutput, StepTrace

_ABSENT = object()


class Patches:
    """Taps on one model's layers, output, loss and optimizers.

    Inside ``with patches.installed():`` calls go through the taps; they record only inside
    ``with patches.tracing() as trace:``, and only on the thread that entered it (a
    `tf.distribute` strategy runs a thread per replica over the same layer objects).

    Parameters
    ----------
    model : keras.Model
        The model whose step is recorded.
    withhold_update : bool
        Whether the optimizers' `apply` is kept from running.

    Attributes
    ----------
    activations : dict of int to (Activation, callable)
        By id of the layer, its activation function and what it does.
    """

    def __init__(self, model: keras.Model, *, withhold_update: bool = False) -> None:
        self._model = model
        self._withhold_update = withhold_update
        self._local = threading.local()
        self.activations: dict[int, tuple[Activation, Callable[[Any], Any]]] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Patch the model's objects; restore every one on the way out, also after an error."""
        self._describe_activations()
        with contextlib.ExitStack() as stack:
            for target, name, wrapper in self._wrappers():
                stack.enter_context(replaced(target, name, wrapper))
            yield

    @contextlib.contextmanager
    def tracing(self) -> Iterator[StepTrace]:
        """Record the calls that this thread makes inside the block."""
        trace = StepTrace(graph=_current_graph())
        self._local.trace = trace
        try:
            yield trace
        finally:
            del self._local.trace

    def _describe_activations(self) -> None:
        """Probe every activation function once, while it is the user's own and no graph is traced."""
        for node in _nodes(self._model):
            if id(node) not in self.activations and (_sites.linear_op(node) or _sites.is_activation(node)):
                function = _sites.activation_function(node)
                self.activations[id(node)] = _sites.describe_activation(node), function

    def _wrappers(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        for node in _nodes(self._model):
            yield node, "call", functools.partial(self._call, node)
            if _sites.linear_op(node) is not None and not _sites.is_linear(node):
                yield node, "activation", self._activation
        yield self._model, "call", self._model_call
        yield self._model, "compute_loss", self._compute_loss
        for optimizer in _optimizers(self._model):
            yield optimizer, "apply", self._apply
            yield optimizer, "scale_loss", self._scale_loss

    @property
    def _trace(self) -> StepTrace | None:
        return getattr(self._local, "trace", None)

    # Each method below stands in for one method or function of the user's model. `original` is
    # what it replaces; without an open trace it does nothing else.

    def _call(self, layer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trace = self._trace
        if trace is None or trace.graph is not _current_graph():
            return original(*args, **kwargs)  # inside a loop's body tensors can't be handed out
        record = trace.begin(layer, [t for t in keras.tree.flatten((args, kwargs)) if is_float_tensor(t)])
        try:
            if _sites.linear_op(layer) is not None:
                _keep_kernel(layer, record)
            outputs = original(*args, **kwargs)
        finally:
            trace.open_calls.pop()
        outputs = keras.tree.map_structure(lambda t: _tap_output(record, t), outputs)
        record.returned = [t for t in keras.tree.flatten(outputs) if tf.is_tensor(t)]
        return outputs

    def _activation(self, original: Callable[[Any], Any], preactivation: Any) -> Any:
        trace = self._trace
        if trace is None or not trace.open_calls or trace.graph is not _current_graph():
            return original(preactivation)
        return _tapped_activation(trace.open_calls[-1], original, preactivation)

    def _model_call(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        trace = self._trace
        if trace is None or trace.graph is not _current_graph():
            return outputs
        return keras.tree.map_structure(lambda t: _tap_model_output(trace, t), outputs)

    def _compute_loss(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        trace = self._trace
        if trace is not None:
            trace.loss = loss
            targets = keras.tree.flatten(kwargs["y"] if "y" in kwargs else args[1] if len(args) > 1 else None)
            if len(targets) == len(trace.outputs):
                for output, target in zip(trace.outputs, targets, strict=True):
                    output.target = target if tf.is_tensor(target) else None
        return loss

    def _scale_loss(self, original: Callable[[Any], Any], loss: Any) -> Any:
        trace = self._trace
        if trace is not None:
            trace.loss_scale = original(tf.ones((), tf.float32))
        return original(loss)

    def _apply(self, original: Callable[..., Any], grads: Any, trainable_variables: Any = None) -> Any:
        trace = self._trace
        if trace is not None:
            variables = trainable_variables or self._model.trainable_variables
            grads, variables = list(grads), list(variables)
            for variable, gradient in zip(variables, grads, strict=True):
                trace.variable_gradients[id(variable)] = gradient
                trace.penalty_gradients[id(variable)] = _penalty_gradient(variable)
            if self._withhold_update:
                return None
            return original(grads, variables)
        return original(grads, trainable_variables)


@contextlib.contextmanager
def replaced(target: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """Let ``target.name`` be `wrapper` around what it was.

    The instance's dictionary is written directly: Keras' attribute tracking sees nothing.
    """
    original = getattr(target, name)
    attributes = vars(target)
    before = attributes.get(name, _ABSENT)
    attributes[name] = functools.wraps(original)(functools.partial(wrapper, original))
    try:
        yield
    finally:
        if before is _ABSENT:
            del attributes[name]
        else:
            attributes[name] = before


def _current_graph() -> Any:
    """The graph that is being traced, None when executing eagerly."""
    return tf.compat.v1.get_default_graph() if tf.inside_function() else None


def _nodes(model: keras.Model) -> list[Any]:
    """Layers without sublayers, and the operations of functional models that are no layers.

    A layer that another one uses as its activation function is a part of that one.
    """
    layers = all_layers(model)
    inner = {id(layer.activation) for layer in layers if _sites.linear_op(layer) is not None}
    leaves = [
        layer
        for layer in layers
        if id(layer) not in inner and (_sites.linear_op(layer) is not None or not all_layers(layer))
    ]
    operations = [
        operation
        for part in (model, *layers)
        for operation in (
            part.operations if isinstance(part, keras.Model) and hasattr(part, "operations") else ()
        )
        if not isinstance(operation, keras.layers.Layer)
    ]
    nodes = {id(node): node for node in (*leaves, *operations) if not isinstance(node, _PASSIVE)}
    return list(nodes.values())


_PASSIVE = (keras.layers.InputLayer, keras.Model)


def _optimizers(model: keras.Model) -> list[Any]:
    return [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]


def _tap_output(record: LayerCall, tensor: Any) -> Any:
    return gradient_tap(tensor, _keeper(record, "output_gradient"))


def _keeper(record: LayerCall | ModelOutput, name: str) -> Callable[[Any], None]:
    """What puts a gradient into a field of the trace, as long as there is one.

    TensorFlow never forgets the gradient function of a `tf.custom_gradient` that was traced. A
    strong reference would keep the layers, and so the weights, of every captured model alive.
    """
    reference = weakref.ref(record)

    def keep(gradient: Any) -> None:
        if (record := reference()) is not None:
            setattr(record, name, gradient)

    return keep


def _tap_model_output(trace: StepTrace, tensor: Any) -> Any:
    """Tap the prediction and, where the loss may read them instead, the logits behind it."""
    if not is_float_tensor(tensor):
        return tensor
    output = ModelOutput(tensor)
    trace.outputs.append(output)

    tapped = gradient_tap(tensor, _keeper(output, "gradient"))
    logits = logits_behind(tensor)
    if logits is not None:
        replace_logits(tapped, gradient_tap(logits, _keeper(output, "logits_gradient")))
    return tapped


def _keep_kernel(layer: Any, record: LayerCall) -> None:
    record.kernel = tf.convert_to_tensor(layer.kernel)
    record.bias = None if layer.bias is None else tf.convert_to_tensor(layer.bias)


def _penalty_gradient(variable: Any) -> Any:
    """Gradient of the variable's own regulariser, read before the update."""
    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return None
    value = tf.convert_to_tensor(variable)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(value)
        penalty = regularizer(value)
    return tape.gradient(penalty, value)


def _tapped_activation(record: LayerCall, function: Callable[[Any], Any], preactivation: Any) -> Any:
    return function(gradient_tap(preactivation, _keeper(record, "preactivation_gradient")))
