"""Steps of a training, recorded while it runs: a callback for `fit`, a `with` block for own loops.

May import `errors`, `thresholds`, `records`, `recording`, `selection`, `statistics` and `capture`; never
`analysis` or anything that judges or draws. In the order of the files:

1. `_schedule` says which steps are due, `_steps` numbers those that really ran.
2. `_memory` keeps what was recorded, as long as it fits.
3. `_fits` records due steps of `fit`, `_own_loops` those of loops that users write.
4. `_recorder` is the door for users.
"""

from trainobs.recorder._fits import DueSteps
from trainobs.recorder._recorder import Recorder
from trainobs.recorder._schedule import Schedule, log_spaced

__all__ = ["DueSteps", "Recorder", "Schedule", "log_spaced"]
