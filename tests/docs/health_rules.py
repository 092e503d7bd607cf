"""The table of rules in docs/health.md, from their docstrings.

`python -m tests.docs.health_rules` writes it.
"""

from __future__ import annotations

import inspect
import re

from tests.docs.pages import ROOT
from trainobs.health import Rule
from trainobs.health.rules import registered_rules
from trainobs.thresholds import Thresholds

PAGE = ROOT / "docs" / "health.md"
MARKS = ("<!-- rules: made by `python -m tests.docs.health_rules` -->\n", "<!-- end of rules -->\n")
HEAD = "| rule (severity) | of what | threshold (default) | source |\n|---|---|---|---|\n"


def own_rules() -> list[type[Rule]]:
    """Those of the package."""
    return [rule for rule in registered_rules() if rule.__module__.startswith("trainobs.")]


def stated(rule: type[Rule]) -> dict[str, str]:
    """What a rule's docstring says: "of what", "Findings", "Threshold", "Source"."""
    summary, _, rest = (inspect.getdoc(rule) or "").partition("\n\n")
    fields = re.findall(r"^(\w+): (.*(?:\n(?!\w+: ).*)*)", rest, flags=re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in [("of what", summary), *fields]}


def with_defaults(text: str) -> str:
    """Behind each name of a threshold, its default."""
    return re.sub(r"`(\w+)`", lambda name: name[0] + _default(getattr(Thresholds(), name[1])), text)


def _default(value: float | tuple[float, float] | None) -> str:
    if value is None:
        return " (off by default)"
    numbers = value if isinstance(value, tuple) else (value,)
    return f" ({' … '.join(map(_short, numbers))})"


def _short(number: float) -> str:
    return f"{number:g}" if number >= 1e-3 else f"{number:.0e}".replace("e-0", "e-")


def row(rule: type[Rule]) -> str:
    """A rule's line of the table."""
    said = stated(rule)
    cells = said["Findings"], said["of what"], with_defaults(said["Threshold"]), said["Source"]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def page() -> str:
    """docs/health.md with a fresh table."""
    before, rest = PAGE.read_text("utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return before + MARKS[0] + HEAD + "".join(map(row, own_rules())) + MARKS[1] + after


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
