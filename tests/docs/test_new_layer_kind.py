"""docs/new_layer_kind.md is a document that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainobs.capture._kinds import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "new_layer_kind.md"


@pytest.fixture
def own_kinds():
    """What the page registers is gone after it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page, each on its own lines so that errors point into the page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in found]


@pytest.mark.usefixtures("own_kinds")
def test_the_page_runs():
    """The blocks run in order, in one namespace; the last one checks the identity and the causes."""
    found = blocks(PAGE)
    assert len(found) >= 5
    namespace = {"__name__": PAGE.stem}
    for block in found:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), namespace)
    report = namespace["report"]
    assert (report.layers.residual < 1e-5).all()
    assert {"toy/local/kernel", "toy/local/bias", "toy/gate/gate"} <= set(report.layers.index)
