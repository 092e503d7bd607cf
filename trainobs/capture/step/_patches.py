"""Put the taps into a model for the length of a `with` block, and take every one out again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainobs.capture._keras_internals import ops_sought_by
from trainobs.capture.layers import Probed, activation_of, has_activation, is_activation
from trainobs.capture.reading import StepTrace
from trainobs.capture.step._backward import BackwardPass
from trainobs.capture.step._forward import ForwardPass
from trainobs.capture.step._parts_of_models import nodes_of, optimizers_of
from trainobs.capture.step._replacing import replaced
from trainobs.capture.step._tracing import Tracing


class Patches:
    """Taps on the layers, outputs, losses and optimizers of one or more models.

    Inside ``with patches.installed():`` calls go through the taps; they record only inside
    ``with patches.tracing() as trace:``, and only on the thread that entered it (see `Tracing`).

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
        that are traced inside of the block have traces of their own (see `_watched`).

    Attributes
    ----------
    activations : dict of int to Probed
        By id of the layer, its activation function.
    """

    def __init__(
        self,
        models: list[keras.Model],
        losses: Sequence[object],
        *,
        withhold_update: bool = False,
        on_pass: Callable[[StepTrace], None] | None = None,
    ) -> None:
        self._models, self._by_hand = models, on_pass is not None
        self._tracing = Tracing(inner_graphs=on_pass is not None)
        self._forward = ForwardPass(self._tracing, ops_sought_by(losses), self._patch_layers)
        self._backward = BackwardPass(self._tracing, models, withhold_update=withhold_update, on_pass=on_pass)
        self._lock, self._users = threading.RLock(), 0
        self._stack = contextlib.ExitStack()
        self._patched: set[int] = set()
        self.activations: dict[int, Probed] = {}

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

    def tracing(self, *, here: bool = True) -> contextlib.AbstractContextManager[StepTrace]:
        """Record the calls that this thread makes inside the block (see `Tracing.open`)."""
        return self._tracing.open(here=here)

    def _install(self) -> None:
        self._patched = set()
        with contextlib.ExitStack() as self._stack:
            self._patch_layers()
            for target, name, wrapper in self._wrappers():
                self._stack.enter_context(replaced(target, name, wrapper))
            self._stack = self._stack.pop_all()

    def _patch_layers(self) -> None:
        """Patch the layers there are; called again where a layer's `build` has made new ones."""
        for node in (node for model in self._models for node in nodes_of(model)):
            if id(node) not in self._patched:
                self._patched.add(id(node))
                self._probe_activation(node)
                call = functools.partial(self._forward.call, node)
                self._stack.enter_context(replaced(node, "call", call))
                policy = getattr(node, "dtype_policy", None)  # several layers share one
                if policy is not None and id(policy) not in self._patched:
                    self._patched.add(id(policy))
                    self._stack.enter_context(replaced(policy, "convert_input", self._forward.cast_input))
                if has_activation(node):
                    self._patched.add(id(node.activation))  # a layer there is a part of this one
                    self._stack.enter_context(replaced(node, "activation", self._forward.activation))

    def _probe_activation(self, node: keras.Operation) -> None:
        """Probe an activation function once, while it is the user's own, and outside of any graph."""
        if id(node) not in self.activations and (has_activation(node) or is_activation(node)):
            # a thread of its own is in no graph and under no tape, whatever this one is tracing
            with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:
                self.activations[id(node)] = elsewhere.submit(activation_of, node).result()

    def _wrappers(self) -> Iterator[tuple[object, str, Callable[..., Any]]]:
        forward, backward = self._forward, self._backward
        for model in self._models:
            yield model, "call", forward.model_call
            yield model, "compute_loss", functools.partial(forward.compute_loss, model)
            for optimizer in optimizers_of(model):
                yield optimizer, "apply", backward.apply
                yield optimizer, "scale_loss", backward.scale_loss
        yield tf.GradientTape, "gradient", backward.gradient
        if self._by_hand:  # the optimizer of a hand-written loop is not the model's
            yield keras.optimizers.LossScaleOptimizer, "scale_loss", backward.scale_any_loss
            yield tf.GradientTape, "__enter__", backward.enter_tape
            yield tf.GradientTape, "__exit__", backward.exit_tape
