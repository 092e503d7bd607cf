"""The colours: one per cause, and apart from each other for every reader."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from trainobs.analysis import CAUSE_NAMES, CAUSES
from trainobs.views._palette import COLOURS, COLUMNS, LABELS, NOT_NEAR_ZERO, SEVERAL, ink_on, mixed_with_white

# Machado, Oliveira & Fernandes 2009, severity 1, for linear RGB.
_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def _lab(colour: str, blindness: str) -> np.ndarray:
    """A colour in CIE L*a*b*, as somebody with this colour blindness sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(_BLINDNESS[blindness]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_cause_has_a_colour_a_label_and_a_column() -> None:
    """The palette and the causes of the analysis have the same members, in the same order."""
    assert tuple(COLOURS) == tuple(LABELS) == tuple(COLUMNS) == CAUSES
    assert [column.removeprefix("share_") for column in COLUMNS.values()] == list(CAUSE_NAMES)


@pytest.mark.parametrize("blindness", _BLINDNESS)
def test_colours_stay_apart(blindness: str) -> None:
    """Any two colours differ by at least 15 (CIE76), also for colour-blind readers."""
    colours = [_lab(colour, blindness) for colour in (*COLOURS.values(), SEVERAL, NOT_NEAR_ZERO)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) >= 15


def test_mixing_with_white_goes_from_white_to_the_colour() -> None:
    """Strength 0 is white, strength 1 the colour itself."""
    assert mixed_with_white("#0072B2", 0.0) == (1, 1, 1)
    assert mixed_with_white("#0072B2", 1.0) == pytest.approx(to_rgb("#0072B2"))


def test_ink_contrasts_with_its_ground() -> None:
    """White on dark colours, dark on light ones."""
    assert ink_on(to_rgb("#0072B2")) == "white"
    assert ink_on(to_rgb("#F0E442")) != "white"
