"""Reports of small Keras models against the slow oracle in tests/reference, figure by figure.

What the oracle is given it gets from Keras' own layer configuration and from a table of activation
functions written by hand, not from the specs and probes of the product.
"""

import dataclasses
import math

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import trainobs
from tests.reference.attribution import CAUSES, FRACTIONS, REASONS, attribute
from tests.reference.linear import forward, weight_sums
from tests.reference.pseudo_inverse import estimate
from tests.unit.problems import BATCHED, PLANTED, PROBLEMS
from tests.unit.sites import (
    RTOL,
    Told,
    by_unit,
    channels_last,
    healthy_weight,
    joined,
    own_layout,
    positions,
    sent_back,
    unit_positions,
)
from trainobs.records import SiteRecord, StepRecord

MARGIN = 1e-5  # float32 rounding of a compared value is some 1e-7
ROUNDING = 1e-6
FLOAT32 = float(np.finfo(np.float32).eps)
SHARES = [f"share_{name}" for name in CAUSES]


# The oracle's side


@dataclasses.dataclass(frozen=True)
class Solved:
    """A problem with its report, and by path of each weight what the oracle was given and found."""

    model: keras.Model
    record: StepRecord
    report: trainobs.Report
    told: Told
    given: dict[str, dict]
    found: dict[str, dict]

    @property
    def sites(self) -> list[SiteRecord]:
        """The first site of each weight."""
        return [sites[0] for sites in self.told.by_weight.values()]

    @property
    def kernels(self) -> list[SiteRecord]:
        """The first site of each kernel."""
        return [site for site in self.sites if self.is_kernel(site)]

    def is_kernel(self, site: SiteRecord) -> bool:
        """Whether the weight is one of those that multiply a signal, and are no scale."""
        return self.told.name(site).endswith("kernel")

    def is_rounding(self, weight: str) -> bool:
        """Whether a gradient is 0 but for rounding: something takes away what a bias adds.

        A batch's normalisation does, and the softmax behind an attention's keys.
        """
        layer, name = self.told.weights[weight]
        readers = [node.operation for node in layer._outbound_nodes]
        normalised = any(isinstance(r, layers.BatchNormalization) and r.trainable for r in readers)
        return name == "bias" and (normalised or layer.name == "key")

    def is_frozen(self, weight: str) -> bool:
        """Whether no gradient is taken of the weight."""
        return all(variable.path != weight for variable in self.model.trainable_variables)


