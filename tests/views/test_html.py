"""The notebook fragment and the standalone page, by parsing them."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import pathlib
import re
from collections import Counter
from typing import Any

import pytest
from matplotlib import pyplot as plt

from trainobs import Report
from trainobs.views import fragment, write_page
from trainobs.views._palette import COLOURS, COLUMNS, NOT_NEAR_ZERO, SEVERAL, SEVERITIES

_VOID = {"meta", "img", "br", "link"}


class Page(html.parser.HTMLParser):
    """Text, tags and attributes of a document; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The standalone page of the report."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path)
    return path.read_text(encoding="utf-8")


def test_fragment_parses_and_tells_the_finding(report: Report) -> None:
    """It is well-formed and has every finding's evidence and remedy, the scope and the thresholds."""
    parsed = Page(report._repr_html_())
    plain = parsed.text.replace("`", "")
    for finding in report.findings.itertuples():
        assert finding.evidence in plain and finding.remedy.replace("`", "") in plain
    assert report.scope in parsed.text and report.thresholds_text in parsed.text


def test_fragment_has_a_row_for_every_kernel(report: Report) -> None:
    """The summary table is as long as `kernels`, plus its head."""
    parsed = Page(fragment(report))
    assert parsed.tags["tr"] == len(report.kernels) + 1
    assert all(name in parsed.text for name in report.layers["layer"])


def test_bars_have_the_causes_colours(report: Report) -> None:
    """A bar's piece has the palette's colour and its part of all weights as width."""
    styles = [style for style in Page(fragment(report)).values("style") if "width:" in style]
    expected = [
        f"width: {100 * row['near_zero'] * row[name]:.2f}%; background: {COLOURS[cause]}"
        for _, row in report.kernels.iterrows()
        for cause, name in COLUMNS.items()
        if row["near_zero"] * row[name] > 0
    ]
    assert styles == expected and expected


def test_cards_have_their_severity(report: Report) -> None:
    """Every finding is a card with the severity's colour at its side."""
    styles = Page(fragment(report)).values("style")
    for severity in report.findings["severity"]:
        assert f"border-left-color: {SEVERITIES[severity]}" in styles


def test_many_findings_fold(report: Report) -> None:
    """After the first four, findings stand in an element that opens on a click, without a script."""
    many = _Changed(report, findings=report.findings.loc[[0] * 6])
    parsed = Page(fragment(many))  # type: ignore[arg-type]
    assert parsed.tags["details"] == 1 and "2 more findings" in parsed.text


def test_a_healthy_report_says_so(report: Report) -> None:
    """Without findings a single card tells that nothing stops the gradients."""
    healthy = _Changed(report, findings=report.findings.iloc[:0])
    assert "No finding: nothing stops the gradients" in fragment(healthy)  # type: ignore[arg-type]


def test_code_in_a_remedy_is_set_as_code(report: Report) -> None:
    """Backticks become code elements, and what is in them is escaped."""
    findings = report.findings.iloc[:1].assign(remedy="Set `a<b` now.")
    text = fragment(_Changed(report, findings=findings))  # type: ignore[arg-type]
    assert "Set <code>a&lt;b</code> now." in text


def test_names_are_escaped(report: Report, tmp_path: pathlib.Path) -> None:
    """A layer named `<b>x` stands there as text in fragment and page, and makes no element."""
    named = _renamed(report, "killed", "<b>x")
    write_page(named, tmp_path / "report.html")
    for text in (fragment(named), (tmp_path / "report.html").read_text(encoding="utf-8")):
        parsed = Page(text)
        assert parsed.tags["b"] == 0
        assert "<b>x" in parsed.text


def test_page_parses_and_has_all_tables(page: str, report: Report) -> None:
    """The page is well-formed, with every column and row of layers, flow, findings and chains."""
    parsed = Page(page)
    tables = (report.layers, report.flow, report.findings, report.chains)
    for table in tables:
        assert all(column in parsed.text for column in table.columns)
    rows = sum(map(len, tables))
    assert parsed.tags["tr"] == rows + len(tables) + len(report.kernels) + 1


def test_page_has_the_pictures_inside(page: str, report: Report) -> None:
    """Heatmap, flow and each layer with a finding are PNG files within the page."""
    sources = Page(page).values("src")
    layers = set(report.findings["layer"]) & set(report.layers["layer"])
    assert len(sources) == 2 + len(layers)
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_page_loads_nothing(page: str) -> None:
    """No script, no style sheet, no address: it opens without a network."""
    parsed = Page(page)
    assert not parsed.tags["script"] and not parsed.tags["link"] and not parsed.values("href")
    without_pictures = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"https?:|url\(|@import|<iframe", without_pictures)


def test_page_explains_every_colour(page: str) -> None:
    """The legend shows each colour of the palette."""
    styles = Page(page).values("style")
    for colour in (*COLOURS.values(), SEVERAL, NOT_NEAR_ZERO):
        assert f"background: {colour}" in styles


def test_page_leaves_no_figure_open(report: Report, tmp_path: pathlib.Path) -> None:
    """Figures made for the page are closed, so that a notebook does not show them too."""
    write_page(report, tmp_path / "report.html")
    assert not plt.get_fignums()


class _Changed:
    """A report with some of its tables exchanged."""

    def __init__(self, report: Report, **tables: Any) -> None:
        self._report = report
        self.__dict__.update(tables)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._report, name)


def _renamed(report: Report, old: str, new: str) -> Report:
    """The report with a layer of another name (one that TensorFlow itself would refuse)."""
    statistics = report.statistics
    sites = {
        weight: dataclasses.replace(site, info=dataclasses.replace(site.info, layer=new))
        if site.info.layer == old
        else site
        for weight, site in statistics.sites.items()
    }
    nodes = tuple(
        dataclasses.replace(node, layer=new) if node.layer == old else node for node in statistics.nodes
    )
    return Report(dataclasses.replace(statistics, sites=sites, nodes=nodes), report.thresholds)
