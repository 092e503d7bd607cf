"""From what a step handed over to its record, without moving a bit of the training.

May import `layers`; never `step`. `_trace` collects what one step hands over; `_reads` and `_unread`
know which of its tensors may be read unnoticed; `_wiring` finds out who consumes whom. `_plan` says
what a step has to return and where each tensor belongs, `_to_record` makes records of the values.
"""

from trainobs.capture.reading._plan import Layout, owned_weights
from trainobs.capture.reading._to_record import fill, nbytes
from trainobs.capture.reading._trace import LayerCall, ModelOutput, StepTrace

__all__ = ["LayerCall", "Layout", "ModelOutput", "StepTrace", "fill", "nbytes", "owned_weights"]
