"""The picture of one kernel, by its artists."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import StepPatch

from trainobs import Cause, Report
from trainobs.errors import NotRecorded
from trainobs.views import draw_layer
from trainobs.views._palette import COLOURS, LABELS, NOT_NEAR_ZERO, SEVERAL


def _cells(ax: Axes) -> np.ndarray:
    """The colours of the kernel's image."""
    (image,) = ax.get_images()
    return image.cmap(image.norm(image.get_array()))


def _beside(ax: Axes, label: str) -> Axes:
    """The strip with this text at one of its axes."""
    strips = [a for a in ax.figure.axes if label in (a.get_xlabel(), a.get_ylabel())]
    assert len(strips) == 1
    return strips[0]


def _legend(ax: Axes) -> dict[str, tuple[float, ...]]:
    """Colour by label."""
    (legend,) = [a.get_legend() for a in ax.figure.axes if a.get_legend()]
    pairs = zip(legend.get_texts(), legend.get_patches(), strict=True)
    return {text.get_text(): patch.get_facecolor() for text, patch in pairs}


def test_draws_into_the_given_axes(report: Report) -> None:
    """The kernel stands in the axes that are passed; strips and legend share their place."""
    figure, ax = plt.subplots()
    assert draw_layer(report, "killed", ax) is ax
    assert all(a.figure is figure for a in figure.axes) and plt.get_fignums() == [figure.number]


def test_a_dense_kernel_has_a_cell_per_weight(report: Report) -> None:
    """Rows are inputs and columns units, in the colours of their verdicts."""
    ax, verdict = draw_layer(report, "killed"), report.weights("killed").verdict
    cells = _cells(ax)
    assert cells.shape[:2] == verdict.shape
    for (i, j), bits in np.ndenumerate(verdict):
        several = int(bits).bit_count() > 1
        colour = SEVERAL if several else COLOURS.get(Cause(int(bits)), NOT_NEAR_ZERO)
        assert np.allclose(cells[i, j], to_rgba(colour))
    assert ax.get_ylabel() == "input"


def test_a_convolution_has_a_tile_per_channel_and_unit(kernel_report: Callable[..., Any]) -> None:
    """Weight (k, m, i, j) is the cell (k, m) of tile (i, j), and lines part the tiles."""
    verdict = np.random.default_rng(0).choice(np.array([0, 1, 4, 128], np.uint8), (3, 2, 4, 5))
    ax = draw_layer(kernel_report(verdict), "big")
    cells = _cells(ax)
    assert cells.shape[:2] == (12, 10)
    for k, m, i, j in np.ndindex(verdict.shape):
        value = Cause(int(verdict[k, m, i, j]))
        assert np.allclose(cells[3 * i + k, 2 * j + m], to_rgba(COLOURS.get(value, NOT_NEAR_ZERO)))
    assert sum(len(lines.get_paths()) for lines in ax.collections) == (4 - 1) + (5 - 1)


@pytest.mark.parametrize("shape", [(7, 3, 2), (2, 3, 4, 3, 2)], ids=["1d", "3d"])
def test_other_windows_are_laid_out_flat(shape: tuple[int, ...], kernel_report: Callable[..., Any]) -> None:
    """One- and three-dimensional windows become tiles too: every weight has its cell."""
    ax = draw_layer(kernel_report(np.ones(shape, np.uint8)), "big")
    assert _cells(ax).shape[0] * _cells(ax).shape[1] == np.prod(shape)


def test_units_stand_below(report: Report) -> None:
    """The strip below has each unit's fraction of being off; dead ones in the activation's colour."""
    strip, units = _beside(draw_layer(report, "killed"), "unit"), report.units("killed")
    off, dead = (patch for patch in strip.get_children() if isinstance(patch, StepPatch))
    np.testing.assert_allclose(off.get_data().values, units["off"])
    np.testing.assert_allclose(dead.get_data().values, units["dead"])
    assert dead.get_facecolor() == to_rgba(COLOURS[Cause.ACTIVATION])
    assert [text.get_text() for text in strip.texts] == ["5 dead"]


