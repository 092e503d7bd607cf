"""What the oracle is told about each trainable weight of a Keras model.

It comes from Keras' own layer configuration, from a table of activation functions written by hand and
from a record's arrays, never from the specs, kinds and probes of the product. What a record's site does
not measure but works out (a normalised input, what lies within a separable convolution) is computed here
once more, in float64.
"""

import dataclasses
import functools
import math
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.reference.layers import BiasProblem, EinsumProblem, LookupProblem, ScaleProblem
from tests.reference.linear import (
    ConvProblem,
    ConvTransposeProblem,
    DenseProblem,
    DepthwiseConvProblem,
    forward,
)
from trainobs.records import SiteRecord, StepRecord

RTOL = 1e-3  # of NearZero
CONVOLUTIONS = layers.Conv1D, layers.Conv2D, layers.Conv3D
TRANSPOSED = layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose
SEPARABLE = layers.SeparableConv1D, layers.SeparableConv2D
#: Their input is worked out from what the layer received.
STANDARDISED = ("gamma", "scale")


@dataclasses.dataclass(frozen=True)
class Phi:
    """What definitions.md asks about an activation function; no saturation point is 0."""

    piecewise_linear: bool
    rectifies: bool
    saturation_point: float = 0.0


PHIS = {
    "linear": Phi(True, False),
    "relu": Phi(True, True),
    "relu6": Phi(True, True, 6.0),
    "leaky_relu": Phi(True, False),
    "hard_sigmoid": Phi(True, False, 3.0),
    "sigmoid": Phi(False, False, 4.75),
    "tanh": Phi(False, False, 3.0),
    "gelu": Phi(False, True),
    "elu": Phi(False, True),
    "softmax": Phi(False, False),
}


# Layers and their weights


def weights_of(model: keras.Model) -> dict[str, tuple[layers.Layer, str]]:
    """By the path of each variable that is no state, the innermost layer that holds it, and its name."""
    found = {}
    for layer in model._flatten_layers():
        found |= {variable.path: (layer, variable.name) for variable in layer._trainable_variables}
    return found


