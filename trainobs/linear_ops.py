"""How a kernel meets its input: one frozen spec per layer kind, and its two VJPs.

Every spec is bilinear, ``preactivation = apply(input, kernel)``, and both derivatives come from
`tf.GradientTape`: no backward rule is written by hand. Counting is the same VJP on other arrays
(`weight_vjp(1, 1)` is the number of terms of each weight).

| letter | axis                                      |
|--------|-------------------------------------------|
| n      | batch                                     |
| p      | output pixels or time steps (``*spatial``)|
| i, j   | input and output channels (units)         |
| k      | kernel window                             |

Arrays given to `apply` are channels-last; `channels_last` brings a layer's own layout there.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import tensorflow as tf

Shape = tuple[int, ...]


class LinearOp(abc.ABC):
    """A bilinear map of an input and a kernel."""

    groups: int = 1

    @abc.abstractmethod
    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return ``input ∘ kernel``: (n, *p, i) and (*k, i/groups, j) give (n, *q, j)."""

    @abc.abstractmethod
    def ungrouped(self) -> LinearOp:
        """The same op with all channels in one group (for inputs of a single channel)."""

    def channels_last(self, array: Any) -> Any:
        """Bring an array of the layer's own layout to channels-last."""
        return array

    def from_channels_last(self, array: Any) -> Any:
        """Inverse of `channels_last`."""
        return array

    def to_config(self) -> dict[str, Any]:
        """Plain values from which `op_from_config` makes an equal spec."""
        return {"op": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]


@dataclasses.dataclass(frozen=True)
class DenseOp(LinearOp):
    """``Z[n, …, j] = Σ_i input[n, …, i] · kernel[i, j]``."""

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(input, kernel, axes=1)

    def ungrouped(self) -> DenseOp:
        return self


@dataclasses.dataclass(frozen=True)
class ConvOp(LinearOp):
    """A 1D, 2D or 3D convolution; ``padding`` may be "valid", "same" or "causal" (1D)."""

    strides: Shape
    padding: str
    dilation: Shape
    groups: int = 1
    data_format: str = "channels_last"

    def apply(self, input: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        padding = self.padding
        if padding == "causal":
            left = self.dilation[0] * (kernel.shape[0] - 1)
            input = tf.pad(input, [[0, 0], [left, 0], [0, 0]])
            padding = "valid"
        layout = ("NWC", "NHWC", "NDHWC")[len(self.strides) - 1]  # without it Conv3D's gradient fails
        # TensorFlow has no gradient for grouped convolutions on the CPU: one per group instead.
        parts = [
            tf.nn.convolution(
                i, k, self.strides, padding.upper(), data_format=layout, dilations=self.dilation
            )
            for i, k in zip(self._split(input), self._split(kernel), strict=True)
        ]
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)

    def _split(self, array: tf.Tensor) -> list[tf.Tensor]:
        return [array] if self.groups == 1 else tf.split(array, self.groups, axis=-1)

    def ungrouped(self) -> ConvOp:
        return dataclasses.replace(self, groups=1)

    def channels_last(self, array: Any) -> Any:
        return array if self.data_format == "channels_last" else _move_axis(array, 1, -1)

    def from_channels_last(self, array: Any) -> Any:
        return array if self.data_format == "channels_last" else _move_axis(array, -1, 1)


def _move_axis(array: Any, source: int, target: int) -> Any:
    axes = list(range(len(array.shape)))
    axes.insert(target % len(axes), axes.pop(source))
    return tf.transpose(array, axes) if tf.is_tensor(array) else array.transpose(axes)


_OPS: dict[str, type[LinearOp]] = {"DenseOp": DenseOp, "ConvOp": ConvOp}


def op_from_config(config: dict[str, Any]) -> LinearOp:
    """Make the spec that `LinearOp.to_config` described."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "op"}
    return _OPS[config["op"]](**fields)


def weight_vjp(op: LinearOp, input: tf.Tensor, cotangent: tf.Tensor, kernel_shape: Shape) -> Any:
    """Sum over the terms of each weight: ``Σ_t input_t · cotangent_t``.

    Parameters
    ----------
    op : LinearOp
        How the kernel meets its input.
    input : tf.Tensor of shape (n, *p, i)
        What the kernel multiplies, channels-last.
    cotangent : tf.Tensor of shape (n, *q, j)
        The gradient that arrives at the preactivation, or any array put in its place.
    kernel_shape : tuple of int
        Shape (*k, i/groups, j) of the result.

    Returns
    -------
    tf.Tensor of shape `kernel_shape`

    Notes
    -----
    The map is linear in the kernel, so the kernel it is differentiated at does not matter: zeros.
    """
    kernel = tf.zeros(kernel_shape, input.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(kernel)
        preactivation = op.apply(input, kernel)
    return tape.gradient(preactivation, kernel, cotangent)


def input_vjp(op: LinearOp, kernel: tf.Tensor, cotangent: tf.Tensor, input_shape: Any) -> Any:
    """Backpropagate a cotangent of the preactivation to the input: ``cotangent ∘ᵀ kernel``.

    Parameters
    ----------
    op : LinearOp
        How the kernel meets its input.
    kernel : tf.Tensor of shape (*k, i/groups, j)
        The weights.
    cotangent : tf.Tensor of shape (n, *q, j)
        The gradient at the preactivation.
    input_shape : shape (n, *p, i)
        Shape of the result.

    Returns
    -------
    tf.Tensor of shape `input_shape`
    """
    input = tf.zeros(input_shape, kernel.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(input)
        preactivation = op.apply(input, kernel)
    return tape.gradient(preactivation, input, cotangent)
