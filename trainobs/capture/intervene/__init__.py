"""A batch once more, with one thing changed: what proves a cause, or refutes it.

May import `inside`, `step` and `layers`; never what draws conclusions. `_try_out` runs the user's
own train step, without a graph and without its update, and hands over the gradients of the weights;
`_changes` puts a counterfactual in place, forward and backward, for the length of a `with` block;
`_standardising` and `_passing` are what stands in for activations and calls.
"""

from trainobs.capture.intervene._try_out import try_out

__all__ = ["try_out"]