def loudest_output(told: Told) -> tuple[float, int]:
    """g_out and K of the output with the largest g_out, from what the loss sent there."""
    found = []
    for output in told.record.outputs:
        layer = told.model.get_layer(told.record.nodes[output.node].layer)
        rows = np.asarray(channels_last(layer, output.gradient), np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        found.append((math.sqrt(np.mean(np.sum((len(rows) * rows) ** 2, axis=1))), rows.shape[-1]))
    return max(found)


def gradient_reference(told: Told) -> float:
    """g* of one batch."""
    g_out, elements = loudest_output(told)
    return max(g_out, 1e-3) / math.sqrt(elements)


def solved(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Solved:
    """Explain a problem and ask the oracle about every weight."""
    record, report = trainobs.capture_batch(model, x, y), trainobs.explain_near_zero_gradients(model, x, y)
    told = Told(model, record, x)
    given = {weight: told.given(weight, report.gradient_scale) for weight in told.by_weight}
    found = {weight: attributed(told, weight, arguments) for weight, arguments in given.items()}
    return Solved(model, record, report, told, given, found)


def attributed(told: Told, weight: str, given: dict) -> dict:
    """What the oracle finds, but what is not said of a weight.

    Of weights that are no kernels, nothing is said about their signs. Why units are off is asked of a kernel,
    scale or table: a bias without one, or with other units than its kernel, does not know.
    """
    found, site = attribute(**given), told.by_weight[weight][0]
    silent = [] if told.name(site).endswith("kernel") else ["p_weights"]
    op, _, kernel = given["reads"]
    other_units = op.units(kernel.shape) != given["op"].units(given["kernel"].shape)
    if told.name(site) in ("bias", "beta") and (told.shifted(site) is None or other_units):
        silent += [f"off_by_{name}" for name in REASONS]
    for name in silent:
        found[name] = np.full(found[name].shape, np.nan)
        found["layer"][name] = math.nan
    return found


def expected_units(given: dict, found: dict) -> dict[str, np.ndarray]:
    """The columns of `Report.units`, but those of other layers and of the pseudo-inverse."""
    near = by_unit(given, found["near_zero"]).sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = {f"share_{name}": by_unit(given, found["parts"][name]).sum(axis=1) / near for name in CAUSES}
        reasons = {f"off_by_{name}": found[f"off_by_{name}"] / found["off"] for name in REASONS}
    fractions = "near_zero", "exact_zero", *FRACTIONS
    return {
        **{name: by_unit(given, found[name]).mean(axis=1) for name in fractions},
        "gradient_rms": found["gradient_rms"],
        "p_weights": found["p_weights"],
        "dead": found["dead"],
        "off": found["off"] / unit_positions(given),
        **shares,
        **reasons,
    }


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
    """Every column of the layers table that is about the weight itself; a row for every weight."""
    table = case.report.layers
    assert list(table.index) == list(case.found)
    assert {variable.path for variable in case.model.trainable_variables} <= set(table.index)
    for weight, found in case.found.items():
        sizes = rounding_of_sums(case.given[weight])
        nothing = ("near_zero", "exact_zero", "gradient_rms", *SHARES) if case.is_frozen(weight) else ()
        for column, value in (found["layer"] | dict.fromkeys(nothing, math.nan)).items():
            if column == "exact_zero" and case.is_rounding(weight):
                continue
            atol = math.sqrt(np.mean(sizes**2)) if column == "gradient_rms" else 0
            expected = pytest.approx(value, rel=ROUNDING, abs=atol, nan_ok=True)
            assert table.loc[weight, column] == expected, (weight, column)


def check_forward(case: Solved) -> None:
    """What the oracle was told a kernel, scale or table meets gives the recorded preactivation."""
    for weight, sites in case.told.by_weight.items():
        given, offsets = case.given[weight], ("bias", "beta")
        name = case.told.name(sites[0])
        if name in (*offsets, "depthwise_kernel", "alpha") or len(sites) > 1:
            continue
        layer = case.told.layer(sites[0])
        shift = next((v for v in (case.told.beside(sites[0], o) for o in offsets) if v is not None), None)
        z = forward(given["op"], given["input"], given["kernel"])
        if shift is not None:
            met = case.told.met(shift)
            z = z + forward(met.op, met.input, met.kernel)
        recorded = channels_last(layer, sites[0].preactivation)
        np.testing.assert_allclose(z, recorded, rtol=1e-4, atol=1e-5 * np.abs(z).max(), err_msg=weight)


def check_gain_and_residual(case: Solved) -> None:
    """The gain of every layer that does not read data, and that terms explain the gradients."""
    for site in case.sites:
        row = case.report.layers.loc[site.weight]
        assert row["residual"] < 1e-5, site.weight
        if len(case.told.by_weight[site.weight]) == 1:
            expected = expected_gain(case, site)
            assert row["gain"] == pytest.approx(expected, rel=1e-5, nan_ok=True), site.weight


def expected_gain(case: Solved, site: SiteRecord) -> float:
    """‖dJ/d(input)‖ / ‖dJ/dA‖ of a kernel and its bias; nan for what reads data or only scales."""
    read_by = site if case.is_kernel(site) else case.told.shifted(site)
    reads_data = case.record.nodes[site.node].producers == (-1,)
    if read_by is None or not case.is_kernel(read_by) or reads_data:
        return math.nan
    given = case.given[read_by.weight]
    passed = sent_back(given["op"], given["kernel"], given["preactivation_gradient"], given["input"].shape)
    arrived = np.linalg.norm(given["output_gradient"])
    return float(np.linalg.norm(passed) / arrived) if arrived else math.nan


def check_flow(case: Solved) -> None:
    """Size and zeros of the gradient at every weight's node; slope gain where a kernel is."""
    _, elements = loudest_output(case.told)
    for site in case.sites:
        arriving, passed = arriving_and_passed(case, site)
        size = math.sqrt(len(arriving) * np.sum(np.square(arriving, dtype=np.float64)) / elements)
        row = case.report.flow.iloc[len(case.report.flow) - 1 - site.node]
        assert row["layer"] == site.layer
        assert row["gradient_rms"] == pytest.approx(size, rel=1e-5), site.weight
        assert row["zero"] == pytest.approx(np.mean(arriving == 0)), site.weight
        after, before = (np.linalg.norm(np.ravel(g).astype(float)) for g in (passed, arriving))
        scales = not case.is_kernel(case.told.shifted(site) or site) and site.role != "table"
        slope_gain = math.nan if scales or not before else after / before
        assert row["slope_gain"] == pytest.approx(slope_gain, rel=1e-5, nan_ok=True), site.weight


def arriving_and_passed(case: Solved, site: SiteRecord) -> tuple[np.ndarray, np.ndarray]:
    """What arrives at a weight's node, and dJ/dZ."""
    if case.told.name(site) == "depthwise_kernel":
        d = case.given[site.weight]["preactivation_gradient"]
        return d, d
    own_activation = site.activation_node == site.node
    arriving = site.output_gradient if own_activation else site.preactivation_gradient
    return arriving, site.preactivation_gradient


def check_units(case: Solved) -> None:
    """Every column of the units table that is about the unit itself."""
    for weight, found in case.found.items():
        given, table = case.given[weight], case.report.units(weight)
        sizes = by_unit(given, rounding_of_sums(given))
        for column, values in expected_units(given, found).items():
            if column == "exact_zero" and case.is_rounding(weight):
                continue
            atol = np.sqrt(np.mean(sizes**2, axis=1)).max() if column == "gradient_rms" else 0
            np.testing.assert_allclose(table[column], values, ROUNDING, atol, err_msg=f"{weight} {column}")


def check_weights(case: Solved) -> None:
    """Near zero, gradient and verdict of every single weight."""
    for weight, found in case.found.items():
        view = case.report.weights(weight)
        np.testing.assert_array_equal(view.near_zero, found["near_zero"], weight)
        np.testing.assert_array_equal(view.verdict, expected_verdict(found), weight)
        error = np.abs(view.gradient - found["data_gradient"])
        assert (error <= rounding_of_sums(case.given[weight])).all(), weight


# What other kernels say about a layer


def readers_of(case: Solved, site: SiteRecord) -> list[SiteRecord]:
    """The sites that read the output of a site, directly or through layers without a kernel."""
    return [reader for reader in case.kernels if reader.weight in site.consumers]


def rows_of_units(case: Solved, site: SiteRecord, reader: SiteRecord) -> dict[tuple, int] | None:
    """To which unit each weight of the reader's kernel belongs; None if that cannot be told.

    A reader in groups has no rows of its own for each unit.
    """
    owners = inputs_of_units(case, site, reader)
    given = case.given[reader.weight]
    op, shape = given["op"], given["kernel"].shape
    grouped = getattr(op, "groups", 1) > 1 or "Depthwise" in type(op).__name__
    if owners is None or grouped:
        return None
    found: dict[tuple, set] = {}
    for kernel_index, input_index, _ in op.terms(owners.shape, shape):
        found.setdefault(kernel_index, set()).add(owners[input_index])
    told_apart = all(len(units) == 1 for units in found.values())
    return {index: units.pop() for index, units in found.items()} if told_apart else None


def inputs_of_units(case: Solved, site: SiteRecord, reader: SiteRecord) -> np.ndarray | None:
    """To which unit of a site each element of a reader's input belongs."""
    given, layer = case.given[site.weight], case.told.layer(site)
    op, units = given["op"], given["op"].units(given["kernel"].shape)
    if reads_directly(site, reader):
        labels = np.zeros(channels_last(layer, site.output).shape, int)
        for index in np.ndindex(*labels.shape):
            labels[index] = op.unit_of_output(index, given["kernel"].shape)
        labels = own_layout(layer, labels).reshape(reader.input.shape)
        return channels_last(case.told.layer(reader), labels)
    met = channels_last(case.told.layer(reader), reader.input).shape
    rows = met[-1]
    pooled = isinstance(case.told.layer(reader), layers.Dense) and site.output.ndim > 2
    if rows != units and not pooled:
        return None
    return np.broadcast_to(np.arange(rows) % units, met)


def reads_directly(site: SiteRecord, reader: SiteRecord) -> bool:
    """Whether the reader's input is the site's output, or a reshape of it."""
    return site.output.size == reader.input.size and np.array_equal(site.output.ravel(), reader.input.ravel())


def near_zero_of_rows(
    case: Solved, reader: SiteRecord, owners: dict[tuple, int] | None, units: int
) -> np.ndarray:
    """Per unit the fraction of near-zero weights in its rows, or in the whole kernel."""
    near_zero = case.found[reader.weight]["near_zero"]
    if owners is None:
        return np.full(units, near_zero.mean())
    found: list[list[bool]] = [[] for _ in range(units)]
    for index, unit in owners.items():
        found[unit].append(near_zero[index])
    return np.array([np.mean(values) for values in found])


def check_next_gradient(case: Solved) -> None:
    """p_next_gradient is the near-zero fraction of the rows that read each unit."""
    for site in case.sites:
        given = case.given[site.weight]
        units = given["op"].units(given["kernel"].shape)
        parts = [
            near_zero_of_rows(case, reader, rows_of_units(case, site, reader), units)
            for reader in readers_of(case, site)
        ]
        expected = np.mean(parts, axis=0) if parts else np.full(units, np.nan)
        column = case.report.units(site.weight)["p_next_gradient"]
        np.testing.assert_allclose(column, expected, ROUNDING, err_msg=site.weight)
        mean = pytest.approx(expected.mean(), rel=ROUNDING, nan_ok=True)
        assert case.report.layers.loc[site.weight, "p_next_gradient"] == mean


def preactivation_estimate(case: Solved, site: SiteRecord) -> tuple[np.ndarray, int, int]:
    """dJ/dZ of least norm from a site's input and data gradient, its rank, and n."""
    given = case.given[site.weight]
    penalty = 0.0 if site.penalty_gradient is None else site.penalty_gradient
    shape, units = given["preactivation"].shape, given["op"].units(given["kernel"].shape)
    rcond = max(unit_positions(given), site.kernel.size // units) * FLOAT32
    return estimate(given["op"], given["input"], site.kernel_gradient - penalty, shape, rcond)


def output_estimate(case: Solved, site: SiteRecord) -> tuple[np.ndarray, float]:
    """dJ/dA as the theory estimates it, channels last, and the trust in it."""
    readers = readers_of(case, site)
    if not readers or not all(reads_directly(site, reader) for reader in readers):
        gradient, rank, n = preactivation_estimate(case, site)
        return gradient, rank / n
    solutions = [preactivation_estimate(case, reader) for reader in readers]
    parts = []
    for reader, (gradient, _, _) in zip(readers, solutions, strict=True):
        given = case.given[reader.weight]
        sent = sent_back(given["op"], given["kernel"], gradient, given["input"].shape)
        parts.append(own_layout(case.told.layer(reader), sent).reshape(site.output.shape))
    trust = min(rank / n for _, rank, n in solutions)
    return channels_last(case.told.layer(site), sum(parts)), trust


def check_pseudo_inverse(case: Solved) -> None:
    """p_backprop_pinv, pinv_trust and the true error of the estimate: of kernels only."""
    kernels = [site.weight for site in case.kernels]
    others = case.report.layers.drop(index=kernels)
    assert others[["p_backprop_pinv", "pinv_trust"]].isna().all(axis=None)
    assert list(case.report.backprop_estimate.index) == kernels
    for site in case.kernels:
        given = case.given[site.weight]
        gradient, trust = output_estimate(case, site)
        assert distance(gradient * positions(given), RTOL * given["g_star"]) > MARGIN
        estimated = attribute(**given | {"output_gradient": gradient})["p_backprop"]
        row = case.report.layers.loc[site.weight]
        assert row["p_backprop_pinv"] == pytest.approx(estimated.mean(), rel=ROUNDING)
        assert row["pinv_trust"] == pytest.approx(trust)
        units = case.report.units(site.weight)["p_backprop_pinv"]
        expected = by_unit(given, estimated).mean(axis=1)
        np.testing.assert_allclose(units, expected, ROUNDING, err_msg=site.weight)
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
    n, g_star = positions(given), given["g_star"]
    a, s = given["input"], given["slope"]
    h, e = (n / g_star * given[name] for name in ("output_gradient", "preactivation_gradient"))
    ones, live = np.ones_like(a), np.ones_like(s)
    shape = given["kernel"].shape
    terms = np.maximum(weight_sums(given["op"], ones, live, shape), 1)
    products = [(a, live), (ones, s), (ones, h), (a, s), (a, h), (ones, e), (a, e)]
    return np.stack([weight_sums(given["op"], x**2, c**2, shape) / terms for x, c in products])


def saturation_distance(given: dict) -> float:
    """How close the sizes that decide why a saturated unit is off come to z*."""
    op, inputs, kernel = given["reads"]
    point = given["saturation_point"]
    if not point:
        return math.inf
    field = np.zeros((2, *given["preactivation"].shape))
    for _, at, to in op.terms(inputs.shape, kernel.shape):
        field[(slice(None), *to)] += inputs[at] ** 2, 1
    norms = np.sqrt(np.sum(by_unit({"op": op, "kernel": kernel}, kernel) ** 2, axis=1) / 2)
    excess_input = np.maximum(1, np.sqrt(field[0] / np.maximum(field[1], 1)))
    excess_kernel = np.zeros_like(excess_input)
    for index in np.ndindex(*excess_kernel.shape):
        excess_kernel[index] = max(1, norms[op.unit_of_output(index, kernel.shape)])
    free = np.abs(given["preactivation"] - given["bias_offset"])
    healthy = (excess_input == 1) & (excess_kernel == 1)
    return min(
        *(distance(free / excess, point) for excess in (1, excess_input, excess_kernel)),
        distance(excess_input[~healthy], excess_kernel[~healthy]),
    )


def check_distances(case: Solved) -> None:
    """Every comparison is clear by more than float32 can round, so the other tests compare meaning."""
    for weight, given in case.given.items():
        small = RTOL * healthy_weight(given)
        distances = {
            "input": distance(given["input"], RTOL),
            "slope": math.inf if given["piecewise_linear"] else distance(given["slope"], 1e-2),
            "backprop": distance(positions(given) * given["output_gradient"], RTOL * given["g_star"]),
            "weights": distance(np.maximum(given["kernel"], 0), small),
            "causes": distance(mean_squares(given), RTOL**2),
            "saturation": saturation_distance(given),
        }
        assert min(distances.values()) > MARGIN, (weight, distances)
        assert gradients_are_clear(given, case.found[weight], case.is_rounding(weight)), weight


def gradients_are_clear(given: dict, found: dict, is_rounding: bool) -> bool:
    """Whether no D is within rounding of its threshold, and none that is not 0 within rounding of 0."""
    thresholds = RTOL * given["g_star"] * np.sqrt(found["terms"]) / positions(given)
    size, rounding = np.abs(found["data_gradient"]), rounding_of_sums(given)
    clear = (np.abs(size - thresholds) > rounding) & (is_rounding | (size == 0) | (size > rounding))
    return bool((clear | (found["terms"] == 0)).all())


# The comparison


@pytest.mark.parametrize("name", PROBLEMS)
def test_report_equals_the_oracle(name):
    """Tables and weights of a report hold what definitions.md says, for every weight of the model."""
    case = solved(*PROBLEMS[name]())
    reference = gradient_reference(case.told)
    assert case.report.gradient_scale == pytest.approx(reference, rel=ROUNDING)
    check_forward(case)
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
    sizes = [positions(part) for part in parts]
    scaled = []
    for size, part in zip(sizes, parts, strict=True):
        names = "output_gradient", "preactivation_gradient"
        scaled.append(part | {name: size / sum(sizes) * part[name] for name in names})
    return joined(scaled) | {"g_star": g_star, "positions": sum(sizes)}


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
    told = [Told(model, *pair) for pair in zip(records, (x[batch] for batch in batches), strict=True)]
    given, found = {}, {}
    for weight in told[0].by_weight:
        parts = [batch.given(weight, gradient_reference(batch)) for batch in told]
        given[weight] = concatenated(parts, report.gradient_scale)
        found[weight] = attributed(told[0], weight, given[weight]) | counted_by_batch(parts)
        means = {name: float(found[weight][name].mean()) for name in FRACTIONS}
        found[weight]["layer"] |= means
        check_backprop_distances(parts)
    return Solved(model, records[0], report, told[0], given, found)


def check_backprop_distances(parts: list[dict]) -> None:
    """No output gradient of a batch is close to that batch's own threshold."""
    for part in parts:
        assert distance(positions(part) * part["output_gradient"], RTOL * part["g_star"]) > MARGIN


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
