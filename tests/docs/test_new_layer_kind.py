"""docs/new_layer_kind.md is a document that runs."""

from __future__ import annotations

import pytest

from tests.docs.pages import run_blocks
from trainobs.capture import KINDS


@pytest.fixture
def own_kinds():
    """What the page registers is gone after it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.usefixtures("own_kinds")
def test_the_page_runs():
    """Its last block checks the identity, and that the new weights have rows with causes."""
    page = {"__name__": "new_layer_kind"}
    run_blocks("docs/new_layer_kind.md", page)
    rows = page["report"].layers
    assert {"toy/local/kernel", "toy/local/bias", "toy/gate/gate"} <= set(rows.index)
    assert (rows.residual < 1e-5).all()
