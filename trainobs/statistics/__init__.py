"""Records in, additive sums out, with the thresholds that they were counted with.

May import `errors`, `thresholds`, `tensors`, `activations`, `linear_ops` and `records`; never `capture`,
`analysis` or anything behind them. In the order of the files:

1. `_schema` says what each sum is.
2. `_term_sums` and `_off_units` count and sum over terms with the layer's own op; `_squares` has those of
   squares that float32 can't hold. `_one_pass` is one pass of them over a site's arrays, `_site_sums` that of
   a recorded site; biases and tables need less (`_constant_input`), and so do scales (`_scale_sums`).
   `_time_steps` has the sums of a gate, step by step.
3. `_pseudo_inverse` is the theory's estimate of backprop, `_estimate_sums` what is counted of it.
4. `_site_statistics` has the sums of a weight, `_outputs` and `_whole_layer` those of outputs and of
   weights whose layer is not known, `_statistics` all of a step, a batch or a worker.
5. `_gather` makes them from a record, weight by weight (`_gather_weights`), with what `_backward`,
   `_delivered`, `_residual` and `_half_precision` add to it.
"""

from trainobs.statistics._delivered import Delivered, delivered
from trainobs.statistics._fit import Fit
from trainobs.statistics._gather import gather
from trainobs.statistics._off_units import OFF_REASONS
from trainobs.statistics._outputs import OutputStatistics
from trainobs.statistics._schema import PER_WEIGHT, SUMS, Sum
from trainobs.statistics._site_statistics import SiteInfo, SiteStatistics
from trainobs.statistics._statistics import Statistics
from trainobs.statistics._whole_layer import WholeLayerInfo, WholeLayerStatistics

__all__ = [
    "OFF_REASONS",
    "PER_WEIGHT",
    "SUMS",
    "Delivered",
    "Fit",
    "OutputStatistics",
    "SiteInfo",
    "SiteStatistics",
    "Statistics",
    "Sum",
    "WholeLayerInfo",
    "WholeLayerStatistics",
    "delivered",
    "gather",
]
