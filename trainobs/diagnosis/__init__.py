"""See, walk, merge, locate, prove, rank: from figures to findings. It navigates, and asks the mechanisms.

May import `errors`, `findings`, `counterfactuals`, `records`, `statistics`, `analysis` and `mechanisms`;
never `capture`, `explanation` or anything behind them.

`_diagnose` is all of it on one screen. `_walk` goes from each weight to where its gradient is lost:
`_factors` says in which direction, `_apart` where two take turns; `_upstream`, `_downstream` (with
`_edges`) and `_cut` are the ways, which remember what they were asked, and `_at_kernel` is what one of them
sees at a kernel. Each way ends in an `_origin`, and has `_steps`. `_merge` makes one mechanism of what
several weights see. Where a model is at hand, `_locate` finds their lines, and `_prove` tries each of them
out (`_trials`, `_proof`, `_besides`), but for those that only inform (`_severity`). `_rank` makes findings,
`_chains` a line for each way.
"""

from trainobs.diagnosis._chains import chain
from trainobs.diagnosis._diagnose import Diagnosis, diagnose
from trainobs.diagnosis._origin import Origin

__all__ = ["Diagnosis", "Origin", "chain", "diagnose"]
