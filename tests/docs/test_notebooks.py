"""Notebooks are documents that run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    """Every cell of the notebook runs, and the broken layer is found on the way."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    text = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "dead_activation" in text
    assert (tmp_path / "report.html").stat().st_size > 10_000
