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
from trainobs.capture._keras_internals import (
    logits_behind,
    mask_of,
    ops_sought_by,
    replace_logits,
)
from trainobs.capture.layers import (
    Kind,
    activation_function,
    describe_activation,
    has_activation,
    is_activation,
    kind_of,
)
from trainobs.capture.reading import LayerCall, ModelOutput, StepTrace
from trainobs.capture.step._parts_of_models import has_parts, nodes_of, optimizers_of
from trainobs.capture.step._replacing import current_graph, in_this_graph, replaced
from trainobs.capture.step._taps import gradient_tap, is_float_tensor
from trainobs.errors import ModelNotReady


class Patches:
    """Taps on the layers, outputs, losses and optimizers of one or more models.

    Inside ``with patches.installed():`` calls go through the taps; they record only inside
    ``with patches.tracing() as trace:``, and only on the thread that entered it (a
    `tf.distribute` strategy runs a thread per replica over the same layer objects).

    Parameters
    ----------
    models : list of keras.Model
        The models whose step is recorded.
    losses : list
        Their compiled losses, as objects.
    withhold_update : bool
        Whether the optimizers' `apply` is kept from running.
    on_pass : callable, optional
        Called with the trace after each pass that differentiated weights. With it, calls in graphs
        that are traced inside of the block have traces of their own (see `watch`).

    Attributes
    ----------
    activations : dict of int to (Activation, callable)
        By id of the layer, its activation function and what it does.
    """

    def __init__(
        self,
        models: list[keras.Model],
        losses: list[Any],
        *,
        withhold_update: bool = False,
        on_pass: Callable[[StepTrace], None] | None = None,
    ) -> None:
        self._models = models
        self._on_pass = on_pass
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
    def tracing(self, *, here: bool = True) -> Iterator[StepTrace]:
        """Record the calls that this thread makes inside the block.

        Not `here`: only those in graphs that are traced inside of it.
        """
        trace = StepTrace(graph=current_graph())
        self._local.traces = {id(trace.graph): trace if here else None}
        self._local.trace = trace if here else None
        self._local.tapes = []
        try:
            yield trace
        finally:
            del self._local.trace, self._local.traces, self._local.tapes

    def _patch_layers(self) -> None:
        """Patch the layers there are; called again where a layer's `build` has made new ones."""
        for node in (node for model in self._models for node in nodes_of(model)):
            if id(node) not in self._patched:
                self._patched.add(id(node))
                self._describe_activation(node)
                call = functools.partial(self._call, node)
                self._stack.enter_context(replaced(node, "call", call))
                if has_activation(node):
                    self._patched.add(id(node.activation))  # a layer there is a part of this one
                    self._stack.enter_context(replaced(node, "activation", self._activation))

    def _describe_activation(self, node: Any) -> None:
        """Probe an activation function once, while it is the user's own, and outside of any graph."""
        if id(node) not in self.activations and (has_activation(node) or is_activation(node)):
            function = activation_function(node)
            # a thread of its own is in no graph and under no tape, whatever this one is tracing
            with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:
                activation = elsewhere.submit(describe_activation, node).result()
            self.activations[id(node)] = activation, function

    def _wrappers(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        for model in self._models:
            yield model, "call", functools.partial(self._model_call, model)
            yield model, "compute_loss", functools.partial(self._compute_loss, model)
            for optimizer in optimizers_of(model):
                yield optimizer, "apply", self._apply
                yield optimizer, "scale_loss", self._scale_loss
        yield tf.GradientTape, "gradient", self._gradient
        if self._on_pass is not None:  # the optimizer of a hand-written loop is not the model's
            yield keras.optimizers.LossScaleOptimizer, "scale_loss", self._scale_any_loss
            yield tf.GradientTape, "__enter__", self._enter_tape
            yield tf.GradientTape, "__exit__", self._exit_tape

    @property
    def _trace(self) -> StepTrace | None:
        return getattr(self._local, "trace", None)

    @property
    def _tapes(self) -> list[Any] | None:
        """The graphs in which open tapes were opened."""
        return getattr(self._local, "tapes", None)

    @property
    def _trace_here(self) -> StepTrace | None:
        """The trace that calls belong to right now: none where tensors can't be handed out."""
        graph, traces = current_graph(), getattr(self._local, "traces", None)
        if traces is None or id(graph) in traces:
            return None if traces is None else traces[id(graph)]
        if self._on_pass is None or graph is None:
            return None  # inside a loop's body, say
        if any(own is not graph for own in self._local.tapes):
            return None  # differentiated from outside of this graph
        return traces.setdefault(id(graph), StepTrace(graph=graph))

    # Each method below stands in for one method or function of the user's model. `original` is
    # what it replaces; without an open trace it does nothing else.

    def _call(self, layer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trace = self._trace_here
        if trace is None:
            return original(*args, **kwargs)
        if has_parts(layer):  # its `build` has just made them
            self._patch_layers()
            trace.open_composites.append(layer)
            try:
                return in_this_graph(original)(*args, **kwargs)
            finally:
                trace.open_composites.pop()
        kind = kind_of(layer)
        record = trace.begin(layer, kind, _received((args, kwargs)))
        try:
            if kind is not None:
                _keep_operands(layer, kind, record, args, kwargs)
            outputs = in_this_graph(original)(*args, **kwargs)
        finally:
            trace.open_calls.pop()
        leaves = [self._tap_output(trace, record, i, t) for i, t in enumerate(keras.tree.flatten(outputs))]
        record.returned = [t for t in leaves if tf.is_tensor(t)]
        return keras.tree.pack_sequence_as(outputs, leaves)

    def _activation(self, original: Callable[[Any], Any], preactivation: Any) -> Any:
        trace = self._trace_here
        if trace is None or not trace.open_calls:
            return original(preactivation)
        keeper = _keeper(trace, trace.open_calls[-1], "preactivation_gradients")
        return original(gradient_tap(preactivation, keeper))

    def _model_call(self, model: keras.Model, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trace = self._trace_here
        if trace is None:
            return original(*args, **kwargs)
        self._patch_layers()
        outputs = in_this_graph(original)(*args, **kwargs)
        return keras.tree.map_structure(lambda t: self._tap_model_output(trace, t), outputs)

    def _compute_loss(
        self, model: keras.Model, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        loss = original(*args, **kwargs)
        trace = self._trace_here
        if trace is not None:
            trace.loss = loss
            names = ("x", "y", "y_pred", "sample_weight")
            given = dict(zip(names, args, strict=False)) | kwargs
            _keep_per_output(model, trace, given.get("y"), given.get("y_pred"), "target")
            _keep_per_output(model, trace, given.get("sample_weight"), given.get("y_pred"), "sample_weight")
        return loss

    def _scale_loss(self, original: Callable[[Any], Any], loss: Any) -> Any:
        trace = self._trace_here
        if trace is not None:
            one = tf.ones((), tf.float32)
            scale = original(one)
            trace.loss_scale = None if scale is one else scale
        return original(loss)

    def _scale_any_loss(self, original: Callable[..., Any], optimizer: Any, loss: Any) -> Any:
        return self._scale_loss(functools.partial(original, optimizer), loss)

    def _apply(self, original: Callable[..., Any], grads: Any, trainable_variables: Any = None) -> Any:
        trace = self._trace
        if trace is None:
            return original(grads, trainable_variables)
        variables = list(trainable_variables or self._models[0].trainable_variables)
        grads = list(grads)
        if all(getattr(gradient, "graph", trace.graph) is trace.graph for gradient in grads):
            with contextlib.nullcontext() if trace.graph is None else trace.graph.as_default():
                self._keep_missing(trace, variables, grads)
        elif self._withhold_update:  # TensorFlow would keep the trace, and never update again
            raise ModelNotReady(
                f"The train step of {self._models[0].name!r} updates its weights inside a tf.function of its "
                f"own, where the update can't be withheld. Remove that @tf.function: Keras compiles the "
                f"train step anyway."
            )
        return None if self._withhold_update else original(grads, variables)

    def _keep_missing(self, trace: StepTrace, variables: list[Any], grads: list[Any]) -> None:
        """Keep gradients that came from no tape we saw, and read their penalties before the update."""
        known = {key for found in trace.variable_gradients.values() for key in found}
        missing = {id(v): g for v, g in zip(variables, grads, strict=True) if id(v) not in known}
        if missing:
            trace.variable_gradients.setdefault(trace.passes[0], {}).update(missing)
            self._keep_penalties(trace, [variable for variable in variables if id(variable) in missing])

    def _keep_penalties(self, trace: StepTrace, variables: list[Any]) -> None:
        for variable in variables:
            if id(variable) not in trace.penalty_gradients:
                trace.penalty_gradients[id(variable)] = _penalty_gradient(variable)

    def _gradient(
        self, original: Callable[..., Any], tape: Any, target: Any, sources: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """One pass of backprop; what it finds for weights is kept as it is, before any clipping."""
        trace = self._trace_here
        if trace is None:
            return original(tape, target, sources, *args, **kwargs)
        own = trace.current_pass
        try:
            found = original(tape, target, sources, *args, **kwargs)
        finally:
            trace.current_pass = own + 1
        trace.end_pass(own, found, training=not self._withhold_update)
        weights = {id(k): v for model in self._models for v in model.variables for k in (v, v.value)}
        pairs = zip(tf.nest.flatten(sources), tf.nest.flatten(found), strict=True)
        own_weights = [(weights[id(source)], gradient) for source, gradient in pairs if id(source) in weights]
        if own_weights:
            trace.variable_gradients[own] = {id(variable): gradient for variable, gradient in own_weights}
            self._keep_penalties(trace, [variable for variable, _ in own_weights])
            if self._on_pass is not None:
                trace.loss = target if tf.is_tensor(target) and target.shape.rank == 0 else None
                self._on_pass(trace)
        return found

    def _enter_tape(self, original: Callable[..., Any], tape: Any) -> Any:
        if self._tapes is not None:
            self._tapes.append(current_graph())
        return original(tape)

    def _exit_tape(self, original: Callable[..., Any], tape: Any, *error: Any) -> Any:
        if self._tapes:
            self._tapes.pop()
        return original(tape, *error)

    def _tap_output(self, trace: StepTrace, record: LayerCall, leaf: int, tensor: Any) -> Any:
        """Tap what the call made; what it hands back as it came is what it read (see `gradient_tap`)."""
        if any(tensor is received for received in record.received):
            makers = (call for call in trace.calls if len(call.returned) == 1 and call.returned[0] is tensor)
            maker = next(makers, record)  # of the same tensor
            record.output_gradients, record.unused = maker.output_gradients, maker.unused
            return tensor
        return gradient_tap(tensor, _keeper(trace, record, "output_gradients", leaf), self._sought)

    def _tap_model_output(self, trace: StepTrace, tensor: Any) -> Any:
        """Tap the prediction and, where the loss may read them instead, the logits behind it."""
        if not is_float_tensor(tensor):
            return tensor
        output = ModelOutput(tensor, mask=mask_of(tensor))
        trace.outputs.append(output)
        tapped = gradient_tap(tensor, _keeper(trace, output, "gradients"), self._sought)
        logits = logits_behind(tensor, self._sought)
        if logits is not None:
            replace_logits(tapped, gradient_tap(logits, _keeper(trace, output, "logits_gradients")))
        return tapped


def _keep_per_output(model: keras.Model, trace: StepTrace, values: Any, predictions: Any, name: str) -> None:
    """Keep what the loss is given for each output, as a field of the output."""
    found = _in_the_order_of_outputs(model, values, predictions)
    if len(found) == len(trace.outputs):
        for output, value in zip(trace.outputs, found, strict=True):
            setattr(output, name, value if tf.is_tensor(value) else None)


def _in_the_order_of_outputs(model: keras.Model, targets: Any, predictions: Any) -> list[Any]:
    """Targets by name are listed as the model lists its outputs."""
    names = getattr(model, "output_names", None) or ()
    if isinstance(targets, dict) and not isinstance(predictions, dict) and set(names) >= set(targets):
        return [targets.get(name) for name in names]
    return keras.tree.flatten(targets)


def _keeper(
    trace: StepTrace, record: LayerCall | ModelOutput, name: str, leaf: int = 0
) -> Callable[[Any], None]:
    """What keeps a gradient in a field of the trace, as long as there is one.

    TensorFlow never forgets the gradient function of a `tf.custom_gradient` that was traced. A
    strong reference would keep the layers, and so the weights, of every captured model alive.
    """
    references = weakref.ref(trace), weakref.ref(record)

    def keep(gradient: Any) -> None:
        trace, record = references[0](), references[1]()
        if trace is not None and record is not None:
            getattr(record, name)[trace.current_pass, leaf] = gradient

    return keep


def _received(structure: Any) -> list[Any]:
    """The tensors that a gradient could flow through; where there is none, all that came."""
    tensors = [t for t in keras.tree.flatten(structure) if tf.is_tensor(t)]
    return [t for t in tensors if is_float_tensor(t)] or tensors


def _keep_operands(
    layer: Any, kind: Kind, record: LayerCall, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    operands = kind.operands(layer, args, kwargs)
    record.operands = {name: _as_tensor(value) for name, value in operands.items()}
    for name, variable in kind.variables(layer).items():
        wanted = variable is not None and kind.reads_weights
        record.weights[name] = tf.convert_to_tensor(variable) if wanted else None


def _as_tensor(value: Any) -> Any:
    return value if tf.is_tensor(value) else tf.convert_to_tensor(value)


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
