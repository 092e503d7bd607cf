"""Records in, additive sums out, with the thresholds that they were counted with.

May import `errors`, `thresholds`, `tensors`, `activations`, `linear_ops` and `records`; never `capture`,
`analysis` or anything behind them. In the order of the files:

1. `_term_sums` and `_off_units` count and sum over terms with the layer's own op; `_site_sums`
   is one pass of them over a site's arrays, `_scale_sums` that of a scale; `_pseudo_inverse` is the
   theory's estimate.
2. `_statistics` holds the sums of steps, batches and workers; `_outputs`, `_whole_layer` and `_time_steps`
   those of outputs, of weights whose layer is not known, and of time steps.
3. `_gather` makes them from a record, with what `_backward` and `_half_precision` add to it.
"""

from trainobs.statistics._gather import gather
from trainobs.statistics._off_units import OFF_REASONS
from trainobs.statistics._outputs import OutputStatistics
from trainobs.statistics._statistics import PER_WEIGHT, SiteInfo, SiteStatistics, Statistics
from trainobs.statistics._whole_layer import WholeLayerInfo, WholeLayerStatistics

__all__ = [
    "OFF_REASONS",
    "PER_WEIGHT",
    "OutputStatistics",
    "SiteInfo",
    "SiteStatistics",
    "Statistics",
    "WholeLayerInfo",
    "WholeLayerStatistics",
    "gather",
]
