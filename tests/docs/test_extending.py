"""The pages of docs/extending run, from outside of the package; what they register is gone after them."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, run_blocks
from trainobs.capture.layers._activation_layers import ACTIVATION_LAYERS
from trainobs.capture.layers._registry import KINDS
from trainobs.mechanisms import registered_mechanisms, unregister_mechanism


@pytest.fixture(autouse=True)
def as_before():
    """What a page registers is gone after it."""
    kinds, layers, mechanisms = dict(KINDS), dict(ACTIVATION_LAYERS), registered_mechanisms()
    yield
    for registry, before in ((KINDS, kinds), (ACTIVATION_LAYERS, layers)):
        registry.clear()
        registry.update(before)
    for mechanism in set(registered_mechanisms()) - set(mechanisms):
        unregister_mechanism(mechanism)


@pytest.mark.parametrize("page", ["activation_layer", "layer_kind", "mechanism"])
def test_the_page_runs(page):
    """Its assertions hold."""
    run_blocks(f"docs/extending/{page}.md", {"__name__": page})


def test_there_is_a_page_for_each_door():
    """And no page that no test runs: the pages on remedies and health rules have tests of their own."""
    pages = {path.stem for path in (ROOT / "docs" / "extending").glob("*.md")}
    assert pages == {"activation_layer", "health_rule", "layer_kind", "mechanism", "remedy"}
