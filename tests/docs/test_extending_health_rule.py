"""The page on health rules, from outside of the package."""

from __future__ import annotations

import numpy as np

from tests.docs.pages import run_blocks
from trainobs.health import check_health, unregister_health_rule


def test_the_page_runs(capsys):
    """Its rule finds what it says, and is asked with those of the package."""
    names = {"__name__": "health_rule"}
    run_blocks("docs/extending/health_rule.md", names)
    try:
        printed = capsys.readouterr().out
        assert printed.startswith("The activations of wide spread by ") and "Normalise before" in printed
        report = check_health(names["model"], names["x"] / 1000, np.ones((64, 1)))
        assert "wide_activations" not in set(report.findings["cause"])
    finally:
        unregister_health_rule(names["WideActivations"])
