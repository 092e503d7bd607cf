"""The picture of the gradient's way, by its artists."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from trainobs import Report
from trainobs.views import draw_flow
from trainobs.views._palette import BAND


def _made_up(
    gradients: list[float], zero: list[float], finding: str | None = None, unmeasured: tuple[str, ...] = ()
) -> Any:
    """A stand-in for a report with these gradients at nodes a, b, c, …"""
    names = [chr(ord("a") + place) for place in range(len(gradients))]
    flow = pd.DataFrame({"node": names, "layer": names, "gradient_rms": gradients, "zero": zero})
    rows = [{"cause": "vanishing", "layer": finding, "share": 0.5}] if finding else []
    findings = pd.DataFrame(rows, columns=["cause", "layer", "share"])
    return types.SimpleNamespace(
        flow=flow,
        findings=findings,
        findings_on_the_way=findings,
        gradient_scale=0.3,
        near_zero=types.SimpleNamespace(rtol=1e-3),
        unmeasured_nodes=unmeasured,
    )


def _line(ax: Axes, label: str) -> Any:
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    return line


def _twin(ax: Axes) -> Axes:
    (twin,) = [a for a in ax.figure.axes if a is not ax]
    return twin


def test_draws_into_the_given_axes(report: Report) -> None:
    """The axes that are passed come back, and no other figure is made."""
    _, ax = plt.subplots()
    assert draw_flow(report, ax) is ax
    assert len(plt.get_fignums()) == 1


def test_has_a_point_and_a_bar_for_every_node(report: Report) -> None:
    """The line and the bars are the columns of the flow table, from the loss to the input."""
    ax, flow = draw_flow(report), report.flow
    expected = flow["gradient_rms"].where(flow["gradient_rms"] > 0)
    np.testing.assert_allclose(_line(ax, "gradient").get_ydata(), expected)
    bars = [bar.get_height() for bar in _twin(ax).containers[0]]
    np.testing.assert_allclose(bars, flow["zero"].fillna(0.0))
    assert [label.get_text() for label in ax.get_xticklabels()] == list(flow["node"])
    assert ax.get_yscale() == "log"


def test_zeros_are_triangles_on_the_floor(report: Report) -> None:
    """A logarithm has no 0: such gradients have a marker of their own at the axis' lower end."""
    ax = draw_flow(report)
    zeros = _line(ax, "exactly 0")
    np.testing.assert_array_equal(zeros.get_xdata(), np.flatnonzero(report.flow["gradient_rms"] == 0))
    assert zeros.get_marker() == "v" and zeros.get_ydata()[0] < 2 * ax.get_ylim()[0]


def test_what_is_not_finite_is_a_cross_at_the_top() -> None:
    """An infinite gradient, or nan where values did arrive, stands at the upper end."""
    ax = draw_flow(_made_up([0.3, np.inf, np.nan], [0.0, 0.0, 0.0]))
    crosses = _line(ax, "not finite")
    np.testing.assert_array_equal(crosses.get_xdata(), [1, 2])
    assert crosses.get_ydata()[0] > ax.get_ylim()[1] / 2


def test_says_where_no_gradient_arrives() -> None:
    """Nodes that backprop never came by are hatched and named."""
    ax = draw_flow(_made_up([0.3, np.nan, np.nan], [0.0, np.nan, np.nan]))
    assert [text.get_text() for text in ax.texts].count("no gradient arrives") == 1
    assert not [line for line in ax.get_lines() if line.get_label() == "not finite"]


def test_what_was_not_measured_is_not_said_to_be_missing() -> None:
    """A recorded step leaves some gradients unread: whether they arrive is not known."""
    ax = draw_flow(_made_up([0.3, np.nan, np.nan], [0.0, np.nan, np.nan], unmeasured=("b",)))
    texts = [text.get_text() for text in ax.texts]
    assert (texts.count("not measured"), texts.count("no gradient arrives")) == (1, 1)


def test_a_finding_is_a_band_with_its_cause() -> None:
    """The node that holds the finding is marked, with the fall to its right, and named above."""
    ax = draw_flow(_made_up([0.3, 0.2, 1e-5], [0.0] * 3, finding="b"))
    bands = [p for p in _twin(ax).patches if p.get_facecolor()[:3] == to_rgb(BAND)]
    (band,) = bands
    place = band.get_extents().transformed(ax.transData.inverted())
    assert (place.x0, place.x1) == pytest.approx((0.5, 1.7))
    (top,) = ax.child_axes
    assert [label.get_text() for label in top.get_xticklabels()] == ["vanishing"]


def test_nodes_of_one_layer_are_named_once() -> None:
    """A finding of a layer that is several neighbouring nodes has one name, over the middle of them."""
    report = _made_up([0.3, 0.2, 0.1, 0.05], [0.0] * 4, finding="b")
    report.flow["layer"] = ["a", "b", "b", "b"]
    ax = draw_flow(report)
    (top,) = ax.child_axes
    assert list(top.get_xticks()) == [2.0]
    assert [label.get_text() for label in top.get_xticklabels()] == ["vanishing"]


def test_a_healthy_flow_has_no_band() -> None:
    """Without findings nothing is marked."""
    ax = draw_flow(_made_up([0.3, 0.2], [0.0, 0.0]))
    assert not ax.child_axes and len(_twin(ax).patches) == 2  # the two bars


def test_has_the_two_references(report: Report) -> None:
    """Lines at g* and at rtol · g*, both within the axes."""
    ax = draw_flow(report)
    heights = [line.get_ydata()[0] for line in ax.get_lines() if len(set(line.get_ydata())) == 1]
    scale = report.gradient_scale
    for height in (scale, report.near_zero.rtol * scale):
        assert height == pytest.approx(min(heights, key=lambda other: abs(other - height)))
        assert ax.get_ylim()[0] < height < ax.get_ylim()[1]
    assert {"g*", "near zero (0.001 g*)"} <= {text.get_text() for text in ax.texts}


def test_of_very_many_nodes_some_are_named() -> None:
    """300 names would overlap: some are left out, the one with the finding never."""
    report = _made_up([0.1] * 300, [0.0] * 300)
    report.flow["layer"] = report.flow["node"] = [f"n{place}" for place in range(300)]
    report.findings.loc[0] = ["dead_activation", "n151", 0.1]
    names = [label.get_text() for label in draw_flow(report).get_xticklabels()]
    assert "n151" in names and len(names) < 110
