"""Records with the wiring of a real capture and arrays drawn at random, with planted zeros.

A step of a small Keras model is captured once; then its arrays are replaced, so that thousands of
records cost no training step. The order of the units, the samples and the scale of the loss can be
changed in them.
"""

import dataclasses
import functools

import keras
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from keras import layers

import trainobs
from trainobs.linear_ops import weight_vjp
from trainobs.records import OutputRecord, SiteRecord, StepRecord
from trainobs.report import Report
from trainobs.statistics import gather
from trainobs.thresholds import NearZero, Thresholds

SAMPLES = 6
UNITS = 4
BY_POSITION = ("input", "preactivation", "activation_input", "output", "slope")
GRADIENTS = ("output_gradient", "preactivation_gradient")

#: For every property: the same examples each time, and no deadline (the first one traces a graph).
property_settings = functools.partial(settings, derandomize=True, deadline=None, database=None)


@dataclasses.dataclass(frozen=True)
class Plant:
    """How a record is drawn: parts that are zero, powers of ten of the rest."""

    kind: str
    seed: int
    zero_input: float
    zero_slope: float
    zero_gradient: float
    input_power: float
    slope_power: float
    gradient_power: float


_part = st.sampled_from([0.0, 0.3, 0.7, 1.0])
_power = st.sampled_from([0.0, -1.5, -4.0])
plants = st.builds(
    Plant,
    kind=st.sampled_from(["dense relu", "dense sigmoid", "conv relu"]),
    seed=st.integers(0, 2**32 - 1),
    zero_input=_part,
    zero_slope=_part,
    zero_gradient=_part,
    input_power=_power,
    slope_power=_power,
    gradient_power=_power,
)


@functools.cache
def captured(kind: str) -> StepRecord:
    """A real step of a hidden layer and a head that reads it."""
    hidden = {
        "dense relu": lambda: layers.Dense(UNITS, "relu", name="hidden"),
        "dense sigmoid": lambda: layers.Dense(UNITS, "sigmoid", name="hidden"),
        "conv relu": lambda: layers.Conv1D(UNITS, 3, padding="same", activation="relu", name="hidden"),
    }[kind]()
    shape = (5, 3) if "conv" in kind else (3,)
    head = layers.Conv1D(2, 2, name="head") if "conv" in kind else layers.Dense(2, name="head")
    model = keras.Sequential([keras.Input(shape), hidden, head])
    model.compile("sgd", "mse")
    x = np.ones((SAMPLES, *shape), np.float32)
    return trainobs.capture_batch(model, x, np.zeros((SAMPLES, *model.output_shape[1:]), np.float32))


def draw(plant: Plant) -> StepRecord:
    """A record with random arrays: d = s · g, and dJ/dW the sum of its terms."""
    rng = np.random.default_rng(plant.seed)
    record = captured(plant.kind)
    outputs = tuple(
        dataclasses.replace(output, gradient=_normal(rng, output.value.shape, 1 / SAMPLES))
        for output in record.outputs
    )
    kernels = [_drawn(site, plant, rng) for site in kernels_of(record)]
    return dataclasses.replace(_with_kernels(record, kernels), outputs=outputs)


def kernels_of(record: StepRecord) -> list[SiteRecord]:
    """Its sites but those of biases."""
    return [site for site in record.sites if site.role == "kernel"]


def _with_kernels(record: StepRecord, kernels: list[SiteRecord]) -> StepRecord:
    """The record with these kernels, and each bias that of the kernel in its layer."""
    by_layer = {site.layer: site for site in kernels}
    sites = (
        by_layer[site.layer] if site.role == "kernel" else _bias_of(site, by_layer[site.layer])
        for site in record.sites
    )
    return dataclasses.replace(record, sites=tuple(sites))


def _bias_of(site: SiteRecord, kernel: SiteRecord) -> SiteRecord:
    """The site of a bias that shifts the units of a kernel."""
    units = {name: getattr(kernel, name) for name in (*BY_POSITION[1:], *GRADIENTS, "offset")}
    d = kernel.preactivation_gradient
    return dataclasses.replace(
        site, **units, input=np.broadcast_to(np.float32(1), d.shape[:-1]), kernel=kernel.bias,
        kernel_gradient=d.reshape(-1, d.shape[-1]).sum(axis=0),
    )  # fmt: skip


