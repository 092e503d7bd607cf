"""Links of the pages, and the files that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
FILE = r"[\w./-]+\.(?:py|md|ipynb|jinja|png)"


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Files that a page links to, pictures too, with the anchor; those on other machines are left out."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Relative ones: the file is there, and the heading in it."""
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), f"{path.name}#{anchor}"


def is_there(name: str, page: Path) -> bool:
    """Whether a file is in the repository, the package or the page's folder; of a bare name, in any room."""
    if any((folder / name).is_file() for folder in (ROOT, ROOT / "trainobs", page.parent)):
        return True
    return "/" not in name and any((ROOT / "trainobs").rglob(name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page):
    """What stands in code style and looks like a file of ours."""
    words = [word for code in re.findall(r"`([^`\n]+)`", prose(page)) for word in code.split()]
    assert not [word for word in words if re.fullmatch(FILE, word) and not is_there(word, page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_are_there(page):
    """`python -m` of a module of ours, and `pytest` of paths."""
    text = page.read_text("utf-8")
    modules = [
        ROOT / name.replace(".", "/") for name in re.findall(r"python -m ((?:tests|trainobs)[\w.]*)", text)
    ]
    assert all(module.with_suffix(".py").exists() or (module / "__main__.py").exists() for module in modules)
    paths = [word for line in re.findall(r"pytest ([^\n`#]*)", text) for word in line.split() if "/" in word]
    assert all((ROOT / path).exists() for path in paths), paths


def test_every_page_is_linked():
    """From the README, or from a page that it links to."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        new = {path.resolve() for path, _ in links(page) if path.suffix == ".md"} - reached
        reached |= new
        waiting += new
    assert {page.resolve() for page in PAGES} - {(ROOT / "README.md").resolve()} <= reached


def test_every_picture_is_shown():
    """No picture lies about that no page shows."""
    shown = {path.resolve() for page in PAGES for path, _ in links(page) if path.suffix == ".png"}
    assert {path.resolve() for path in (ROOT / "docs" / "images").glob("*.png")} <= shown
