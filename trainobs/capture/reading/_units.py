"""What becomes of a preactivation: activations and slopes are worked out on the host, after the step."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainobs.activations import Activation
from trainobs.capture.layers import Probed, Units, slope_of
from trainobs.capture.reading._plan import CallPlan, CallTensors
from trainobs.capture.reading._values import StepValues, TensorRead
from trainobs.tensors import as_array, as_tensor

Array = np.ndarray


class Activated:
    """Outputs and slopes of one step, each worked out once.

    A kernel and the normalisation behind it have one activation.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[int, ...], int], tuple[Array, Array]] = {}

    def of(self, functions: Sequence[Probed], sloped: int, read: Array) -> tuple[Array, Array]:
        """A and φ' at every element: the product of the slopes of the first `sloped` of a chain."""
        key = id(read), tuple(id(probed.function) for probed in functions), sloped
        if key not in self._known:
            self._known[key] = _activated(functions, sloped, read)
        return self._known[key]


def filled(tensors: CallTensors[TensorRead], values: StepValues) -> CallTensors[Array]:
    """The tensors of a call, with a step's values in place of reads."""
    return CallTensors(
        offset=values.of(tensors.offset),
        preactivation=values.of(tensors.preactivation),
        activation_input=values.of(tensors.activation_input),
        returned=values.of(tensors.returned),
        output=values.of(tensors.output),
        output_gradient=values.of(tensors.output_gradient),
        preactivation_gradient=values.of(tensors.preactivation_gradient),
        output_gradients=tuple(map(values.of, tensors.output_gradients)),
    )


def units_of(
    plan: CallPlan, tensors: CallTensors[Array], activated: Activated, z: Array, offset: Array | None
) -> Units:
    """What becomes of a call's last preactivation: its own activation, or that of the layers behind it."""
    read = z if tensors.activation_input is None else tensors.activation_input
    worked_out, slope = activated.of(plan.functions, plan.sloped, read)
    return Units(
        activation=_joined(plan),
        preactivation=z,
        activation_input=read,
        output=worked_out if tensors.output is None else tensors.output,
        slope=slope,
        output_gradient=tensors.output_gradient,
        preactivation_gradient=tensors.preactivation_gradient,
        logits=plan.logits,
        normalised=plan.normalised,
        offset=tensors.offset if plan.normalised else offset,
    )


def _joined(plan: CallPlan) -> Activation:
    """One activation for a chain: what comes out of it is in the range of the last."""
    described = [probed.activation for probed in plan.activations]
    if not described:
        return Activation("linear", plan.layer.name, (1.0,))
    if len(described) == 1:
        return described[0]
    name = " → ".join(part.name for part in described)
    return Activation(name, described[-1].layer, range=described[-1].range)


def _activated(functions: Sequence[Probed], sloped: int, read: Array) -> tuple[Array, Array]:
    if not functions:
        return read, _ones(read)
    values, slopes = as_tensor(read), []
    for probed in functions:
        values, slope = slope_of(probed.function, values)
        softmax = probed.activation.name == "softmax"
        slopes.append(values * (1 - values) if softmax else slope)  # the diagonal of its Jacobian
    product = functools.reduce(tf.multiply, slopes[:sloped]) if sloped else None
    return as_array(values), _ones(read) if product is None else as_array(product)


def _ones(like: Array) -> Array:
    """Ones that take no memory."""
    return np.broadcast_to(np.ones((), like.dtype), like.shape)
