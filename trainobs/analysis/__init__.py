"""Recordings in, statistics and verdicts out.

May import `errors`, `near_zero`, `tensors`, `activations`, `linear_ops` and `recording`; never `capture`,
`report` or anything that draws. From sums to words, in the order of the files:

1. `_term_sums` and `_off_units` count and sum over terms with the layer's own op; `_site_sums`
   is one pass of them over a site's arrays, `_scale_sums` that of a scale; `_pseudo_inverse` is the
   theory's estimate.
2. `_statistics` holds the additive sums of steps, batches and workers (`_outputs`, `_others` and
   `_time` those of outputs, of weights whose layer is not known, and of time steps); `_gather` makes
   them from a record, with what `_backward` and `_half_precision` add to it.
3. `_causes` has the minimal sufficient causes; `_figures` turns sums into a weight's figures,
   `_other_figures` those of a weight whose layer is not known.
4. `_flow` is the way of the gradient; `_origins` walks it; `_findings` says what is wrong;
   `_sentences` says it in words. `_settings` holds the thresholds of findings.
"""

from trainobs.analysis._causes import CAUSE_NAMES, CAUSES, Cause, shares
from trainobs.analysis._figures import SiteFigures
from trainobs.analysis._findings import Diagnosis, Finding, diagnose
from trainobs.analysis._flow import Flow, FlowNode
from trainobs.analysis._gather import gather
from trainobs.analysis._off_units import OFF_REASONS
from trainobs.analysis._other_figures import OtherFigures
from trainobs.analysis._sentences import chain, evidence, remedy
from trainobs.analysis._settings import FindingSettings
from trainobs.analysis._statistics import Statistics

__all__ = [
    "CAUSES",
    "CAUSE_NAMES",
    "OFF_REASONS",
    "Cause",
    "Diagnosis",
    "Finding",
    "FindingSettings",
    "Flow",
    "FlowNode",
    "OtherFigures",
    "SiteFigures",
    "Statistics",
    "chain",
    "diagnose",
    "evidence",
    "gather",
    "remedy",
    "shares",
]
