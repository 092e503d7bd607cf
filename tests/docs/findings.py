"""The table of docs/findings.md, from mechanisms' docstrings: ``python -m tests.docs.findings``."""

from __future__ import annotations

import inspect
from pathlib import Path

from trainobs.mechanisms import Mechanism, registered_mechanisms

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
BEGIN, END = "<!-- begin: from the docstrings of trainobs/mechanisms -->", "<!-- end -->"
PARTS = ("Severity", "When", "Where")


def described(mechanism: type[Mechanism]) -> dict[str, str]:
    """The paragraphs of a docstring by their first word; empty for a variant, which only says what it is."""
    paragraphs = inspect.cleandoc(mechanism.__doc__ or "").split("\n\n")
    told = {
        text.split(": ", 1)[0]: " ".join(text.split(": ", 1)[1].split())
        for text in paragraphs
        if ": " in text
    }
    return {part: told[part] for part in PARTS if part in told}


def table() -> str:
    """A row per cause, in the order of the alphabet."""
    rows = ["| cause | severity | when | where it points |", "|---|---|---|---|"]
    for mechanism in sorted(registered_mechanisms(), key=lambda mechanism: mechanism.cause):
        parts = described(mechanism)
        if parts and mechanism.__module__.startswith("trainobs."):
            rows.append(f"| `{mechanism.cause}` | {parts['Severity']} | {parts['When']} | {parts['Where']} |")
    return "\n".join(rows)


def page() -> str:
    """The page with its table made anew."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
