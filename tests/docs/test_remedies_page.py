"""The pages about remedies say what the classes say, and run."""

import pytest

from tests.docs.pages import run_blocks
from tests.docs.remedies import PAGE, with_tables
from trainobs.remedies import registered_remedies, unregister_remedy


def test_the_tables_are_those_of_the_classes():
    """If this fails, run ``python -m tests.docs.remedies``."""
    page = PAGE.read_text("utf-8")
    assert page == with_tables(page)


@pytest.fixture
def own_remedies():
    """What the page registers is gone after it."""
    before = registered_remedies()
    yield
    for remedy in set(registered_remedies()) - set(before):
        unregister_remedy(remedy)


@pytest.mark.usefixtures("own_remedies")
def test_the_page_runs():
    """A remedy of the reader's own is listed and tried; its last line looks at what came of it."""
    page = {"__name__": "own_remedy"}
    run_blocks("docs/extending/remedy.md", page)
    listed = page["report"].remedies()["remedy"]
    assert (listed.iloc[0], listed.iloc[-1]) == ("re-initialise", "smaller kernel")