def channels_last(layer: layers.Layer, array: np.ndarray) -> np.ndarray:
    """An array of the layer's layout with the channels at the end."""
    return np.moveaxis(array, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else array


def own_layout(layer: layers.Layer, array: np.ndarray) -> np.ndarray:
    """The inverse of `channels_last`."""
    return np.moveaxis(array, -1, 1) if getattr(layer, "data_format", "") == "channels_first" else array


def received(model: keras.Model, layer: layers.Layer, x: np.ndarray, call: int, calls: int) -> np.ndarray:
    """What a layer of a functional model received in one of its calls in training."""
    node = layer._inbound_nodes[len(layer._inbound_nodes) - calls + call]
    inner = keras.Model(model.inputs[0], node.input_tensors[0])
    return np.asarray(inner(x, training=True), np.float64)


def normalised(layer: layers.Layer, x: np.ndarray) -> np.ndarray:
    """x̂, what a normalisation multiplies by its scale."""
    if isinstance(layer, layers.BatchNormalization):
        axis = layer.axis % x.ndim
        others = tuple(a for a in range(x.ndim) if a != axis)
        if layer.trainable:
            return standardised(x, others, layer.epsilon)
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        mean, variance = (v.numpy().reshape(shape) for v in (layer.moving_mean, layer.moving_variance))
        return (x - mean) / np.sqrt(variance + layer.epsilon)
    if isinstance(layer, layers.GroupNormalization):
        last = np.moveaxis(x, layer.axis, -1)
        size = last.shape[-1] // (last.shape[-1] if layer.groups == -1 else layer.groups)
        groups = [last[..., start : start + size] for start in range(0, last.shape[-1], size)]
        scaled = [standardised(group, tuple(range(1, x.ndim)), layer.epsilon) for group in groups]
        return np.moveaxis(np.concatenate(scaled, axis=-1), -1, layer.axis)
    axes = axes_of(layer, x.ndim)
    if isinstance(layer, layers.LayerNormalization):
        return standardised(x, axes, layer.epsilon)
    return x / np.sqrt(np.mean(x**2, axes, keepdims=True) + layer.epsilon)


def standardised(x: np.ndarray, axes: tuple, epsilon: float) -> np.ndarray:
    """Without its mean, over its standard deviation."""
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def axes_of(layer: layers.Layer, rank: int) -> tuple:
    """The axes along which a normalisation has weights."""
    axes = (layer.axis,) if isinstance(layer.axis, int) else layer.axis
    return tuple(sorted(axis % rank for axis in axes))


def window_problem(layer: layers.Layer, rank: int) -> Any:
    """How the kernel of a layer with a window of this rank meets its input."""
    strides, dilation = (_per_axis(v, rank) for v in (layer.strides, layer.dilation_rate))
    if isinstance(layer, CONVOLUTIONS):
        return ConvProblem(strides, layer.padding, dilation, layer.groups)
    if isinstance(layer, TRANSPOSED):
        extra = layer.output_padding
        return ConvTransposeProblem(strides, layer.padding, extra and _per_axis(extra, rank), dilation)
    return DepthwiseConvProblem(strides, layer.padding, dilation)


def _per_axis(value: Any, rank: int) -> tuple:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def einsum_problem(layer: layers.EinsumDense, rank: int) -> EinsumProblem:
    """Its equation with a letter for every axis behind the ellipsis."""
    equation = layer.equation
    operand = equation.split(",")[0].replace("...", "")
    spare = [letter for letter in "zyxwvutsrq" if letter not in equation]
    return EinsumProblem(equation.replace("...", "".join(spare[: rank - len(operand)])))


# Sites


@dataclasses.dataclass(frozen=True)
class Met:
    """How a weight met its input; arrays of convolutions are channels last."""

    op: Any
    input: np.ndarray
    kernel: np.ndarray


def kernel_met(layer: layers.Layer, name: str, site: SiteRecord) -> Met:
    """A kernel that signals pass through."""
    kernel, x = np.asarray(getattr(layer, name), np.float64), np.asarray(site.input, np.float64)
    if isinstance(layer, layers.Dense):
        return Met(DenseProblem(), x, kernel)
    if isinstance(layer, layers.EinsumDense):
        return Met(einsum_problem(layer, x.ndim), x, kernel)
    return Met(window_problem(layer, x.ndim - 2), channels_last(layer, x), kernel)


def separable(layer: layers.Layer, site: SiteRecord) -> dict[str, Met]:
    """Both kernels of a separable convolution, from the site of its depthwise one."""
    first = kernel_met(layer, "depthwise_kernel", site)
    between = forward(first.op, first.input, first.kernel)
    kernel = np.asarray(layer.pointwise_kernel, np.float64)
    return {"depthwise_kernel": first, "pointwise_kernel": Met(ConvProblem(), between, kernel)}


def scale_met(layer: layers.Layer, weight: np.ndarray, x: np.ndarray) -> Met:
    """The scale of a normalisation, or PReLU's slope, from what the layer received."""
    if isinstance(layer, layers.PReLU):
        return Met(ScaleProblem(tuple(range(1, x.ndim))), np.minimum(x, 0), weight)
    return Met(ScaleProblem(axes_of(layer, x.ndim)), normalised(layer, x), weight)


def shift_met(layer: layers.Layer, weight: np.ndarray, shape: tuple) -> Met:
    """A bias or the shift of a normalisation; `shape` is that of the units, channels last."""
    rank = len(shape)
    axes = axes_of(layer, rank) if hasattr(layer, "epsilon") else tuple(range(rank - weight.ndim, rank))
    if weight.shape != tuple(shape[axis] for axis in axes):
        return Met(ScaleProblem(axes), np.ones(shape), weight)
    return Met(BiasProblem(axes), np.ones(np.delete(shape, axes)), weight)


def table_met(site: SiteRecord, table: np.ndarray) -> Met:
    """The table of an embedding: what was looked up is data."""
    return Met(LookupProblem(np.asarray(site.input)), np.ones(site.input.shape), table)


class Told:
    """What the oracle is told about the weights of a step.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional.
    record : StepRecord
        A step of it.
    x : array
        The data of that step.
    """

    def __init__(self, model: keras.Model, record: StepRecord, x: np.ndarray) -> None:
        self.model, self.record, self._x = model, record, x
        self.weights = weights_of(model)

    @property
    def by_weight(self) -> dict[str, list[SiteRecord]]:
        """The sites of each weight: one for every call."""
        found: dict[str, list[SiteRecord]] = {}
        for site in self.record.sites:
            found.setdefault(site.weight, []).append(site)
        return found

    def layer(self, site: SiteRecord) -> layers.Layer:
        """The layer of a site."""
        return self.weights[site.weight][0]

    def name(self, site: SiteRecord) -> str:
        """The name of a site's weight."""
        return self.weights[site.weight][1]

    def met(self, site: SiteRecord) -> Met:
        """How the site's weight met its input."""
        layer, name = self.weights[site.weight]
        if isinstance(layer, SEPARABLE) and name != "bias":
            return separable(layer, self.beside(site, "depthwise_kernel"))[name]
        if isinstance(layer, layers.Embedding):
            return table_met(site, np.asarray(layer.embeddings, np.float64))
        weight = np.asarray(getattr(layer, name), np.float64)
        if name in ("bias", "beta"):
            return shift_met(layer, weight, channels_last(layer, site.preactivation).shape)
        if name in (*STANDARDISED, "alpha"):
            return scale_met(layer, weight, self.received(site))
        return kernel_met(layer, name, site)

    def received(self, site: SiteRecord) -> np.ndarray:
        """What the layer of a site received."""
        calls = len(self.by_weight[site.weight])
        return received(self.model, self.layer(site), self._x, site.call, calls)

    def beside(self, site: SiteRecord, name: str) -> SiteRecord | None:
        """The site of another weight in the same call of the layer."""
        for other in self.record.sites:
            same = self.layer(other) is self.layer(site) and other.call == site.call
            if same and self.name(other) == name:
                return other
        return None

    def shifted(self, site: SiteRecord) -> SiteRecord | None:
        """Of a bias, the site whose units it shifts."""
        names = {"bias": ("kernel", "pointwise_kernel"), "beta": ("gamma",)}.get(self.name(site), ())
        found = [self.beside(site, name) for name in names]
        return next((other for other in found if other is not None), None)

    def normalised_by(self, site: SiteRecord) -> SiteRecord | None:
        """Of a scale, the kernel or table whose units it normalises before their activation."""
        if self.name(site) not in STANDARDISED:
            return None
        for other in self.record.sites:
            feeds = other.normalised and other.activation_node == site.activation_node
            if feeds and self.name(other).endswith(("kernel", "embeddings")):
                return other
        return None

    def off_with(self, site: SiteRecord) -> SiteRecord:
        """The site that says why the units of this one are off."""
        other = self.shifted(site) or self.normalised_by(site)
        return site if other is None else self.off_with(other)

    def given(self, weight: str, g_star: float) -> dict[str, Any]:
        """What `attribute` is given about a weight: all calls, one behind the other."""
        sites = self.by_weight[weight]
        parts = [self._given(site) for site in sites]
        rule = dict(vars(PHIS[sites[0].activation.name]), normalised=self.off_with(sites[0]).normalised)
        if self.name(sites[0]) == "depthwise_kernel":
            rule = dict(vars(PHIS["linear"]), normalised=False)
        return joined(parts) | rule | {"g_star": g_star, "rtol": RTOL}

    def _given(self, site: SiteRecord) -> dict[str, Any]:
        met, off_with = self.met(site), self.off_with(site)
        reads = met if off_with is site else self.met(off_with)
        return {
            **vars(met),
            **{name: np.asarray(array, np.float64) for name, array in self._units(site).items()},
            "reads": (reads.op, reads.input, reads.kernel),
        }

    def _units(self, site: SiteRecord) -> dict[str, Any]:
        """What became of the preactivation, channels last."""
        if self.name(site) == "depthwise_kernel":
            return self._between(site)
        last = functools.partial(channels_last, self.layer(site))
        nothing = np.zeros(site.preactivation.shape)
        g, d = (
            nothing if gradient is None else gradient
            for gradient in (site.output_gradient, site.preactivation_gradient)
        )
        return {
            "bias_offset": 0.0 if site.offset is None else site.offset,
            "preactivation": last(site.activation_input),
            "slope": last(site.slope),
            "output_gradient": last(g),
            "preactivation_gradient": last(d),
        }

    def _between(self, site: SiteRecord) -> dict[str, Any]:
        """The units of a depthwise kernel, which the pointwise one reads: they are linear."""
        reader = self.beside(site, "pointwise_kernel")
        second, d = self.met(reader), self._units(reader)["preactivation_gradient"]
        sent = sent_back(second.op, second.kernel, d, second.input.shape)
        units = {"preactivation": second.input, "slope": np.ones(sent.shape), "bias_offset": 0.0}
        return units | {"output_gradient": sent, "preactivation_gradient": sent}


def sent_back(op: Any, kernel: np.ndarray, gradient: np.ndarray, input_shape: tuple) -> np.ndarray:
    """dJ/d(input): every term's d times its weight."""
    sums = np.zeros(input_shape)
    for kernel_index, input_index, output_index in op.terms(input_shape, kernel.shape):
        sums[input_index] += gradient[output_index] * kernel[kernel_index]
    return sums


def joined(parts: list[dict]) -> dict[str, Any]:
    """What the oracle is given about several calls of one layer; n is that of the first."""
    if len(parts) == 1:
        return parts[0]
    names = "input", "preactivation", "slope", "output_gradient", "preactivation_gradient"
    whole = {name: np.concatenate([part[name] for part in parts]) for name in names}
    op, _, kernel = parts[0]["reads"]
    inputs = np.concatenate([part["reads"][1] for part in parts])
    units = parts[0]["op"].units(parts[0]["kernel"].shape)
    positions = parts[0]["positions"] if "positions" in parts[0] else parts[0]["preactivation"].size // units
    ops = [part["op"] for part in parts]
    if isinstance(ops[0], LookupProblem):
        whole["op"] = LookupProblem(np.concatenate([op.ids for op in ops]))
        op = whole["op"]
    return parts[0] | whole | {"reads": (op, inputs, kernel), "positions": positions}


def by_unit(given: dict, values: np.ndarray) -> np.ndarray:
    """An array of the kernel's shape as (units, weights of a unit)."""
    op, shape = given["op"], given["kernel"].shape
    found: list[list[float]] = [[] for _ in range(op.units(shape))]
    for index in np.ndindex(*shape):
        found[op.unit_of_kernel(index, shape)].append(values[index])
    return np.array(found)


def unit_positions(given: dict) -> int:
    """How many elements of the preactivation belong to one unit."""
    return given["preactivation"].size // given["op"].units(given["kernel"].shape)


def positions(given: dict) -> int:
    """n."""
    return given.get("positions") or unit_positions(given)


def healthy_weight(given: dict) -> float:
    """w*."""
    return math.sqrt(2 * given["op"].units(given["kernel"].shape) / given["kernel"].size)
