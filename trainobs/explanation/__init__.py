"""An explanation: tables and text about one batch, step or data set, made with pandas only.

May import `errors`, `counterfactuals`, `thresholds`, `findings`, `records`, `selection`, `statistics`,
`analysis`, `mechanisms` and `diagnosis`; never `views`, `report` or anything behind them. In the order of
the files:

1. `_facts` works out from statistics what all tables are read from, and asks for the diagnosis.
2. `_layers` has a row per weight, with what `_next_gradient` says of the kernels behind it and the names
   in `_columns`; `_rows` has one per unit, input, time step, estimate; `_weights` an array per weight.
3. `_flow` and `_findings` are the tables of the way back and of what is wrong on it; `_quiet` says what is
   near zero where nothing is.
4. `_text` says it in words. `_explanation` is the class that users meet; `_weight_tables` has its tables of
   weights.
"""

from trainobs.explanation._columns import LIKELIHOODS, OFF_COLUMNS, SHARES
from trainobs.explanation._explanation import Explanation
from trainobs.explanation._weights import WeightView

__all__ = ["LIKELIHOODS", "OFF_COLUMNS", "SHARES", "Explanation", "WeightView"]
