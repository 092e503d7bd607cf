"""What each gate of a recurrent layer met at every time step, worked out after the train step.

May import the parent's `_kind`, `_slope` and `_probing`; never its other files. The loop
over time can't be tapped, so the layer's call is run once more on recorded values (`_replay`), of the
layers and cells that `_cells` knows: `_through_time` finds the states that enter each step (`_traces`
compiles it), `_all_steps` computes all steps from them, `_gates` says what each gate's weights met.
`_recurrent` is the kind that the registry knows.
"""

from trainobs.capture.layers.recurrent._cells import cells_of, gate_calls, is_recurrent
from trainobs.capture.layers.recurrent._recurrent import RecurrentKind

__all__ = ["RecurrentKind", "cells_of", "gate_calls", "is_recurrent"]
