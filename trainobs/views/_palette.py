"""One colour per cause, the same in every picture and in HTML.

The three factors have the hues of Okabe and Ito's colour-blind safe palette; a pair has the hue
that its two factors mix to as light (blue and red: purple). A test holds all colours apart for
the three kinds of colour blindness.
"""

from __future__ import annotations

from trainobs.analysis import CAUSES, Cause

COLOURS: dict[Cause, str] = {
    Cause.INPUT: "#0072B2",
    Cause.ACTIVATION: "#D55E00",
    Cause.BACKPROP: "#009E73",
    Cause.INPUT_ACTIVATION: "#CC79A7",
    Cause.INPUT_BACKPROP: "#56B4E9",
    Cause.ACTIVATION_BACKPROP: "#E69F00",
    Cause.INPUT_ACTIVATION_BACKPROP: "#F0E442",
    Cause.CANCELLATION: "#7A3B12",
}
#: A weight whose gradient is not near zero.
NOT_NEAR_ZERO = "#E9ECEF"
#: An over-determined weight: several causes, each of which alone would do.
SEVERAL = "#333333"

#: "input + backprop": both are needed. (Causes that would each do alone are joined by "or".)
LABELS: dict[Cause, str] = {cause: str(cause.name).lower().replace("_", " + ") for cause in CAUSES}
#: The columns of `Explanation.layers` with the causes' shares.
COLUMNS: dict[Cause, str] = {cause: f"share_{str(cause.name).lower()}" for cause in CAUSES}

INK = "#212529"
MUTED = "#6C757D"
FAINT = "#CED4DA"
BAR = "#DEE2E6"
FILLED = "#ADB5BD"
BAND = "#F8D7DA"
SEVERITIES: dict[str, str] = {"error": "#B02A37", "warning": "#9A5B00", "info": "#5C6773"}


def mixed_with_white(colour: str, strength: float) -> tuple[float, float, float]:
    """A colour as RGB in [0, 1], thinned with white: 1 keeps it, 0 is white."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)


def ink_on(rgb: tuple[float, float, float]) -> str:
    """The text colour that reads best on a background: dark or white."""
    red, green, blue = (part**2.2 for part in rgb)
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 else "white"
