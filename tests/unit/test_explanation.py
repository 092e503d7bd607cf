"""Tables and text of an explanation, on steps that NumPy computes."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.mechanisms.chains import WIDTH, case_of, dense, inputs, step, with_whole_layer
from trainobs import Report
from trainobs.errors import InvalidArgument, NotRecorded
from trainobs.explanation import LIKELIHOODS, SHARES, Explanation
from trainobs.explanation._layers import _joined
from trainobs.explanation._next_gradient import _near_zero_by_unit, _owners_by_order
from trainobs.findings import COLUMNS
from trainobs.selection import Selection
from trainobs.statistics import gather
from trainobs.thresholds import NearZero, Thresholds

HEAD = {"units": 3, "seed": 2, "activation": "linear"}


def explained(*hidden, layers=None, thresholds: Thresholds | None = None, own=None) -> Explanation:
    """Of a step of these layers and a head."""
    record = step(inputs(), *hidden, dense(**HEAD))
    record = record if own is None else with_whole_layer(record, own)
    thresholds = thresholds or Thresholds()
    statistics = gather(record, thresholds.near_zero, pinv=False)
    return Explanation(statistics, thresholds, selection=Selection(layers))


@pytest.fixture
def sick() -> Explanation:
    """A frozen layer, and a dead one behind it."""
    return explained(dense(trainable=False), dense(bias=-100.0, seed=1))


def test_all_weights_have_the_same_columns():
    """What is not known of a weight of unknown kind is nan; no column is left out."""
    table = explained(dense(), own=np.array([0.0, 1.0], np.float32)).layers
    own = table.loc["d0/own"]
    assert own["near_zero"] == 0.5 and own["size"] == 2 and own["positions"] == 64
    assert own[[*LIKELIHOODS, "gain", "residual", "off_by_bias"]].isna().all()
    assert table.loc["d0/kernel", [*LIKELIHOODS]].notna().sum() == len(LIKELIHOODS) - 1  # no pseudo-inverse


def test_a_broken_gradient_says_nothing():
    """NaN is no share, of a weight of unknown kind either."""
    own = explained(dense(), own=np.array([0.0, np.nan], np.float32)).layers.loc["d0/own"]
    assert own[["near_zero", "exact_zero", "gradient_rms", *SHARES]].isna().all()


def test_findings_have_the_one_schema(sick):
    """The columns of every table of findings; numbers where there are none, too."""
    assert tuple(sick.findings.columns) == COLUMNS == tuple(explained(dense()).findings.columns)
    assert list(sick.findings["cause"]) == ["dead_activation", "frozen"]
    for table in (sick.findings, explained(dense()).findings):
        assert [table[name].dtype.kind for name in ("share", "value", "threshold")] == ["f"] * 3


def test_the_flow_marks_what_sits_on_the_way(sick):
    """A frozen layer stops no gradient."""
    assert list(sick.findings_on_the_way["cause"]) == ["dead_activation"]
    assert list(explained(dense()).findings_on_the_way.columns) == list(COLUMNS)


def test_text_holds_findings_scope_and_thresholds(sick):
    """All that a reader needs first."""
    text = repr(sick)
    assert "[error] dead_activation at d1" in text and "8 of 8" in text
    assert sick.scope in text and sick.thresholds_text in text
    assert "No finding: nothing stops the gradients." in repr(explained(dense()))


def test_thresholds_are_one_object():
    """`near_zero` is in it, and the line of text says it."""
    thresholds = Thresholds(near_zero=NearZero(rtol=0.01), affected=0.9)
    explanation = explained(dense(), thresholds=thresholds)
    assert explanation.thresholds is thresholds and explanation.near_zero is thresholds.near_zero
    assert explanation.thresholds_text.startswith("near zero: rtol 0.01 against a* = 1, s* = 1, g* = ")


def test_statistics_are_explained_with_their_own_thresholds(sick):
    """The error says what they were counted with, what came, and what to do."""
    with pytest.raises(
        InvalidArgument, match=r"Those were NearZero\(rtol=0.001.*Received: NearZero\(rtol=0.3"
    ):
        Report(sick.statistics, Thresholds(near_zero=NearZero(rtol=0.3)))


def test_findings_hear_the_thresholds():
    """A layer is affected from the share on that they say."""
    weak = explained(dense(bias=-100.0), thresholds=Thresholds(dead_units=0.99, dead_units_by_chance=0.99))
    assert "dead_activation" in set(weak.findings["cause"])
    assert weak.layers.loc["d1/kernel", "root_cause"] == "dead_activation"


def test_chains_are_those_of_lost_gradients(sick):
    """Each as by `chain`; live weights have none."""
    assert set(sick.chains.index) >= {"d1/kernel", "d2/kernel"}
    assert sick.chains.loc["d1/kernel", "chain"] == sick.chain("d1/kernel") == sick.chain("d1") != ""
    assert explained(dense()).chain("d0") == ""


def test_a_selection_narrows_the_tables_only():
    """Causes are looked for in all layers."""
    explanation = explained(dense(seed=1), dense(bias=-100.0), layers="d0")
    assert set(explanation.layers["layer"]) == {"d0"}
    assert list(explanation.findings["layer"]) == ["d1"]


def test_unknown_names_are_told_with_those_there_are(sick):
    """Every table of one layer, and the chain."""
    for table in (sick.units, sick.inputs, sick.parts, sick.weights, sick.chain):
        with pytest.raises(NotRecorded, match="No layer or weight named 'x'.*: d0, d1, d2"):
            table("x")
    with pytest.raises(NotRecorded, match="'d0' has no time steps.*none"):
        sick.time_steps("d0")


def test_a_report_is_an_explanation_with_views(sick):
    """The same tables from the same statistics, and pictures."""
    report = Report(sick.statistics, sick.thresholds)
    assert isinstance(report, Explanation)
    pd.testing.assert_frame_equal(report.layers, sick.layers)
    assert not {name for name in dir(Explanation) if "plot" in name or "html" in name or "remedies" in name}


# ---- rules of the tables -------------------------------------------------------------------------


def test_the_row_of_a_weight_is_that_of_its_parts():
    """Sums, means by size (shares: by near-zero weights), the largest threshold, the most frequent root."""
    rows = [
        {
            "layer": "rnn", "activation": name, "shape": (4, 8), "size": size, "positions": 5,
            "near_zero": near_zero, "gradient_rms": rms, "threshold": rms, "residual": math.nan,
            **dict.fromkeys(SHARES, share), "dead_units": 1, "root_cause": cause, "root_layer": "there",
        }
        for name, size, near_zero, rms, share, cause in (
            ("tanh", 10, 1.0, 3.0, 0.5, "vanishing"),
            ("sigmoid", 30, 0.0, 1.0, math.nan, None),
            ("tanh", 10, 0.5, 1.0, 0.2, "vanishing"),
        )
    ]  # fmt: skip
    row = _joined(rows)
    assert list(row) == list(rows[0])
    assert (row["size"], row["dead_units"], row["positions"], row["activation"]) == (
        50,
        3,
        5,
        "tanh, sigmoid",
    )
    assert row["near_zero"] == pytest.approx(0.3)
    assert row["gradient_rms"] == pytest.approx(math.sqrt((10 * 9 + 40) / 50))
    assert row["threshold"] == 3.0 and math.isnan(row["residual"])
    assert row[SHARES[0]] == pytest.approx((10 * 0.5 + 5 * 0.2) / 15)
    assert (row["root_cause"], row["root_layer"]) == ("vanishing", "there")
    assert _joined(rows[1:2]) is rows[1]
    for row in rows[2:]:
        row |= {"root_cause": None, "root_layer": None}
    assert _joined(rows)["root_cause"] == "vanishing"  # that of one part, though more have none


def test_rows_of_a_kernel_belong_to_the_units_that_it_reads():
    """A dead unit's row is near zero, whatever the others are."""
    bias = np.zeros(WIDTH, np.float32)
    bias[2] = -100.0
    case = case_of(step(inputs(), dense(bias=bias), dense(**HEAD)))
    fractions = _near_zero_by_unit(case.sites["d1/kernel"], case.sites["d0/kernel"], sole=True)
    assert fractions[2] == 1.0 and fractions[[0, 1, 3, 4, 5, 6, 7]].max() < 0.5


def test_places_of_units_are_told_by_the_layout():
    """Channels last: units take turns."""
    maker = case_of(step(inputs(), dense(), dense(**HEAD))).sites["d0/kernel"]
    np.testing.assert_array_equal(_owners_by_order(maker, 2), [*range(WIDTH), *range(WIDTH)])
