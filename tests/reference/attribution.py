"""Near-zero gradients and their causes, per weight and per unit, as docs/definitions.md defines them."""

import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np

A_STAR = 1.0
S_STAR = 1.0

FACTORS = ("input", "activation", "backprop")
SETS = (
    ("input",),
    ("activation",),
    ("backprop",),
    ("input", "activation"),
    ("input", "backprop"),
    ("activation", "backprop"),
    ("input", "activation", "backprop"),
)
CAUSES = (*("_".join(factors) for factors in SETS), "cancellation")
FRACTIONS = ("p_input", "p_activation", "p_backprop", "p_input_activation", "p_activation_backprop")
REASONS = ("input", "weights", "bias", "combination")

Term = namedtuple("Term", "a s g d")


@dataclass(frozen=True)
class Site:
    """One kernel with what was measured around it, and the thresholds."""

    op: object
    input: np.ndarray
    kernel: np.ndarray
    bias_offset: np.ndarray
    preactivation: np.ndarray
    slope: np.ndarray
    output_gradient: np.ndarray
    preactivation_gradient: np.ndarray
    rtol: float
    g_star: float
    piecewise_linear: bool
    slope_atol: float
    rectifies: bool
    saturation_point: float
    normalised: bool
    positions: int | None
    reads: tuple

    @property
    def unit_positions(self):
        """How many elements of the preactivation belong to one unit."""
        return self.preactivation.size // self.units

    @property
    def n(self):
        """The number of positions, by which a mean loss divides."""
        return self.unit_positions if self.positions is None else self.positions

    @property
    def units(self):
        """The number of units."""
        return self.op.units(self.kernel.shape)

    @property
    def fan_in(self):
        """The number of weights into one unit."""
        return self.kernel.size // self.units

    def unit_of_weight(self, kernel_index):
        """To which unit a weight belongs."""
        return self.op.unit_of_kernel(kernel_index, self.kernel.shape)

    def unit_at(self, output_index):
        """To which unit an element of the preactivation belongs."""
        return self.op.unit_of_output(output_index, self.kernel.shape)

    def input_near_zero(self, a):
        """a ≈ 0."""
        return abs(a) <= self.rtol * A_STAR

    def slope_near_zero(self, s):
        """s ≈ 0: the unit is off."""
        return s == 0 if self.piecewise_linear else abs(s) <= self.slope_atol

    def gradient_near_zero(self, g):
        """g ≈ 0."""
        return abs(self.n * g) <= self.rtol * self.g_star

    def threshold(self, count):
        """The largest |D| that is near zero for a weight with this many terms."""
        return self.rtol * A_STAR * self.g_star * math.sqrt(count) / self.n


def attribute(
    op, *, input, kernel, bias_offset, preactivation, slope, output_gradient, preactivation_gradient,
    rtol=1e-3, g_star, piecewise_linear, slope_atol=1e-2, rectifies, saturation_point, normalised=False,
    positions=None, reads=None,
):  # fmt: skip
    """Every figure of one site: arrays per weight and per unit, and the columns of the layer under "layer".

    preactivation is what the activation reads (Z), bias_offset what is added last before it (b, broadcasts
    to Z), output_gradient dJ/dA, preactivation_gradient dJ/dZ. off and off_by_* are counts of positions.
    positions is n where it is not all elements of a unit (several calls: that of the first). reads is what
    the units are off by, as (op, input, kernel): of a bias, the kernel whose units it shifts.
    """
    a, w, z, s, g, d = (
        np.asarray(array, np.float64)
        for array in (input, kernel, preactivation, slope, output_gradient, preactivation_gradient)
    )
    assert op.output_shape(a.shape, w.shape) == z.shape == s.shape == g.shape == d.shape
    b = np.broadcast_to(np.asarray(bias_offset, np.float64), z.shape)
    site = Site(
        op, a, w, b, z, s, g, d,
        rtol, float(g_star), piecewise_linear, slope_atol, rectifies, saturation_point, normalised,
        positions, (op, a, w) if reads is None else reads,
    )  # fmt: skip
    weights = _per_weight(site)
    units = _per_unit(site) | {"gradient_rms": _gradient_rms(site, weights["data_gradient"])}
    return {**weights, **units, "layer": _layer(site, weights, units)}


