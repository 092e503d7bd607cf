"""What stands beside pictures and tables on a page: captions, causes and terms in a line each."""

from __future__ import annotations

from trainobs.analysis import Cause

MEANINGS: dict[Cause, str] = {
    Cause.INPUT: "What the weight multiplies is near zero.",
    Cause.ACTIVATION: "The unit is off: the slope of its activation is near zero.",
    Cause.BACKPROP: "Hardly any gradient comes back from the layers behind.",
    Cause.INPUT_ACTIVATION: "Only together: the unit is off where the input is live, or both are small.",
    Cause.INPUT_BACKPROP: "Only together: no gradient comes where the input is live, or both are small.",
    Cause.ACTIVATION_BACKPROP: "Only together: no gradient comes where the unit is on, or both are small.",
    Cause.INPUT_ACTIVATION_BACKPROP: "All three together, and no two of them.",
    Cause.CANCELLATION: "The terms are large, but cancel in the sum.",
}
PROVED = "Tried on the same batch: with this changed, and nothing else, the gradients come back."
DEFINITIONS = (
    (
        "near zero",
        "|dJ/dw| is at most rtol · a* · g* · √T / n: what T terms of relative size rtol add up to.",
    ),
    (
        "a*, s*, g*",
        "Reference sizes of inputs, slopes and gradients; g* is read where the loss meets the model.",
    ),
    (
        "share",
        "Part of a kernel's near-zero weights that a cause holds there; the eight shares add to 100 %.",
    ),
    ("cause", "A set of factors that alone, the others at their reference, keeps the gradient near zero."),
    ("p_…", "Fraction of the terms in which a factor is near zero."),
    ("dead unit", "Off at all positions of the data; common over one batch in healthy networks."),
    ("gain", "Size of the gradient that a node passes on over the size of what arrives."),
    ("proved", PROVED),
    (
        "residual",
        "Distance of the terms' sum from the measured gradient, relative: 0 where the layer is understood.",
    ),
)
HEATMAP = (
    "Kernels × causes, input first. Numbers split up the near-zero gradients of a row; the strength of the "
    "colour is the part of all its weights, so a healthy network looks pale."
)
FLOW = (
    "The gradient's way back from the loss. A node that stops it makes the line fall to its right; below the "
    "dotted line gradients are near zero."
)
LAYER = (
    "The kernel of {}, every weight coloured by its verdict. Below each unit: how often it is off; beside "
    "each input: how often it is zero."
)
