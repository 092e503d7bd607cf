"""Numbers and names as they stand in pictures."""

from __future__ import annotations

import types

import pandas as pd
import pytest

from trainobs import Report
from trainobs.views._labels import headline, kernel_labels, percent, shape_text, shortened


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("nan"), "–"), (0.0, "0%"), (1e-6, "<1%"), (0.5, "50%"), (0.9999, ">99%"), (1.0, "100%")],
)
def test_percentages_do_not_round_to_none_or_all(value: float, text: str) -> None:
    """Only exactly 0 and 1 are written as 0% and 100%; nan is a dash."""
    assert percent(value) == text


def test_long_names_lose_their_middle() -> None:
    """Beginning and end stay, and the length is kept to."""
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcde", 5) == "abcde"


def test_shape_as_text() -> None:
    """Dimensions are joined by a multiplication sign."""
    assert shape_text((3, 3, 16)) == "3×3×16"


def test_repeated_names_become_paths() -> None:
    """Two layers of one name are told apart by their paths."""
    paths = ["a/dense/kernel", "b/dense/kernel", "out/kernel"]
    table = pd.DataFrame({"layer": ["dense", "dense", "out"]}, index=paths)
    labels = kernel_labels(types.SimpleNamespace(kernels=table))  # type: ignore[arg-type]
    assert labels == {"a/dense/kernel": "a/dense", "b/dense/kernel": "b/dense", "out/kernel": "out"}


def test_headline_names_the_first_finding(report: Report) -> None:
    """The title of a picture says what the report's first finding is."""
    first = report.findings.iloc[0]
    assert headline(report).startswith(f"Dead activation at {first['layer']}")
    assert first["cause"] == "dead_activation"


def test_headline_of_a_healthy_report() -> None:
    """Without findings the title says that there is none."""
    empty = types.SimpleNamespace(findings=pd.DataFrame())
    assert headline(empty).startswith("No finding")  # type: ignore[arg-type]