def test_inputs_stand_beside(kernel_report: Callable[..., Any]) -> None:
    """The strip beside has each input's zero fraction; dead ones in the input's colour."""
    strip = _beside(draw_layer(kernel_report(np.zeros((4, 3), np.uint8)), "big"), "zero")
    zero, dead = (patch for patch in strip.get_children() if isinstance(patch, StepPatch))
    np.testing.assert_allclose(zero.get_data().values, [1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(dead.get_data().values, [1, 0, 0, 0])
    assert dead.get_facecolor() == to_rgba(COLOURS[Cause.INPUT])


def test_inputs_of_groups_are_left_out(kernel_report: Callable[..., Any]) -> None:
    """A grouped convolution's kernel has no row per input, so no strip claims one."""
    ax = draw_layer(kernel_report(np.zeros((3, 3, 2, 4), np.uint8), inputs=8), "big")
    assert not [a for a in ax.figure.axes if a.get_xlabel() == "zero"]


def test_the_legend_has_what_is_there(kernel_report: Callable[..., Any]) -> None:
    """Only the causes present are listed; a weight with several names them."""
    verdict = np.array([[Cause.INPUT, Cause.NONE], [Cause.ACTIVATION | Cause.BACKPROP, Cause.NONE]], np.uint8)
    legend = _legend(draw_layer(kernel_report(verdict), "big"))
    assert legend == {
        LABELS[Cause.INPUT]: to_rgba(COLOURS[Cause.INPUT]),
        "each alone: activation, backprop": to_rgba(SEVERAL),
        "not near zero": to_rgba(NOT_NEAR_ZERO),
    }


def test_a_frozen_kernel_has_no_verdict(report: Report) -> None:
    """It is drawn without colours or legend, and the text says that it is frozen."""
    ax = draw_layer(report, "kept")
    assert np.allclose(_cells(ax), to_rgba(NOT_NEAR_ZERO))
    assert not [a for a in ax.figure.axes if a.get_legend()]
    assert any("frozen" in text.get_text() for text in ax.texts)


@pytest.mark.parametrize("shape", [(4096, 4096), (3, 3, 512, 512)], ids=["dense", "conv"])
def test_large_kernels_are_drawn_by_majority(
    shape: tuple[int, ...], kernel_report: Callable[..., Any]
) -> None:
    """Millions of weights become at most 512 × 512 pixels, in seconds, and the label says how."""
    verdict = np.zeros(shape, np.uint8)
    verdict[..., : shape[-1] // 2] = Cause.BACKPROP
    start = time.perf_counter()
    ax = draw_layer(kernel_report(verdict), "big")
    assert time.perf_counter() - start < 10
    cells = _cells(ax)
    assert max(cells.shape) <= 512
    assert np.allclose(cells[:, : cells.shape[1] // 2], to_rgba(COLOURS[Cause.BACKPROP]))
    assert any("one pixel: most of" in a.get_xlabel() for a in ax.figure.axes)


def test_a_pixel_is_the_most_frequent_kind(kernel_report: Callable[..., Any]) -> None:
    """A minority in a block disappears; of two equals the cause stays."""
    verdict = np.zeros((1024, 4), np.uint8)
    verdict[1::2, 0] = Cause.INPUT  # one of each block of two
    verdict[:2, 1] = Cause.BACKPROP
    cells = _cells(draw_layer(kernel_report(verdict), "big"))
    assert np.allclose(cells[:, 0], to_rgba(COLOURS[Cause.INPUT]))
    assert np.allclose(cells[0, 1], to_rgba(COLOURS[Cause.BACKPROP]))
    assert np.allclose(cells[1:, 1], to_rgba(NOT_NEAR_ZERO))


def test_an_unknown_layer_is_refused(report: Report) -> None:
    """The report's own error names the layers there are."""
    with pytest.raises(NotRecorded, match="killed"):
        draw_layer(report, "nowhere")
