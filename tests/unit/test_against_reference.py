"""Reports of small Keras models against the slow oracle in tests/reference, figure by figure.

What the oracle is given it gets from Keras' own layer configuration and from a table of activation
functions written by hand, not from the specs and probes of the product.
"""

import dataclasses
import functools
import math

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import trainobs
from tests.reference.attribution import CAUSES, FRACTIONS, REASONS, attribute
from tests.reference.linear import ConvProblem, DenseProblem, weight_sums
from tests.reference.pseudo_inverse import estimate
from tests.unit.problems import BATCHED, PLANTED, PROBLEMS
from trainobs.recording import SiteRecord, StepRecord

RTOL = 1e-3  # of NearZero
MARGIN = 1e-5  # float32 rounding of a compared value is some 1e-7
ROUNDING = 1e-6
FLOAT32 = float(np.finfo(np.float32).eps)


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


# The oracle's side


@dataclasses.dataclass(frozen=True)
class Solved:
    """A problem with its report, and what the oracle found for each kernel."""

    model: keras.Model
    record: StepRecord
    report: trainobs.Report
    given: dict[str, dict]
    found: dict[str, dict]


def channels_last(layer: layers.Layer, array: np.ndarray) -> np.ndarray:
    """An array of the layer's layout with the channels at the end."""
    return np.moveaxis(array, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else array


def problem_op(layer: layers.Layer) -> DenseProblem | ConvProblem:
    """How the layer's kernel meets its input, from the layer's configuration."""
    if isinstance(layer, layers.Dense):
        return DenseProblem()
    return ConvProblem(tuple(layer.strides), layer.padding, tuple(layer.dilation_rate), layer.groups)


def oracle_arguments(model: keras.Model, site: SiteRecord, g_star: float) -> dict:
    """What the oracle needs to know about a recorded site."""
    layer, phi = model.get_layer(site.layer), PHIS[site.activation.name]
    last = functools.partial(channels_last, layer)
    nothing = np.zeros_like(site.preactivation)
    arrays = {
        "input": last(site.input),
        "kernel": site.kernel,
        "bias_offset": 0.0 if site.offset is None else site.offset,
        "preactivation": last(site.activation_input),
        "slope": last(site.slope),
        "output_gradient": last(nothing if site.output_gradient is None else site.output_gradient),
        "preactivation_gradient": last(
            nothing if site.preactivation_gradient is None else site.preactivation_gradient
        ),
    }
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    rule = dict(vars(phi), g_star=g_star, normalised=site.normalised, rtol=RTOL)
    return {"op": problem_op(layer), **arrays, **rule}


def loudest_output(model: keras.Model, record: StepRecord) -> tuple[float, int]:
    """g_out and K of the output with the largest g_out, from what the loss sent there."""
    found = []
    for output in record.outputs:
        layer = model.get_layer(record.nodes[output.node].layer)
        rows = np.asarray(channels_last(layer, output.gradient), np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        found.append((math.sqrt(np.mean(np.sum((len(rows) * rows) ** 2, axis=1))), rows.shape[-1]))
    return max(found)


def gradient_reference(model: keras.Model, record: StepRecord) -> float:
    """g* of one batch."""
    g_out, elements = loudest_output(model, record)
    return max(g_out, 1e-3) / math.sqrt(elements)


def solved(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Solved:
    """Explain a problem and ask the oracle about every kernel."""
    record, report = trainobs.capture_batch(model, x, y), trainobs.explain_near_zero_gradients(model, x, y)
    given = {site.weight: oracle_arguments(model, site, report.gradient_scale) for site in record.sites}
    return Solved(
        model, record, report, given, {weight: attribute(**arguments) for weight, arguments in given.items()}
    )


def per_unit(values: np.ndarray) -> np.ndarray:
    """The mean over the weights of each unit."""
    return values.reshape(-1, values.shape[-1]).mean(axis=0)


def expected_units(found: dict, positions: int) -> dict[str, np.ndarray]:
    """The columns of `Report.units`, but those of other layers and of the pseudo-inverse."""
    near = found["near_zero"].reshape(-1, found["near_zero"].shape[-1]).sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = {f"share_{name}": _unit_sums(found["parts"][name]) / near for name in CAUSES}
        reasons = {f"off_by_{name}": found[f"off_by_{name}"] / found["off"] for name in REASONS}
    return {
        **{name: per_unit(found[name]) for name in ("near_zero", "exact_zero", *FRACTIONS)},
        "gradient_rms": found["gradient_rms"],
        "p_weights": found["p_weights"],
        "dead": found["dead"],
        "off": found["off"] / positions,
        **shares,
        **reasons,
    }


def _unit_sums(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1]).sum(axis=0)


def expected_verdict(found: dict) -> np.ndarray:
    """The causes of every weight as the bits of `Cause`."""
    bits = np.zeros(found["near_zero"].shape, np.uint8)
    for name, part in found["parts"].items():
        bits |= np.where(part > 0, np.uint8(trainobs.Cause[name.upper()]), np.uint8(0))
    return bits


def rounding_of_sums(given: dict) -> np.ndarray:
    """How far float32 may take a sum over the terms: relative to the sum of their sizes."""
    sizes = np.abs(given["input"]), np.abs(given["preactivation_gradient"])
    return ROUNDING * weight_sums(given["op"], *sizes, given["kernel"].shape)


# Comparisons


def check_layers(case: Solved) -> None:
    """Every column of the layers table that is about the layer itself."""
    table = case.report.layers
    assert list(table.index) == list(case.found)
    for weight, found in case.found.items():
        sizes = rounding_of_sums(case.given[weight])
        for column, value in found["layer"].items():
            atol = math.sqrt(np.mean(sizes**2)) if column == "gradient_rms" else 0
            expected = pytest.approx(value, rel=ROUNDING, abs=atol, nan_ok=True)
            assert table.loc[weight, column] == expected, (weight, column)


def check_gain_and_residual(case: Solved) -> None:
    """The gain of every kernel that does not read data, and that its terms explain the gradient."""
    for site in case.record.sites:
        given, row = case.given[site.weight], case.report.layers.loc[site.weight]
        passed = sent_back(case, site, given["preactivation_gradient"])
        reads_data = case.record.nodes[site.node].producers == (-1,)
        arrived = math.nan if reads_data else np.linalg.norm(given["output_gradient"])
        expected = np.linalg.norm(passed) / arrived if arrived else math.nan
        assert row["gain"] == pytest.approx(expected, rel=1e-5, nan_ok=True), site.weight
        assert row["residual"] < 1e-5, site.weight


def check_flow(case: Solved) -> None:
    """Size, zeros and slope gain of the gradient at every kernel's node."""
    flow, (_, elements) = case.report.flow.set_index("node"), loudest_output(case.model, case.record)
    for site in case.record.sites:
        own_activation = site.activation_node == site.node
        arriving = site.output_gradient if own_activation else site.preactivation_gradient
        size = math.sqrt(len(arriving) * np.sum(np.square(arriving, dtype=np.float64)) / elements)
        row = flow.loc[site.layer]
        assert row["gradient_rms"] == pytest.approx(size, rel=1e-5), site.weight
        assert row["zero"] == pytest.approx(np.mean(arriving == 0)), site.weight
        norms = (np.linalg.norm(np.ravel(g).astype(float)) for g in (site.preactivation_gradient, arriving))
        passed, arrived = norms
        slope_gain = passed / arrived if arrived else math.nan
        assert row["slope_gain"] == pytest.approx(slope_gain, rel=1e-5, nan_ok=True), site.weight


def check_units(case: Solved) -> None:
    """Every column of the units table that is about the unit itself."""
    for weight, found in case.found.items():
        table = case.report.units(weight)
        positions = math.prod(case.given[weight]["preactivation"].shape[:-1])
        sizes = rounding_of_sums(case.given[weight])
        for column, values in expected_units(found, positions).items():
            atol = np.sqrt(per_unit(sizes**2)).max() if column == "gradient_rms" else 0
            np.testing.assert_allclose(table[column], values, ROUNDING, atol, err_msg=f"{weight} {column}")


def check_weights(case: Solved) -> None:
    """Near zero, gradient and verdict of every single weight."""
    for weight, found in case.found.items():
        view = case.report.weights(weight)
        np.testing.assert_array_equal(view.near_zero, found["near_zero"])
        np.testing.assert_array_equal(view.verdict, expected_verdict(found))
        error = np.abs(view.gradient - found["data_gradient"])
        assert (error <= rounding_of_sums(case.given[weight])).all(), weight


# What other kernels say about a layer


def readers_of(case: Solved, site: SiteRecord) -> list[SiteRecord]:
    """The sites that read the output of a site, directly or through layers without a kernel."""
    return [reader for reader in case.record.sites if reader.weight in site.consumers]


def rows_of_units(case: Solved, site: SiteRecord, reader: SiteRecord) -> np.ndarray | None:
    """To which unit each row of the reader's kernel belongs; None if that cannot be told."""
    layer, units = case.model.get_layer(site.layer), site.kernel.shape[-1]
    rows = reader.kernel.shape[-2]
    if reads_directly(site, reader):
        labels = np.broadcast_to(np.arange(units), channels_last(layer, site.output).shape)
        labels = labels if labels.shape == site.output.shape else np.moveaxis(labels, -1, 1)
        labels = channels_last(case.model.get_layer(reader.layer), labels.reshape(reader.input.shape))
        labels = labels.reshape(-1, labels.shape[-1])[0]
        return labels if labels.size == rows else None
    pooled = isinstance(case.model.get_layer(reader.layer), layers.Dense) and site.output.ndim > 2
    return np.arange(rows) % units if rows == units or pooled else None


def reads_directly(site: SiteRecord, reader: SiteRecord) -> bool:
    """Whether the reader's input is the site's output, or a reshape of it."""
    return site.output.size == reader.input.size and np.array_equal(site.output.ravel(), reader.input.ravel())


def near_zero_of_rows(near_zero: np.ndarray, owners: np.ndarray | None, units: int) -> np.ndarray:
    """Per unit the fraction of near-zero weights in its rows, or in the whole kernel."""
    if owners is None:
        return np.full(units, near_zero.mean())
    return np.array([near_zero[..., owners == unit, :].mean() for unit in range(units)])


def check_next_gradient(case: Solved) -> None:
    """p_next_gradient is the near-zero fraction of the rows that read each unit."""
    for site in case.record.sites:
        parts = [
            near_zero_of_rows(
                case.found[reader.weight]["near_zero"],
                rows_of_units(case, site, reader),
                site.kernel.shape[-1],
            )
            for reader in readers_of(case, site)
        ]
        expected = np.mean(parts, axis=0) if parts else np.full(site.kernel.shape[-1], np.nan)
        column = case.report.units(site.weight)["p_next_gradient"]
        np.testing.assert_allclose(column, expected, ROUNDING, err_msg=site.weight)
        mean = pytest.approx(expected.mean(), rel=ROUNDING, nan_ok=True)
        assert case.report.layers.loc[site.weight, "p_next_gradient"] == mean


def preactivation_estimate(case: Solved, site: SiteRecord) -> tuple[np.ndarray, int, int]:
    """dJ/dZ of least norm from a site's input and data gradient, its rank, and n."""
    given = case.given[site.weight]
    penalty = 0.0 if site.penalty_gradient is None else site.penalty_gradient
    shape = given["preactivation"].shape
    rcond = max(math.prod(shape[:-1]), math.prod(site.kernel.shape[:-1])) * FLOAT32
    return estimate(given["op"], given["input"], site.kernel_gradient - penalty, shape, rcond)


def sent_back(case: Solved, reader: SiteRecord, gradient: np.ndarray) -> np.ndarray:
    """dJ/d(input) of a reader, in its own layout: every term's d times its weight."""
    given = case.given[reader.weight]
    sums, kernel = np.zeros(given["input"].shape), given["kernel"]
    for kernel_index, input_index, output_index in given["op"].terms(sums.shape, kernel.shape):
        sums[input_index] += gradient[output_index] * kernel[kernel_index]
    return sums if sums.shape == reader.input.shape else np.moveaxis(sums, -1, 1)


def output_estimate(case: Solved, site: SiteRecord) -> tuple[np.ndarray, float]:
    """dJ/dA as the theory estimates it, channels last, and the trust in it."""
    readers = readers_of(case, site)
    if not readers or not all(reads_directly(site, reader) for reader in readers):
        gradient, rank, n = preactivation_estimate(case, site)
        return gradient, rank / n
    solutions = [preactivation_estimate(case, reader) for reader in readers]
    parts = [
        sent_back(case, r, d).reshape(site.output.shape)
        for r, (d, _, _) in zip(readers, solutions, strict=True)
    ]
    trust = min(rank / n for _, rank, n in solutions)
    return channels_last(case.model.get_layer(site.layer), sum(parts)), trust


def check_pseudo_inverse(case: Solved) -> None:
    """p_backprop_pinv, pinv_trust and the true error of the estimate."""
    for site in case.record.sites:
        given = case.given[site.weight]
        gradient, trust = output_estimate(case, site)
        assert distance(gradient * math.prod(gradient.shape[:-1]), RTOL * given["g_star"]) > MARGIN
        estimated = attribute(**given | {"output_gradient": gradient})["p_backprop"]
        row = case.report.layers.loc[site.weight]
        assert row["p_backprop_pinv"] == pytest.approx(estimated.mean(), rel=ROUNDING)
        assert row["pinv_trust"] == pytest.approx(trust)
        units = case.report.units(site.weight)["p_backprop_pinv"]
        np.testing.assert_allclose(units, per_unit(estimated), ROUNDING, err_msg=site.weight)
        truth = np.linalg.norm(given["output_gradient"])
        if truth:
            error = np.linalg.norm(gradient - given["output_gradient"]) / truth
            found = case.report.backprop_estimate.loc[site.weight, "true_error"]
            assert found == pytest.approx(error, rel=1e-4, abs=1e-4)


# No figure hangs on rounding


def distance(values: np.ndarray, limit: np.ndarray | float) -> float:
    """The smallest relative distance of any value from its limit."""
    sizes = np.abs(np.asarray(values, np.float64)) / limit
    return float(np.min(np.abs(sizes[np.isfinite(sizes)] - 1), initial=np.inf))


def mean_squares(given: dict) -> np.ndarray:
    """For each set of factors and weight the mean square that decides on sufficiency, against rtol²."""
    n, g_star = math.prod(given["preactivation"].shape[:-1]), given["g_star"]
    a, s = given["input"], given["slope"]
    h, e = (n / g_star * given[name] for name in ("output_gradient", "preactivation_gradient"))
    ones, live = np.ones_like(a), np.ones_like(s)
    shape = given["kernel"].shape
    terms = np.maximum(weight_sums(given["op"], ones, live, shape), 1)
    products = [(a, live), (ones, s), (ones, h), (a, s), (a, h), (ones, e), (a, e)]
    return np.stack([weight_sums(given["op"], x**2, c**2, shape) / terms for x, c in products])


def saturation_distance(given: dict) -> float:
    """How close the sizes that decide why a saturated unit is off come to z*."""
    op, kernel, point = given["op"], given["kernel"], given["saturation_point"]
    if not point:
        return math.inf
    field = np.zeros((2, *given["preactivation"].shape))
    for _, at, to in op.terms(given["input"].shape, kernel.shape):
        field[(slice(None), *to)] += given["input"][at] ** 2, 1
    norms = np.sqrt(np.sum(kernel**2, axis=tuple(range(kernel.ndim - 1))) / 2)
    excess_input = np.maximum(1, np.sqrt(field[0] / np.maximum(field[1], 1)))
    excess_kernel = np.broadcast_to(np.maximum(1, norms), excess_input.shape)
    free = np.abs(given["preactivation"] - given["bias_offset"])
    healthy = (excess_input == 1) & (excess_kernel == 1)
    return min(
        *(distance(free / excess, point) for excess in (1, excess_input, excess_kernel)),
        distance(excess_input[~healthy], excess_kernel[~healthy]),
    )


def check_distances(case: Solved) -> None:
    """Every comparison is clear by more than float32 can round, so the other tests compare meaning."""
    for weight, given in case.given.items():
        kernel, n = given["kernel"], math.prod(given["preactivation"].shape[:-1])
        w_star = math.sqrt(2 / math.prod(kernel.shape[:-1]))
        distances = {
            "input": distance(given["input"], RTOL),
            "slope": math.inf if given["piecewise_linear"] else distance(given["slope"], 1e-2),
            "backprop": distance(n * given["output_gradient"], RTOL * given["g_star"]),
            "weights": distance(np.maximum(kernel, 0), RTOL * w_star),
            "causes": distance(mean_squares(given), RTOL**2),
            "saturation": saturation_distance(given),
        }
        assert min(distances.values()) > MARGIN, (weight, distances)
        assert gradients_are_clear(given, case.found[weight]), weight


def gradients_are_clear(given: dict, found: dict) -> bool:
    """Whether no D is within rounding of its threshold, and none that is not 0 within rounding of 0."""
    n = math.prod(given["preactivation"].shape[:-1])
    thresholds = RTOL * given["g_star"] * np.sqrt(found["terms"]) / n
    size, rounding = np.abs(found["data_gradient"]), rounding_of_sums(given)
    clear = (np.abs(size - thresholds) > rounding) & ((size == 0) | (size > rounding))
    return bool((clear | (found["terms"] == 0)).all())


# The comparison


@pytest.mark.parametrize("name", PROBLEMS)
def test_report_equals_the_oracle(name):
    """Tables and weights of a report hold what definitions.md says, for every kernel of the model."""
    case = solved(*PROBLEMS[name]())
    reference = gradient_reference(case.model, case.record)
    assert case.report.gradient_scale == pytest.approx(reference, rel=ROUNDING)
    check_distances(case)
    check_layers(case)
    check_gain_and_residual(case)
    check_flow(case)
    check_units(case)
    check_weights(case)
    check_next_gradient(case)
    check_pseudo_inverse(case)
    if name in PLANTED:
        assert case.report.layers[PLANTED[name]].max() > 0


def concatenated(parts: list[dict], g_star: float) -> dict:
    """What the oracle is given about all batches: gradients are those of the mean loss over all data."""
    sizes = [math.prod(part["preactivation"].shape[:-1]) for part in parts]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in ("input", "preactivation", "slope")}
    for name in ("output_gradient", "preactivation_gradient"):
        joined[name] = np.concatenate([n * p[name] for n, p in zip(sizes, parts, strict=True)]) / sum(sizes)
    return parts[0] | joined | {"g_star": g_star}


def counted_by_batch(parts: list[dict]) -> dict[str, np.ndarray]:
    """The fractions that are counted against g*: each batch has its own."""
    found = [attribute(**part) for part in parts]
    terms = np.maximum(sum(batch["terms"] for batch in found), 1)
    names = "p_backprop", "p_activation_backprop"
    return {name: sum(batch[name] * batch["terms"] for batch in found) / terms for name in names}


def solved_by_batch(model: keras.Model, x: np.ndarray, y: np.ndarray, size: int) -> Solved:
    """Explain a problem in batches, and ask the oracle about all of them together."""
    report = trainobs.explain_near_zero_gradients(model, x, y, batch_size=size)
    batches = [slice(start, start + size) for start in range(0, len(x), size)]
    records = [trainobs.capture_batch(model, x[batch], y[batch]) for batch in batches]
    given, found = {}, {}
    for sites in zip(*(record.sites for record in records), strict=True):
        weight, references = sites[0].weight, [gradient_reference(model, record) for record in records]
        parts = [oracle_arguments(model, *pair) for pair in zip(sites, references, strict=True)]
        given[weight] = concatenated(parts, report.gradient_scale)
        found[weight] = attribute(**given[weight]) | counted_by_batch(parts)
        means = {name: float(found[weight][name].mean()) for name in FRACTIONS}
        found[weight]["layer"] |= means
        check_backprop_distances(parts)
    return Solved(model, records[0], report, given, found)


def check_backprop_distances(parts: list[dict]) -> None:
    """No output gradient of a batch is close to that batch's own threshold."""
    for part in parts:
        n = math.prod(part["preactivation"].shape[:-1])
        assert distance(n * part["output_gradient"], RTOL * part["g_star"]) > MARGIN


@pytest.mark.parametrize("name", BATCHED)
def test_batches_add_up_to_the_oracle_of_all_data(name):
    """17 samples in batches of 5 give the figures of all data; counts against g* use each batch's own."""
    model, x, y = BATCHED[name]()
    case = solved_by_batch(model, x, y, 5)
    assert case.report.statistics.batches == 4
    check_distances(case)
    check_layers(case)
    check_gain_and_residual(case)
    check_units(case)
    check_weights(case)
    check_next_gradient(case)
    whole = trainobs.explain_near_zero_gradients(model, x, y)
    assert case.report.gradient_scale == pytest.approx(whole.gradient_scale, rel=1e-5)
    columns = ["near_zero", "gradient_rms", "threshold", "p_input", "p_activation", "dead_units", "gain"]
    np.testing.assert_allclose(case.report.layers[columns], whole.layers[columns], rtol=1e-5)


def test_pseudo_inverse_is_that_of_the_first_batch():
    """With several batches p_backprop_pinv and pinv_trust speak of the first."""
    model, x, y = BATCHED["dense"]()
    columns = ["p_backprop_pinv", "pinv_trust"]
    batched = trainobs.explain_near_zero_gradients(model, x, y, batch_size=5).layers[columns]
    first = trainobs.explain_near_zero_gradients(model, x[:5], y[:5]).layers[columns]
    np.testing.assert_allclose(batched, first)
    assert (first["pinv_trust"] == 1).any()


def test_a_recorded_batch_gives_the_same_tables():
    """A report of a recording equals the report of the model that was recorded."""
    model, x, y = BATCHED["conv"]()
    recording = trainobs.Recording((trainobs.capture_batch(model, x, y),))
    recorded, direct = map(trainobs.explain_near_zero_gradients, (recording, model), (None, x), (None, y))
    pd.testing.assert_frame_equal(recorded.layers, direct.layers)
    pd.testing.assert_frame_equal(recorded.flow, direct.flow)
