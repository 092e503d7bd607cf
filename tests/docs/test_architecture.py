"""docs/architecture.md shows the house as it is."""

import matplotlib.pyplot as plt

from tests.docs.architecture import PAGE, PICTURE, draw, floors, imports, page, reduced, rooms


def test_the_table_is_not_stale():
    """Write it anew with ``python -m tests.docs.architecture``."""
    assert PAGE.read_text("utf-8") == page()


def test_the_picture_shows_every_room_and_arrow(tmp_path):
    """Drawn again here; the one in docs/images is the same figure."""
    ax = draw(tmp_path / "house.png")
    assert {text.get_text() for text in ax.texts if text.get_text()} == set(rooms())
    assert len(ax.texts) == len(rooms()) + len(reduced(imports()))
    assert (tmp_path / "house.png").stat().st_size > 10_000 and PICTURE.exists()
    plt.close(ax.figure)


def test_arrows_go_one_way():
    """Each room stands below what it imports, but for the one declared door."""
    levels = floors(imports())
    assert {(a, b) for a, others in imports().items() for b in others if levels[a] <= levels[b]} == {
        ("report", "remedies")
    }
