"""The tables of docs/remedies.md, made of the classes; ``python -m tests.docs.remedies`` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.docs.pages import ROOT
from trainobs.mechanisms import Mechanism, registered_mechanisms
from trainobs.remedies import Remedy, registered_remedies

PAGE = ROOT / "docs" / "remedies.md"
BEGIN, END = "<!-- begin: from the classes of trainobs, {} -->", "<!-- end -->"


def own(classes: Iterable[type]) -> list[type]:
    """Those of the package itself."""
    return [cls for cls in classes if cls.__module__.startswith("trainobs.")]


def tried_against(cause: str, mechanisms: list[type[Mechanism]], remedies: list[type[Remedy]]) -> list[str]:
    """Names of remedies, in the order of trials."""
    listed = [name for mechanism in mechanisms if mechanism.cause == cause for name in mechanism.treatments]
    others = [remedy.name for remedy in remedies if cause in remedy.against]
    return list(dict.fromkeys([*listed, *others]))


def tables() -> dict[str, str]:
    """By name, what stands between the markers."""
    mechanisms, remedies = own(registered_mechanisms()), own(registered_remedies())
    causes = dict.fromkeys(mechanism.cause for mechanism in mechanisms)
    tried = {cause: tried_against(cause, mechanisms, remedies) for cause in causes}
    rows = [(f"`{cause}`", "; ".join(names)) for cause, names in tried.items() if names]
    without = [f"`{cause}`" for cause, names in tried.items() if not names]
    changes = [(remedy.name, (remedy.__doc__ or "").splitlines()[0]) for remedy in remedies]
    return {
        "what is tried": table(("cause", "tried, in this order"), rows),
        "what has no remedy": ", ".join(without),
        "what remedies change": table(("remedy", "what it does"), changes),
    }


def table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {left} | {right} |" for left, right in (head, ("---", "---"), *rows))


def with_tables(page: str) -> str:
    """The page, with its tables as they should be."""
    for name, table in tables().items():
        begin = BEGIN.format(name)
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(END)}", re.DOTALL)
        assert len(pattern.findall(page)) == 1, f"{PAGE.name} needs one place for {name!r}"
        page = pattern.sub(lambda _: f"{begin}\n{table}\n{END}", page)  # noqa: B023
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