# Per weight


def _terms_by_weight(site):
    """kernel_index -> the list of its terms; empty for a weight without any."""
    found = {index: [] for index in np.ndindex(*site.kernel.shape)}
    for kernel_index, at, to in site.op.terms(site.input.shape, site.kernel.shape):
        factors = site.input[at], site.slope[to], site.output_gradient[to], site.preactivation_gradient[to]
        found[kernel_index].append(Term(*map(float, factors)))
    return found


def _per_weight(site):
    """The arrays of the kernel's shape."""
    shape = site.kernel.shape
    kinds = {"terms": int, "near_zero": bool, "exact_zero": bool}
    names = ("terms", "data_gradient", "near_zero", "exact_zero", *FRACTIONS)
    arrays = {name: np.zeros(shape, kinds.get(name, float)) for name in names}
    parts = {name: np.zeros(shape) for name in CAUSES}
    for index, terms in _terms_by_weight(site).items():
        for name, value in _figures(site, terms).items():
            arrays[name][index] = value
        causes = _causes(site, terms) if arrays["near_zero"][index] else []
        for name in causes:
            parts[name][index] = 1 / len(causes)
    return {**arrays, "parts": parts}


def _figures(site, terms):
    """Every figure of one weight but its causes."""
    gradient = sum(t.a * t.d for t in terms)
    found = {"terms": len(terms), "data_gradient": gradient, "exact_zero": gradient == 0}
    found["near_zero"] = abs(gradient) <= site.threshold(len(terms))
    return found | _fractions(site, terms)


def _fractions(site, terms):
    """p_input and the like of one weight."""
    if not terms:
        return dict.fromkeys(FRACTIONS, 0.0) | {"p_input": 1.0, "p_input_activation": 1.0}
    counts = dict.fromkeys(FRACTIONS, 0)
    for t in terms:
        a, s, g = site.input_near_zero(t.a), site.slope_near_zero(t.s), site.gradient_near_zero(t.g)
        counts["p_input"] += a
        counts["p_activation"] += s
        counts["p_backprop"] += g
        counts["p_input_activation"] += a or s
        counts["p_activation_backprop"] += s or g
    return {name: count / len(terms) for name, count in counts.items()}


def _causes(site, terms):
    """The names of the causes of one near-zero weight; they share it in equal parts."""
    if not terms:
        return ["input"]
    sufficient = [set(factors) for factors in SETS if _mean_square(site, terms, factors) <= site.rtol**2]
    minimal = []
    for factors in sufficient:
        if not any(smaller < factors for smaller in sufficient):
            minimal.append("_".join(name for name in FACTORS if name in factors))
    return minimal or ["cancellation"]


def _mean_square(site, terms, factors):
    """The mean square over the terms of the product of these factors, each against its reference."""
    total = 0.0
    for t in terms:
        value = 1.0
        if "input" in factors:
            value *= t.a / A_STAR
        if "activation" in factors and "backprop" in factors:
            value *= site.n * t.d / (S_STAR * site.g_star)  # the measured d, not s * g
        elif "activation" in factors:
            value *= t.s / S_STAR
        elif "backprop" in factors:
            value *= site.n * t.g / site.g_star
        total += value**2
    return total / len(terms)


# Per unit


def _per_unit(site):
    """The arrays of one number per unit."""
    off = np.zeros(site.units, int)
    counts = {name: np.zeros(site.units, int) for name in REASONS}
    fields, incoming = _receptive_fields(site), _incoming(site)
    for output_index in np.ndindex(*site.preactivation.shape):
        if site.slope_near_zero(site.slope[output_index]):
            unit = site.unit_at(output_index)
            off[unit] += 1
            counts[_reason(site, output_index, fields[output_index], incoming(output_index))][unit] += 1
    found = {"p_weights": _p_weights(site), "dead": off == site.unit_positions, "off": off}
    return found | {f"off_by_{name}": count for name, count in counts.items()}