def _drawn(site: SiteRecord, plant: Plant, rng: np.random.Generator) -> SiteRecord:
    a = _normal(rng, site.input.shape, 10**plant.input_power) * _kept(rng, site.input.shape, plant.zero_input)
    z = _normal(rng, site.preactivation.shape, 3.0)
    s = _kept(rng, z.shape, plant.zero_slope)
    if not site.activation.piecewise_linear:
        s *= np.float32(10**plant.slope_power) * rng.uniform(0.2, 1, z.shape).astype(np.float32)
    elif site.activation.linear:
        s = np.ones_like(z)
    g = _normal(rng, z.shape, 10**plant.gradient_power / site.positions)
    g *= _kept(rng, z.shape, plant.zero_gradient)
    kernel, bias = (_normal(rng, array.shape, 1.0) for array in (site.kernel, site.bias))
    kernel_gradient = weight_vjp(site.op, a, s * g, kernel.shape).numpy()
    return dataclasses.replace(
        site, input=a, kernel=kernel, bias=bias, offset=bias, preactivation=z, activation_input=z,
        output=np.maximum(z, 0), slope=s, output_gradient=g, preactivation_gradient=s * g,
        kernel_gradient=kernel_gradient,
    )  # fmt: skip


def _normal(rng: np.random.Generator, shape: tuple, scale: float) -> np.ndarray:
    return (scale * rng.normal(size=shape)).astype(np.float32)


def _kept(rng: np.random.Generator, shape: tuple, zero: float) -> np.ndarray:
    """A mask with this part of zeros, and whole channels of zeros half of the time."""
    mask = rng.random(shape) >= zero
    return (mask & (rng.random(shape[-1]) >= zero / 2)).astype(np.float32)


# What can be done to a record


def report_of(record: StepRecord, near_zero: NearZero | None = None) -> Report:
    """The report of one record, without the pseudo-inverse."""
    thresholds = Thresholds(near_zero=near_zero or NearZero())
    return Report(gather(record, thresholds.near_zero, pinv=False), thresholds)


def with_samples(record: StepRecord, order: np.ndarray) -> StepRecord:
    """The record of these samples, in this order; gradients are those of their mean loss."""
    scale = np.float32(SAMPLES / len(order))
    kernels = [_site_with_samples(site, order, scale) for site in kernels_of(record)]
    outputs = tuple(_output_with_samples(output, order, scale) for output in record.outputs)
    return dataclasses.replace(_with_kernels(record, kernels), outputs=outputs)


def _site_with_samples(site: SiteRecord, order: np.ndarray, scale: np.float32) -> SiteRecord:
    changes = {name: getattr(site, name)[order] for name in BY_POSITION}
    changes |= {name: scale * getattr(site, name)[order] for name in GRADIENTS}
    gradient = weight_vjp(site.op, changes["input"], changes["preactivation_gradient"], site.kernel.shape)
    return dataclasses.replace(site, **changes, kernel_gradient=gradient.numpy())


def _output_with_samples(output: OutputRecord, order: np.ndarray, scale: np.float32) -> OutputRecord:
    return dataclasses.replace(
        output,
        value=output.value[order],
        target=output.target[order],
        gradient=scale * output.gradient[order],
    )


def with_units(record: StepRecord, order: np.ndarray) -> StepRecord:
    """The same step with the hidden units in another order: columns of one kernel, rows of the next."""
    hidden, head = kernels_of(record)
    columns = (*BY_POSITION[1:], *GRADIENTS, "kernel", "bias", "offset", "kernel_gradient")
    hidden = dataclasses.replace(hidden, **{name: getattr(hidden, name)[..., order] for name in columns})
    rows = {name: getattr(head, name)[..., order, :] for name in ("kernel", "kernel_gradient")}
    head = dataclasses.replace(head, input=head.input[..., order], **rows)
    return _with_kernels(record, [hidden, head])


def with_loss_times(record: StepRecord, factor: float) -> StepRecord:
    """The same step with a larger loss."""
    factor = np.float32(factor)
    names = (*GRADIENTS, "kernel_gradient")
    kernels = [
        dataclasses.replace(site, **{name: factor * getattr(site, name) for name in names})
        for site in kernels_of(record)
    ]
    outputs = tuple(dataclasses.replace(o, gradient=factor * o.gradient) for o in record.outputs)
    changed = _with_kernels(record, kernels)
    return dataclasses.replace(changed, outputs=outputs, loss=float(factor) * record.loss)
