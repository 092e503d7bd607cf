"""The frozen result of one check: tables, flow, text."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from tests.faults import models
from tests.unit.health.nets import checked, small_mlp
from trainobs.findings import COLUMNS
from trainobs.health import WeightHealth
from trainobs.thresholds import NearZero, Thresholds


def test_tables_are_typed():
    """Findings have their columns, also when there are none."""
    ill = small_mlp()
    models.shift_bias(ill, 0, -100.0)
    for report in (checked(small_mlp()), checked(ill)):
        found = report.findings
        assert isinstance(found, pd.DataFrame) and tuple(found.columns) == COLUMNS
        assert [str(found[name].dtype) for name in ("share", "value", "threshold")] == ["float64"] * 3
    assert "dead_activation" in set(found["cause"])  # what an explanation finds is among them
    by_rules = found[found["weight"] != ""]
    assert by_rules["share"].isna().all() and all(affects == () for affects in by_rules["affects"])


def test_a_row_is_a_weight():
    """Its index is the path, its columns the other figures, its numbers plain ones."""
    table = checked(small_mlp()).layers
    assert table.index.name == "weight"
    assert [table.index.name, *table.columns] == [field.name for field in dataclasses.fields(WeightHealth)]
    assert table["trainable"].dtype == bool and table["non_finite"].dtype == int


def test_it_says_what_it_was_held_against():
    """The thresholds that were given, or those that `near_zero` makes."""
    strict = Thresholds(vanishing=1e-3)
    assert checked(small_mlp(), thresholds=strict).thresholds is strict
    near_zero = NearZero(slope_atol=0.3)
    report = checked(small_mlp("tanh"), near_zero=near_zero)
    assert report.thresholds == Thresholds(near_zero=near_zero)
    assert report.layers["saturated"].iloc[0] > checked(small_mlp("tanh")).layers["saturated"].iloc[0]


def test_text_and_page():
    """Each shows a finding's sentence and what to do about it."""
    model = small_mlp()
    models.shift_bias(model, 0, -100.0)
    report = checked(model)
    row = report.findings.iloc[0]
    assert f"  error   {row['evidence']}\n          → {row['remedy']}" in repr(report)
    page = report._repr_html_()
    assert "not healthy" in page and row["remedy"] in page and row["evidence"] in page


def test_a_report_is_frozen():
    """It is what one check saw."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        checked(small_mlp()).loss = 0.0
