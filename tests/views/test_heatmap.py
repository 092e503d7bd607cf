"""The heatmap, by its artists."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt

from trainobs import Report
from trainobs.views import draw_heatmap
from trainobs.views._labels import NOTHING, headline, percent
from trainobs.views._palette import COLOURS, COLUMNS, mixed_with_white

_CAUSES = len(COLOURS)


def test_draws_into_the_given_axes(report: Report) -> None:
    """The axes that are passed come back, and no other figure is made."""
    _, ax = plt.subplots()
    assert draw_heatmap(report, ax) is ax
    assert len(plt.get_fignums()) == 1


def test_makes_a_figure_that_grows_with_the_kernels(report: Report) -> None:
    """Without axes there is a new figure, with a row's height for each kernel."""
    height = draw_heatmap(report).figure.get_size_inches()[1]
    assert height > 0.3 * len(report.kernels)


def test_has_a_cell_for_every_kernel_and_cause(report: Report) -> None:
    """The image has a row per kernel and a column per cause."""
    (image,) = draw_heatmap(report).get_images()
    assert image.get_array().shape == (len(report.kernels), _CAUSES, 3)


def test_cells_have_the_causes_colours(report: Report) -> None:
    """A cell is its cause's colour, as strong as the cause's part of all weights."""
    (image,) = draw_heatmap(report).get_images()
    cells = image.get_array()
    for row, (_, kernel) in enumerate(report.kernels.iterrows()):
        for column, (cause, name) in enumerate(COLUMNS.items()):
            strength = np.nan_to_num(kernel["near_zero"] * kernel[name])
            np.testing.assert_allclose(cells[row, column], mixed_with_white(COLOURS[cause], strength))


def test_writes_every_share(report: Report) -> None:
    """The texts are the near-zero fractions and the shares, row by row."""
    texts = [text.get_text() for text in draw_heatmap(report).texts]
    rows = len(report.kernels)
    assert texts[:rows] == [percent(value) for value in report.kernels["near_zero"]]
    shares = report.kernels[list(COLUMNS.values())].to_numpy()
    expected = ["0" if share == 0 else percent(share) for share in shares.ravel()]
    assert texts[rows:] == expected


def test_a_frozen_kernel_is_a_row_of_dashes(report: Report) -> None:
    """Where the report has nothing to say, the picture says so, on white."""
    ax = draw_heatmap(report)
    row = list(report.kernels["layer"]).index("kept")
    texts = [text for text in ax.texts if round(text.get_position()[1]) == row]
    assert [text.get_text() for text in texts] == [NOTHING] * (_CAUSES + 1)
    assert (ax.get_images()[0].get_array()[row] == 1).all()


def test_names_kernels_and_finding(report: Report) -> None:
    """Rows are named by layer, input first; the title is the main finding."""
    ax = draw_heatmap(report)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["conv", "killed", "kept", "out"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_title(loc="left") == headline(report)


def test_leaves_out_texts_that_nobody_could_read(report: Report) -> None:
    """In axes of a few points' height the numbers give way to the colours."""
    _, ax = plt.subplots(figsize=(4, 0.3))
    assert not draw_heatmap(report, ax).texts
