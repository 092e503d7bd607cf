"""From what a step handed over to its record, without moving a bit of the training.

May import `layers`; never `step`. `_trace` collects what one step hands over, `_wiring` finds out who
consumes whom. Which of its tensors may be read unnoticed is known by `_reads` and `_unread`, with
`_terms`, which sees what a tensor was made of; `_between` knows the user's line where a gradient ends.
`_plan` is the frozen plan of a step: what is read, and
where each value belongs. `_plan_step` makes it of a `_traced_step`, with `_plan_calls` and `_plan_nodes`;
`_to_record` makes a record of the plan and its `_values`, with `_units` and `_node_records`. `_joined`
makes one record of those of several graphs.
"""

from trainobs.capture.reading._joined import joined
from trainobs.capture.reading._plan import CompiledLoss, StepPlan
from trainobs.capture.reading._plan_step import plan_step
from trainobs.capture.reading._to_record import nbytes, to_record
from trainobs.capture.reading._trace import LayerCall, ModelOutput, StepTrace
from trainobs.capture.reading._traced_step import owned_weights

__all__ = [
    "CompiledLoss",
    "LayerCall",
    "ModelOutput",
    "StepPlan",
    "StepTrace",
    "joined",
    "nbytes",
    "owned_weights",
    "plan_step",
    "to_record",
]
