"""The README's first command does what the README says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_demo_names_layer_and_cause_and_writes_its_files(tmp_path):
    """`python -m trainobs demo` explains the planted fault and writes the page and the pictures."""
    done = subprocess.run(
        [sys.executable, "-m", "trainobs", "demo", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "[error] dead_activation at hidden_2" in done.stdout
    assert "No finding: nothing stops the gradients." in done.stdout
    assert "the\n  bias pushes them below zero" in done.stdout or "bias pushes them" in done.stdout
    for name in ("report.html", "heatmap.png", "flow.png", "hidden_2.png"):
        assert (tmp_path / name).stat().st_size > 5_000, name
