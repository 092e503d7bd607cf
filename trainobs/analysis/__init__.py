"""Sums in, figures out: of every weight, of the gradient's flow, and of the paths through it.

May import `errors`, `thresholds`, `activations`, `linear_ops`, `records` and `statistics`; never `capture`,
`mechanisms` or anything behind them. In the order of the files:

1. `_causes` has the minimal sufficient causes of a near-zero gradient.
2. `_site_figures` turns sums into a weight's figures, `_whole_layer_figures` those of a weight whose
   layer is not known.
3. `_flow` is the way of the gradient from node to node, `_paths` what is lost on it.
4. `_case` holds all of it together.
"""

from trainobs.analysis._case import Case
from trainobs.analysis._causes import CAUSE_NAMES, CAUSES, Cause, shares
from trainobs.analysis._flow import Flow, FlowNode
from trainobs.analysis._paths import LOSS, Edge, Loss, Paths, Piece, Stretch, powers
from trainobs.analysis._site_figures import SiteFigures, condensed
from trainobs.analysis._whole_layer_figures import WholeLayerFigures

__all__ = [
    "CAUSES",
    "CAUSE_NAMES",
    "LOSS",
    "Case",
    "Cause",
    "Edge",
    "Flow",
    "FlowNode",
    "Loss",
    "Paths",
    "Piece",
    "SiteFigures",
    "Stretch",
    "WholeLayerFigures",
    "condensed",
    "powers",
    "shares",
]
