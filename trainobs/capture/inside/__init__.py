"""Operation by operation, down to the user's line: a second look at a batch, when a finding needs it.

May import `step`, `reading` and `layers`; never what draws conclusions. `_watching` runs the user's own train
step once more, without a graph, so that loops and branches are plain Python: it notes every operation, with
its layer and the user's line (`_lines`), and what gradient arrives there. `_second_look` answers questions
about that: where a gradient ends, what made values NaN, zero or small. `_ways` follows tensors through the
operations.

Private TensorFlow names used here: `op_callbacks`, which `tf.debugging.enable_check_numerics` is made of, for
nothing public tells of operations that run without a graph; and `_seed` and `_rng` of the
context, which their seeds are drawn from and nothing public puts back.
"""

from trainobs.capture.inside._second_look import BatchLook, second_look
from trainobs.capture.inside._watching import is_floating, nothing, random_state_restored

__all__ = ["BatchLook", "is_floating", "nothing", "random_state_restored", "second_look"]
