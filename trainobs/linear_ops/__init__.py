"""How a weight meets its input: one frozen spec per layer kind, and its two VJPs.

Every spec is bilinear, ``preactivation = apply(input, kernel)``, and both derivatives come from
`tf.GradientTape`: no backward rule is written by hand. Counting is the same VJP on other arrays
(`weight_vjp(1, 1)` is the number of terms of each weight).

May import `tensors`; never anything else of the package. `_base` says what a spec is; `_einsum` has
the specs that are matrix products (dense, attention's projections, biases, scales), `_conv` those
with a window, `_lookup` the table of an embedding.
"""

from trainobs.linear_ops._base import (
    LinearOp,
    Shape,
    input_vjp,
    op_from_config,
    sent_back,
    weight_vjp,
    windows,
)
from trainobs.linear_ops._conv import ConvOp, ConvTransposeOp, DepthwiseConvOp
from trainobs.linear_ops._einsum import DenseOp, EinsumOp, bias_op, scale_op
from trainobs.linear_ops._lookup import LookupOp

__all__ = [
    "ConvOp",
    "ConvTransposeOp",
    "DenseOp",
    "DepthwiseConvOp",
    "EinsumOp",
    "LinearOp",
    "LookupOp",
    "Shape",
    "bias_op",
    "input_vjp",
    "op_from_config",
    "scale_op",
    "sent_back",
    "weight_vjp",
    "windows",
]
