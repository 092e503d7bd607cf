"""The schema of sums: what real statistics hold is what it says, and what is derived from it is right."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from tests.unit.problems import PROBLEMS, classifier, random
from trainobs.analysis import condensed
from trainobs.errors import InvalidArgument
from trainobs.records import StepRecord
from trainobs.statistics import PER_WEIGHT, SUMS, SiteStatistics, Statistics, gather
from trainobs.statistics._schema import added, names_over, per_position, refuse_unknown, spread_sums
from trainobs.thresholds import NearZero


def in_half_precision() -> tuple:
    """A model that computes in float16."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return classifier(random(6, 5), layers.Dense(4, "relu"))
    finally:
        keras.mixed_precision.set_global_policy("float32")


#: By what is special about a weight of the model: how it is made, and the role of the weight.
CASES: dict[str, tuple[Callable[[], tuple], str]] = {
    "kernel": (lambda: classifier(random(6, 5), layers.Dense(4, "relu")), "kernel"),
    "linear kernel": (lambda: classifier(random(6, 5), layers.Dense(4)), "kernel"),
    "window": (PROBLEMS["conv2d same strided"], "kernel"),
    "grouped window": (PROBLEMS["conv2d channels first grouped"], "kernel"),
    "grouped linear window": (
        lambda: classifier(random(2, 6, 4), layers.Conv1D(6, 3, groups=2)), "kernel",
    ),
    "depthwise": (
        lambda: classifier(random(3, 5, 4), layers.DepthwiseConv1D(2, depth_multiplier=2)), "kernel",
    ),
    "transposed window": (PROBLEMS["transposed behind convolution"], "kernel"),
    "einsum": (PROBLEMS["einsum with a bias per step"], "kernel"),
    "bias": (lambda: classifier(random(6, 5), layers.Dense(4, "tanh")), "bias"),
    "scale": (PROBLEMS["layer normalisation"], "scale"),
    "scale by window": (PROBLEMS["prelu shared along an axis"], "scale"),
    "table": (PROBLEMS["lookup"], "table"),
    "table of two calls": (PROBLEMS["lookup by two calls"], "table"),
    "gate": (lambda: classifier(random(4, 5, 3), layers.LSTM(4)), "recurrent"),
    "gate with pixels": (lambda: classifier(random(2, 3, 4, 4, 1), layers.ConvLSTM2D(2, 2)), "recurrent"),
    "half precision": (in_half_precision, "kernel"),
}  # fmt: skip


@functools.cache
def record_of(case: str) -> StepRecord:
    """A step of a case's model."""
    return trainobs.capture_batch(*CASES[case][0]())


@functools.cache
def statistics_of(case: str) -> tuple[Statistics, ...]:
    """All that can be gathered of a step."""
    record, near_zero = record_of(case), NearZero()
    measured, by_inverse = gather(record, near_zero), gather(record, near_zero, backprop="pinv")
    return measured, measured + measured, by_inverse, gather(record, near_zero, condense=condensed)


def sizes_of(site: SiteStatistics) -> dict[str, int]:
    """The size of each axis of the schema's legend but k."""
    *_, inputs, units = site.kernel.shape
    groups = site.info.op.groups
    return {
        "i": inputs,
        "j": units,
        "g": units if groups > 1 else 1,
        "c": 1 if site.info.op.constant_input else inputs * groups,
        "t": len(site.sums.get("step_size", ())),
        "r": inputs if site.rows is not None else 1,
        "1": 1,
    }


def shape_of(name: str, site: SiteStatistics) -> tuple[int, ...]:
    """The largest shape that the schema allows."""
    sizes, window = sizes_of(site), site.kernel.shape[:-2]
    axes = SUMS[name].axes
    own = tuple(sizes[letter] for letter in axes.removeprefix("k"))
    return (*window, *own) if axes.startswith("k") else own


@pytest.mark.parametrize("case", CASES)
def test_sums_have_the_axes_of_the_schema(case):
    """Every sum of every weight; along an axis it is as large as the schema says, or compact."""
    roles = set()
    for statistics in statistics_of(case):
        for site in statistics.sites.values():
            roles.add(site.info.role)
            for name, values in site.sums.items():
                expected = shape_of(name, site)
                assert np.ndim(values) == len(expected), (name, np.shape(values))
                fits = [found in (1, most) for found, most in zip(np.shape(values), expected, strict=True)]
                assert all(fits), (site.info.weight, name, np.shape(values), expected)
    assert CASES[case][1] in roles