def _gradient_rms(site, gradient):
    """Per unit the root mean square of D over its incoming weights."""
    return np.array([_root_mean_square(values) for values in _by_unit(site, gradient)])


def _by_unit(site, array):
    """An array of the kernel's shape as (units, fan_in)."""
    found = [[] for _ in range(site.units)]
    for index in np.ndindex(*site.kernel.shape):
        found[site.unit_of_weight(index)].append(array[index])
    return np.array(found)


def _p_weights(site):
    """Per unit the fraction of its incoming weights that are negative or near zero."""
    w_star = math.sqrt(2 / site.fan_in)
    counts = np.zeros(site.units)
    for index in np.ndindex(*site.kernel.shape):
        counts[site.unit_of_weight(index)] += site.kernel[index] <= site.rtol * w_star
    return counts / site.fan_in


def _receptive_fields(site):
    """output_index -> the list of (input element, weight) that meet there; padding is not in it."""
    found = {index: [] for index in np.ndindex(*site.preactivation.shape)}
    op, inputs, kernel = site.reads
    for kernel_index, input_index, output_index in op.terms(inputs.shape, kernel.shape):
        found[output_index].append((float(inputs[input_index]), float(kernel[kernel_index])))
    return found


def _incoming(site):
    """From an output_index to all weights into its unit."""
    op, _, kernel = site.reads
    found = [[] for _ in range(op.units(kernel.shape))]
    for index in np.ndindex(*kernel.shape):
        found[op.unit_of_kernel(index, kernel.shape)].append(kernel[index])
    return lambda output_index: np.array(found[op.unit_of_output(output_index, kernel.shape)])


def _reason(site, output_index, field, unit_weights):
    """Why a unit is off at a position; first match wins."""
    z = site.preactivation[output_index]
    without_bias = z - site.bias_offset[output_index]
    if z <= 0 and site.rectifies:
        return _reason_rectified(site, without_bias, field)
    return _reason_saturated(site, without_bias, field, unit_weights)


def _reason_rectified(site, without_bias, field):
    """Why a unit is off below zero."""
    live = [(a, w) for a, w in field if not site.input_near_zero(a)]
    if not live:
        return "input"
    if not site.normalised and not any(a * w > 0 for a, w in live):
        return "weights"
    return "bias" if without_bias > 0 else "combination"


def _reason_saturated(site, without_bias, field, unit_weights):
    """Why a unit is off in saturation."""
    squares = [(a / A_STAR) ** 2 for a, _ in field]
    ratio_input = max(1.0, math.sqrt(sum(squares) / len(squares))) if squares else 1.0
    ratio_weights = max(1.0, math.sqrt(sum(float(w) ** 2 for w in unit_weights.flat)) / math.sqrt(2))
    size = abs(without_bias)
    if size < site.saturation_point:
        return "bias"
    if ratio_input >= ratio_weights and size / ratio_input < site.saturation_point:
        return "input"
    if ratio_weights > ratio_input and size / ratio_weights < site.saturation_point:
        return "weights"
    return "combination"


# Per layer


def _layer(site, weights, units):
    """The columns of the layer; shares are of near-zero weights, off_by_* of off (position, unit) pairs."""
    columns = {name: float(np.mean(weights[name])) for name in ("near_zero", "exact_zero", *FRACTIONS)}
    columns["gradient_rms"] = _root_mean_square(weights["data_gradient"])
    columns["threshold"] = site.threshold(int(weights["terms"].max()))
    columns["p_weights"] = float(np.mean(units["p_weights"]))
    columns["dead_units"] = int(units["dead"].sum())
    for name in CAUSES:
        columns[f"share_{name}"] = _ratio(weights["parts"][name].sum(), weights["near_zero"].sum())
    for name in REASONS:
        columns[f"off_by_{name}"] = _ratio(units[f"off_by_{name}"].sum(), units["off"].sum())
    return columns


def _root_mean_square(values):
    """The root of the mean of the squares."""
    return math.sqrt(sum(float(value) ** 2 for value in values.flat) / values.size)


def _ratio(part, whole):
    """part / whole, nan where there is no whole."""
    return float(part / whole) if whole else math.nan
