"""Steps of chains of dense layers, computed by NumPy: cases for mechanisms without a Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from trainobs.activations import PROBE_GRID, Activation
from trainobs.analysis import Case, Flow, SiteFigures, WholeLayerFigures
from trainobs.linear_ops import DenseOp, bias_op
from trainobs.records import DATA, NodeRecord, OutputRecord, SiteRecord, StepRecord, WeightRecord, sums_of
from trainobs.statistics import gather
from trainobs.thresholds import Thresholds

Array = np.ndarray
SAMPLES, WIDTH = 64, 8


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


#: By name: the function, its slope, its range.
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array], tuple[float, float]]] = {
    "linear": (lambda z: z, np.ones_like, (-np.inf, np.inf)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float), (0.0, np.inf)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, (-1.0, 1.0)),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z)), (0.0, 1.0)),
}


@dataclasses.dataclass
class Dense:
    """A layer of a chain."""

    kernel: Array
    activation: str = "relu"
    bias: float | Array = 0.0
    trainable: bool = True
    cut: bool = False  # whether no gradient leaves it
    dtype: str = "float32"

    @property
    def units(self) -> int:
        """Its width."""
        return self.kernel.shape[1]


def dense(inputs: int = WIDTH, units: int = WIDTH, *, seed: int = 0, scale: float = 1.0, **options) -> Dense:
    """A layer with a kernel of He's scale, or a multiple of it."""
    kernel = np.random.default_rng(seed).normal(size=(inputs, units)) * scale * np.sqrt(2 / inputs)
    return Dense(kernel.astype(np.float32), **options)


def inputs(scale: float = 1.0, width: int = WIDTH) -> Array:
    """Standardised data, or a multiple of it."""
    return (np.random.default_rng(9).normal(size=(SAMPLES, width)) * scale).astype(np.float32)


def step(
    x: Array,
    *chain: Dense,
    loss_gradient: float | Array = 1.0,
    target: Array | None = None,
    loss_name: str = "",
    arriving: Array | None = None,
) -> StepRecord:
    """The record of a step: layers are called "d0", "d1", …; the loss sends random gradients of that size.

    Or, per position, a random gradient times an array's; or those in `arriving`, one for each sample.
    """
    values, sites = [np.asarray(x, np.float32)], []
    for layer in chain:
        values.append(values[-1] @ layer.kernel + np.asarray(layer.bias, np.float32))
        values.append(FUNCTIONS[layer.activation][0](values[-1]).astype(np.float32))
    noise = np.random.default_rng(5).normal(size=values[-1].shape) if arriving is None else arriving
    arriving = (loss_gradient * noise / len(x)).astype(np.float32)
    output_gradient, nodes = arriving, []
    for number, layer in reversed(list(enumerate(chain))):
        a, z = values[2 * number], values[2 * number + 1]
        g = None if arriving is None else arriving
        s = FUNCTIONS[layer.activation][1](z).astype(np.float32)
        d = None if g is None else (s * g).astype(np.float32)
        sites[:0] = _sites(number, layer, a, z, s, g, d, last=number == len(chain) - 1)
        nodes[:0] = [_node(number, layer, values[2 * number + 2], g)]
        arriving = None if d is None or layer.cut else (d @ layer.kernel.T).astype(np.float32)
    output = OutputRecord(len(chain) - 1, values[-1], target, output_gradient, False, loss_name)
    return StepRecord(0, 0, 1.0, tuple(sites), _linked(nodes, chain), (output,))


def _sites(number: int, layer: Dense, a, z, s, g, d, *, last: bool) -> list[SiteRecord]:
    phi, slope, bounds = FUNCTIONS[layer.activation]
    name = f"d{number}"
    bias = np.broadcast_to(np.asarray(layer.bias, np.float32), (layer.units,)).copy()
    shared = dict(
        layer=name, kind="Dense", call=0, node=number, activation_node=number, dtype=layer.dtype,
        activation=Activation(layer.activation, name, tuple(map(float, slope(PROBE_GRID))), bounds),
        trainable=layer.trainable, logits=False, normalised=False,
        consumers=() if last else (f"d{number + 1}/kernel",), preactivation=z, activation_input=z,
        output=phi(z).astype(np.float32), slope=s, offset=bias, output_gradient=g, preactivation_gradient=d,
    )  # fmt: skip
    kernel = SiteRecord(
        **shared, weight=f"{name}/kernel", op=DenseOp(), input=a, kernel=layer.kernel, bias=bias,
        kernel_gradient=None if d is None else (a.T @ d).astype(np.float32), shape=layer.kernel.shape,
    )  # fmt: skip
    shift = SiteRecord(
        **shared, weight=f"{name}/bias", op=bias_op(2, (1,)), role="bias", shape=bias.shape,
        input=np.broadcast_to(np.float32(1), (len(z),)), kernel=bias,
        kernel_gradient=None if d is None else d.sum(axis=0),
    )  # fmt: skip
    return [kernel, shift]


def _node(number: int, layer: Dense, output: Array, arriving: Array | None) -> NodeRecord:
    return NodeRecord(
        layer=f"d{number}", kind="Dense", call=0, producers=(number - 1 if number else DATA,),
        samples=len(output), output=sums_of(output), activation=layer.activation, input_gradients=(None,),
        output_gradient=None if arriving is None else sums_of(arriving),
    )  # fmt: skip


def _linked(nodes: list[NodeRecord], chain: tuple[Dense, ...]) -> tuple[NodeRecord, ...]:
    """What a node sends back is what arrives at the one before it."""
    sent = [None, *(node.output_gradient for node in nodes[:-1])]
    return tuple(dataclasses.replace(n, input_gradients=(s,)) for n, s in zip(nodes, sent, strict=True))


def with_whole_layer(record: StepRecord, gradient: Array | None, node: int = 0) -> StepRecord:
    """The step with a weight of unknown kind beside the others."""
    shape = (3,) if gradient is None else gradient.shape
    layer = record.nodes[node].layer
    weight = WeightRecord(layer, "Own", f"{layer}/own", shape, (node,), True, "float32", ("Own",), gradient)
    return dataclasses.replace(record, weights=(weight,))


def with_node(record: StepRecord, number: int, **changes) -> StepRecord:
    """The step with other fields of a node."""
    nodes = list(record.nodes)
    nodes[number] = dataclasses.replace(nodes[number], **changes)
    return dataclasses.replace(record, nodes=tuple(nodes))


def case_of(record: StepRecord, thresholds: Thresholds | None = None) -> Case:
    """What mechanisms are looked for in."""
    thresholds = thresholds or Thresholds()
    near_zero = thresholds.near_zero
    statistics = gather(record, near_zero, pinv=False)
    g_out, elements = statistics.loudest_output()
    scale = near_zero.gradient_scale(g_out, elements)
    with np.errstate(all="ignore"):
        sites = {key: SiteFigures(site, near_zero, scale) for key, site in statistics.sites.items()}
        flow = Flow(statistics.nodes, sites, elements)
        whole = {
            key: WholeLayerFigures(part, near_zero, scale, flow) for key, part in statistics.others.items()
        }
    return Case(statistics, sites, whole, flow, thresholds)
