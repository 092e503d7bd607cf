"""Sums in, figures out: of every weight, of the gradient's flow, and of the paths through it.

May import `errors`, `counterfactuals`, `thresholds`, `activations`, `linear_ops`, `records` and `statistics`;
never `capture`, `mechanisms` or anything behind them. In the order of the files:

1. `_causes` has the minimal sufficient causes of a near-zero gradient, `_verdicts` those of each weight.
2. `_weight_figures` says what is known of every weight. `_site_figures` works it out where the weight's terms
   are known, with `_gradient_figures`, `_likelihoods`, `_off_figures`, `_input_figures`, `_time_figures` and
   `_per_unit`; `_whole_layer_figures` where they are not. `_condensed` lets go of what led to verdicts.
3. `_flow` is the way of the gradient from node to node, `_paths` are those to the loss and what is lost on
   them, each a `_ways.Way`; `_decay` sums up what a way leaves of a gradient.
4. `_suffering` tells which layers do not learn, `_chance` what too small a batch shows by chance. `_case`
   puts all of it together. With a model at hand it can take a `_second_look`.
"""

from trainobs.analysis._case import Case
from trainobs.analysis._causes import CAUSE_NAMES, CAUSES, Cause, shares
from trainobs.analysis._chance import Chance
from trainobs.analysis._condensed import condensed
from trainobs.analysis._decay import Decay, decays
from trainobs.analysis._flow import Flow
from trainobs.analysis._flow_node import FlowNode
from trainobs.analysis._paths import Paths, powers
from trainobs.analysis._per_unit import mean_per_unit, shares_per_unit
from trainobs.analysis._second_look import SecondLook, TakeLook
from trainobs.analysis._site_figures import SiteFigures
from trainobs.analysis._ways import LOSS, Edge, FromTheEnd, Loss, Piece, Stretch, Way
from trainobs.analysis._weight_figures import WITHOUT_TERMS, WeightFigures, WeightInfo
from trainobs.analysis._whole_layer_figures import WholeLayerFigures

__all__ = [
    "CAUSES",
    "CAUSE_NAMES",
    "LOSS",
    "WITHOUT_TERMS",
    "Case",
    "Cause",
    "Chance",
    "Decay",
    "Edge",
    "Flow",
    "FlowNode",
    "FromTheEnd",
    "Loss",
    "Paths",
    "Piece",
    "SecondLook",
    "SiteFigures",
    "Stretch",
    "TakeLook",
    "Way",
    "WeightFigures",
    "WeightInfo",
    "WholeLayerFigures",
    "condensed",
    "decays",
    "mean_per_unit",
    "powers",
    "shares",
    "shares_per_unit",
]