@pytest.mark.parametrize("case", ["table", "table of two calls"])
def test_what_is_over_terms_has_a_row_for_each_row_of_a_table(case):
    """Nothing else has; so a table's sums can be spread over more rows."""
    (site,) = (site for site in statistics_of(case)[0].sites.values() if site.rows is not None)
    lengths = {name: len(values) for name, values in site.sums.items() if SUMS[name].per_row}
    assert set(lengths.values()) == {site.rows.size}
    assert set(lengths) == set(names_over("terms")) - {"verdict", "input_or_slope_zero"}


def test_every_sum_of_the_schema_is_in_some_statistics():
    """The schema has no sum that nothing computes."""
    held = {
        name
        for case in CASES
        for statistics in statistics_of(case)
        for site in statistics.sites.values()
        for name in site.sums
    }
    assert held == set(SUMS)


@pytest.mark.parametrize("case", ["kernel", "scale", "bias", "table", "gate"])
def test_powers_are_those_of_gradients(case):
    """With a loss of twice the size, a sum grows by 2 to its power; counts of what is near zero do not."""
    model, x, y = CASES[case][0]()
    found = []
    for factor in (1.0, 2.0):
        loss = keras.losses.get(model.loss)
        model.compile("sgd", lambda t, p, loss=loss, factor=factor: factor * loss(t, p))
        record = trainobs.capture_batch(model, x, y)
        found.append(gather(record, NearZero(), pinv=False))
        model.compile("sgd", loss)
    for weight, site in found[0].sites.items():
        for name in set(site.sums) - {"residual"}:
            doubled = found[1].sites[weight].sums[name]
            expected = 2.0 ** SUMS[name].power * site.sums[name]
            np.testing.assert_allclose(doubled, expected, 1e-4, 1e-4 * np.max(np.abs(expected)), err_msg=name)


def test_a_sum_per_position_is_scaled_by_its_power():
    """Counts stay as they are."""
    sums = {name: np.ones(2) for name in ("terms", "gradient", "all_sq")}
    scaled = per_position(sums, 3)
    assert {name: values[0] for name, values in scaled.items()} == {"terms": 1, "gradient": 3, "all_sq": 9}


def test_what_is_derived():
    """Spelled out once: what is as large as the kernel, and what speaks of units alone."""
    assert {
        "input_slope_sq", "input_backprop_sq", "all_sq", "input_and_slope_live", "gradient",
    } == PER_WEIGHT  # fmt: skip
    assert set(names_over("units")) == {
        "off", "off_input", "off_weights", "off_bias", "off_combination", "output_gradient_sq",
        "unit_positions", "unit_slope_zero", "unit_backprop_zero", "unit_slope_or_backprop_zero",
        "unit_slope_sq", "unit_backprop_sq",
    }  # fmt: skip
    assert {name for name in SUMS if not SUMS[name].additive} == {"verdict", "input_or_slope_zero"}
    assert all(sum_.meaning.endswith(".") for sum_ in SUMS.values())


def test_steps_of_batches_of_different_length_are_added_from_the_first_on():
    """The longer one has the last steps alone; other sums of one axis are added as they are."""
    one, other = {"step_off": np.array([1.0, 2.0, 3.0])}, {"step_off": np.array([10.0])}
    assert added(one, other)["step_off"].tolist() == added(other, one)["step_off"].tolist() == [11, 2, 3]


def test_sums_of_a_table_are_spread_over_more_rows():
    """Rows that were not looked up have no terms; what has no rows stays as it is."""
    sums = {"terms": np.array([[2.0], [5.0]]), "off": np.array([1.0, 2.0])}
    found = spread_sums(sums, np.array([3, 7]), np.array([1, 3, 7]))
    assert found["terms"].tolist() == [[0], [2], [5]]
    assert found["off"].tolist() == [1, 2]


def test_unknown_sums_are_refused():
    """The error says what came, what is known, and where a new sum belongs."""
    with pytest.raises(InvalidArgument, match=r"no sums named \['slopes'\]. Known: terms, .*_schema.py"):
        refuse_unknown(["terms", "slopes"])
    (site, *_) = gather(record_of("kernel"), NearZero()).sites.values()
    with pytest.raises(InvalidArgument, match="slopes"):
        SiteStatistics(site.info, site.kernel, 0.0, {"slopes": np.zeros(3)})
