"""What holds for the attribution of any step, whatever its arrays are."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.property.synthetic import (
    SAMPLES,
    UNITS,
    Plant,
    draw,
    plants,
    property_settings,
    report_of,
    with_loss_times,
    with_samples,
    with_units,
)
from trainobs import Cause, NearZero, Report
from trainobs.explanation import OFF_COLUMNS, SHARES

CLOSE = {"rtol": 1e-5, "atol": 1e-12}


def tables(report: Report) -> list[pd.DataFrame]:
    """The layers table, and the units tables of all layers.

    Without `residual`, which is rounding, and `gain`: the nodes of the records are not drawn.
    """
    return [report.layers.drop(columns=["gain", "residual"]), *map(report.units, report.layers.index)]


def assert_same_tables(one: Report, other: Report) -> None:
    """Every figure agrees up to rounding."""
    for a, b in zip(tables(one), tables(other), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=False, **CLOSE)


@given(plants)
@property_settings(max_examples=60)
def test_shares_sum_to_1_over_the_near_zero_weights(plant: Plant):
    """The eight shares of a layer or unit sum to 1; they are nan where no weight is near zero."""
    for table in tables(report_of(draw(plant))):
        some = table["near_zero"] > 0
        np.testing.assert_allclose(table.loc[some, list(SHARES)].sum(axis=1), 1, rtol=1e-12)
        assert table.loc[~some, list(SHARES)].isna().all(axis=None)


@given(plants)
@property_settings(max_examples=40)
def test_reasons_sum_to_1_over_the_off_pairs(plant: Plant):
    """The four off_by columns sum to 1 where a unit is ever off, and are nan elsewhere."""
    report = report_of(draw(plant))
    for layer in report.layers.index:
        table = report.units(layer)
        off = table["off"] > 0
        np.testing.assert_allclose(table.loc[off, list(OFF_COLUMNS)].sum(axis=1), 1, rtol=1e-12)
        assert table.loc[~off, list(OFF_COLUMNS)].isna().all(axis=None)
        assert (table["dead"] == (table["off"] == 1)).all()


@given(plants)
@property_settings(max_examples=40)
def test_a_verdict_is_a_set_of_minimal_causes(plant: Plant):
    """There is one where and only where the gradient is near zero, and no cause contains another."""
    sets = {cause: frozenset(str(cause.name).split("_")) for cause in Cause if cause}
    report = report_of(draw(plant))
    for layer in report.layers.index:
        view = report.weights(layer)
        np.testing.assert_array_equal(view.verdict != 0, view.near_zero)
        for bits in np.unique(view.verdict):
            causes = [sets[cause] for cause in sets if cause & int(bits)]
            assert not any(one < other for one in causes for other in causes)


@given(plants)
@property_settings(max_examples=40)
def test_a_pair_is_at_least_as_likely_as_each_and_at_most_as_both(plant: Plant):
    """p_input_activation and p_activation_backprop are fractions of a union of terms."""
    for table in tables(report_of(draw(plant))):
        for one, other in (("input", "activation"), ("activation", "backprop")):
            each, pair = table[[f"p_{one}", f"p_{other}"]], table[f"p_{one}_{other}"]
            assert (pair >= each.max(axis=1) - 1e-12).all()
            assert (pair <= each.sum(axis=1) + 1e-12).all()
            assert pair.between(0, 1).all()


@given(plants, st.permutations(range(UNITS)))
@property_settings(max_examples=40)
def test_permuting_units_permutes_the_result(plant: Plant, order: list[int]):
    """The tables do not know which unit is the first."""
    record = draw(plant)
    before, after = report_of(record), report_of(with_units(record, np.array(order)))
    pd.testing.assert_frame_equal(tables(before)[0], tables(after)[0], check_exact=False, **CLOSE)
    hidden = before.units("hidden").iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        hidden, after.units("hidden").reset_index(drop=True), check_exact=False, **CLOSE
    )
    for name in ("near_zero", "gradient", "verdict"):
        columns, rows = (
            before.weights("hidden")[name][..., order],
            before.weights("head")[name][..., order, :],
        )
        np.testing.assert_allclose(after.weights("hidden")[name], columns, **CLOSE)
        bias = before.layers.index[1]
        np.testing.assert_allclose(after.weights(bias)[name], before.weights(bias)[name][order], **CLOSE)
        np.testing.assert_allclose(after.weights("head")[name], rows, **CLOSE)


@given(plants, st.permutations(range(SAMPLES)))
@property_settings(max_examples=40)
def test_permuting_samples_changes_nothing(plant: Plant, order: list[int]):
    """A batch is a set of samples."""
    record = draw(plant)
    assert_same_tables(report_of(record), report_of(with_samples(record, np.array(order))))


@given(plants, st.sampled_from([0.1, 10.0, 64.0]))
@property_settings(max_examples=40)
def test_the_scale_of_the_loss_changes_no_share(plant: Plant, factor: float):
    """Gradients are held against g*, which grows with the loss (above the floor)."""
    record = draw(plant)
    before, after = report_of(record), report_of(with_loss_times(record, factor))
    for layer in before.layers.index:
        np.testing.assert_array_equal(before.weights(layer).verdict, after.weights(layer).verdict)
    scaled = ["gradient_rms", "threshold"]
    for a, b in zip(tables(before), tables(after), strict=True):
        changed = [name for name in scaled if name in a]
        np.testing.assert_allclose(factor * a[changed], b[changed], **CLOSE)
        names = a.columns.drop(changed)
        pd.testing.assert_frame_equal(a[names], b[names], check_exact=False, **CLOSE)


@given(plants, st.sampled_from([1e-2, 0.3]))
@property_settings(max_examples=30)
def test_a_larger_rtol_finds_no_fewer_near_zero_gradients(plant: Plant, rtol: float):
    """What is near zero stays so for a coarser eye, and so do zero inputs and zero backprop."""
    record = draw(plant)
    fine, coarse = report_of(record), report_of(record, NearZero(rtol=rtol))
    for layer in fine.layers.index:
        assert (fine.weights(layer).near_zero <= coarse.weights(layer).near_zero).all()
    for name in ("p_input", "p_backprop", "p_input_activation", "p_activation_backprop"):
        assert (fine.layers[name] <= coarse.layers[name] + 1e-12).all()
