"""Put the taps into a model for the length of a `with` block, and take every one out again."""

from __future__ import annotations

import concurrent.futures
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
from trainobs.capture._keras_internals import (
    all_layers,
    logits_behind,
    ops_sought_by,
    replace_logits,
)
from trainobs.capture._taps import gradient_tap, is_float_tensor
from trainobs.capture._trace import LayerCall, ModelOutput, StepTrace
from trainobs.errors import ModelNotReady

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
    losses : list
        Its compiled losses, as objects.
    withhold_update : bool
        Whether the optimizers' `apply` is kept from running.

    Attributes
    ----------
    activations : dict of int to (Activation, callable)
        By id of the layer, its activation function and what it does.
    """

    def __init__(self, model: keras.Model, losses: list[Any], *, withhold_update: bool = False) -> None:
        self._model = model
        self._sought = ops_sought_by(losses)
        self._withhold_update = withhold_update
        self._local = threading.local()
        self._lock, self._users = threading.RLock(), 0
        self._stack = contextlib.ExitStack()
        self._patched: set[int] = set()
        self.activations: dict[int, tuple[Activation, Callable[[Any], Any]]] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Patch the model's objects; restore every one on the way out, also after an error.

        Replica threads share the patches: the last one that leaves takes them out.
        """
        with self._lock:
            if not self._users:
                self._install()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._stack.close()

    def _install(self) -> None:
        self._patched = set()
        with contextlib.ExitStack() as self._stack:
            self._patch_layers()
            for target, name, wrapper in self._wrappers():
                self._stack.enter_context(replaced(target, name, wrapper))
            self._stack = self._stack.pop_all()

    @contextlib.contextmanager
    def tracing(self) -> Iterator[StepTrace]:
        """Record the calls that this thread makes inside the block."""
        trace = StepTrace(graph=_current_graph())
        self._local.trace = trace
        try:
            yield trace
        finally:
            del self._local.trace

    def _patch_layers(self) -> None:
        """Patch the layers there are; called again where a layer's `build` has made new ones."""
        for node in _nodes(self._model):
            if id(node) not in self._patched:
                self._patched.add(id(node))
                self._describe_activation(node)
                call = functools.partial(self._call, node)
                self._stack.enter_context(replaced(node, "call", call))
                if _sites.linear_op(node) is not None and not _sites.is_linear(node):
                    self._patched.add(id(node.activation))  # a layer there is a part of this one
                    self._stack.enter_context(replaced(node, "activation", self._activation))

    def _describe_activation(self, node: Any) -> None:
        """Probe an activation function once, while it is the user's own, and outside of any graph."""
        if id(node) not in self.activations and (_sites.linear_op(node) or _sites.is_activation(node)):
            function = _sites.activation_function(node)
            # a thread of its own is in no graph and under no tape, whatever this one is tracing
            with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:
                activation = elsewhere.submit(_sites.describe_activation, node).result()
            self.activations[id(node)] = activation, function

    def _wrappers(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        yield self._model, "call", self._model_call
        yield self._model, "compute_loss", self._compute_loss
        for optimizer in optimizers_of(self._model):
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
        if _has_parts(layer):  # its `build` has just made them
            self._patch_layers()
            return in_this_graph(original)(*args, **kwargs)
        received = keras.tree.flatten((args, kwargs))
        record = trace.begin(layer, [t for t in received if is_float_tensor(t)])
        try:
            if _sites.linear_op(layer) is not None:
                _keep_operands(layer, received[0], record)
            outputs = in_this_graph(original)(*args, **kwargs)
        finally:
            trace.open_calls.pop()
        outputs = keras.tree.map_structure(lambda t: self._tap_output(record, t), outputs)
        record.returned = [t for t in keras.tree.flatten(outputs) if tf.is_tensor(t)]
        return outputs

    def _activation(self, original: Callable[[Any], Any], preactivation: Any) -> Any:
        trace = self._trace
        if trace is None or not trace.open_calls or trace.graph is not _current_graph():
            return original(preactivation)
        return _tapped_activation(trace.open_calls[-1], original, preactivation)

    def _model_call(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trace = self._trace
        if trace is None or trace.graph is not _current_graph():
            return original(*args, **kwargs)
        self._patch_layers()
        outputs = in_this_graph(original)(*args, **kwargs)
        return keras.tree.map_structure(lambda t: self._tap_model_output(trace, t), outputs)

    def _compute_loss(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        trace = self._trace
        if trace is not None and trace.graph is _current_graph():
            trace.loss = loss
            given = dict(zip(("x", "y", "y_pred"), args, strict=False)) | kwargs
            targets = self._in_the_order_of_outputs(given.get("y"), given.get("y_pred"))
            if len(targets) == len(trace.outputs):
                for output, target in zip(trace.outputs, targets, strict=True):
                    output.target = target if tf.is_tensor(target) else None
        return loss

    def _in_the_order_of_outputs(self, targets: Any, predictions: Any) -> list[Any]:
        """Targets by name are listed as the model lists its outputs."""
        names = getattr(self._model, "output_names", None) or ()
        if isinstance(targets, dict) and not isinstance(predictions, dict) and set(names) >= set(targets):
            return [targets.get(name) for name in names]
        return keras.tree.flatten(targets)

    def _scale_loss(self, original: Callable[[Any], Any], loss: Any) -> Any:
        trace = self._trace
        if trace is not None and trace.graph is _current_graph():
            one = tf.ones((), tf.float32)
            scale = original(one)
            trace.loss_scale = None if scale is one else scale
        return original(loss)

    def _apply(self, original: Callable[..., Any], grads: Any, trainable_variables: Any = None) -> Any:
        trace = self._trace
        if trace is None:
            return original(grads, trainable_variables)
        variables = list(trainable_variables or self._model.trainable_variables)
        grads = list(grads)
        if all(getattr(gradient, "graph", trace.graph) is trace.graph for gradient in grads):
            with contextlib.nullcontext() if trace.graph is None else trace.graph.as_default():
                for variable, gradient in zip(variables, grads, strict=True):
                    trace.variable_gradients[id(variable)] = gradient
                    trace.penalty_gradients[id(variable)] = _penalty_gradient(variable)
        elif self._withhold_update:  # TensorFlow would keep the trace, and never update again
            raise ModelNotReady(
                f"The train step of {self._model.name!r} updates its weights inside a tf.function of its "
                f"own, where the update can't be withheld. Remove that @tf.function: Keras compiles the "
                f"train step anyway."
            )
        return None if self._withhold_update else original(grads, variables)

    def _tap_output(self, record: LayerCall, tensor: Any) -> Any:
        return gradient_tap(tensor, _keeper(record, "output_gradient"), self._sought)

    def _tap_model_output(self, trace: StepTrace, tensor: Any) -> Any:
        """Tap the prediction and, where the loss may read them instead, the logits behind it."""
        if not is_float_tensor(tensor):
            return tensor
        output = ModelOutput(tensor)
        trace.outputs.append(output)
        tapped = gradient_tap(tensor, _keeper(output, "gradient"), self._sought)
        logits = logits_behind(tensor, self._sought)
        if logits is not None:
            replace_logits(tapped, gradient_tap(logits, _keeper(output, "logits_gradient")))
        return tapped


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
    leaves = [layer for layer in layers if id(layer) not in inner and not _has_parts(layer)]
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


def _has_parts(layer: Any) -> bool:
    return (
        isinstance(layer, keras.layers.Layer) and _sites.linear_op(layer) is None and bool(all_layers(layer))
    )


def in_this_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """A user's `tf.function`, to be a part of what is traced: its own graph would hand nothing out."""
    python = getattr(function, "python_function", None)
    if python is None:
        return function
    try:
        return tf.autograph.to_graph(python) if tf.inside_function() else python
    except Exception:  # without its source, `tf.function` takes it as it is too
        return python


def optimizers_of(model: keras.Model) -> list[Any]:
    """Optimizers that the model holds, also in lists and dictionaries."""
    found, todo = {}, list(vars(model).values())
    while todo:
        value = todo.pop()
        if isinstance(value, keras.optimizers.Optimizer):
            found[id(value)] = value
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, dict):
            todo.extend(value.values())
    return list(found.values())


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


def _keep_operands(layer: Any, input: Any, record: LayerCall) -> None:
    dense = tf.sparse.to_dense(input) if isinstance(input, tf.SparseTensor) else input
    record.kernel = tf.convert_to_tensor(layer.kernel)
    record.input = dense if dense.dtype.is_floating else tf.cast(dense, record.kernel.dtype)
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
