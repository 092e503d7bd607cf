"""Pages with Python blocks, as programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_blocks(page: str, namespace: dict[str, Any]) -> None:
    """Run a page's Python blocks in order, in one namespace; errors point to its lines."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    assert blocks, f"{page} has no Python block"
    for block in blocks:
        source = "\n" * text[: block.start(1)].count("\n") + block[1]
        exec(compile(source, str(path), "exec", dont_inherit=True), namespace)
