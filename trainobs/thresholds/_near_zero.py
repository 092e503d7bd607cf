"""What counts as near zero: sums are counted with it, and carry it.

| symbol | field              | meaning                                                      |
|--------|--------------------|--------------------------------------------------------------|
| rtol   | `rtol`             | a value is near zero when it is this far below its reference |
| a*     | `activation_scale` | reference size of an input activation                        |
| s*     | `slope_scale`      | reference size of an activation function's slope             |
| floor  | `gradient_floor`   | g_out below this: the loss itself has no gradient            |
"""

from __future__ import annotations

import dataclasses
import math

from trainobs.errors import InvalidArgument
from trainobs.thresholds._values import NUMBER, fits


@dataclasses.dataclass(frozen=True)
class NearZero:
    """Thresholds below which a value counts as near zero.

    A threshold is never a quantile of the tensor that is judged: then every healthy tensor would
    have its few per cent "near zero". Each value is compared with a reference instead.

    Parameters
    ----------
    rtol : float, default 1e-3
        Relative size that counts as near zero. A weight's gradient is near zero when
        ``|dJ/dw| <= rtol * a* * g* * sqrt(T) / n`` with T terms over n positions: what T terms of
        relative size `rtol` and random sign add up to. At ``gradient_floor``, 10 classes and
        batch 64 this is 4e-8, about Adam's default epsilon (1e-7): such an update is lost anyway.
    activation_scale : float, default 1.0
        a*, the reference size of activations: standardised inputs and normalised layers have
        unit variance.
    slope_scale : float, default 1.0
        s*, the reference size of a slope: 1 for ReLU's live side, tanh and the identity at 0.
    slope_atol : float, default 1e-2
        A smooth activation (sigmoid, tanh, GELU, …) is off where its slope is at most this.
        Piecewise linear ones (ReLU, ReLU6, hard sigmoid, …) are off where the slope is exactly 0.
    gradient_floor : float, default 1e-3
        Smallest g_out that is taken as a reference. At or below it the loss delivers no gradient,
        which is a finding of its own (``zero_loss_gradient``).

    Notes
    -----
    The gradient reference is read where the loss meets the model (see `gradient_scale`):
    ``g_out = sqrt(mean over positions of ||n * dJ/dy||^2)`` is about 1 for a wrong classifier
    whatever its number of classes; ``g* = max(g_out, floor) / sqrt(K)`` is its rms per element of
    the K elements of a position.

    Examples
    --------
    >>> NearZero().gradient_scale(g_out=1.0, elements=4)
    0.5
    >>> NearZero(rtol=0.01).rtol
    0.01
    """

    rtol: float = 1e-3
    activation_scale: float = 1.0
    slope_scale: float = 1.0
    slope_atol: float = 1e-2
    gradient_floor: float = 1e-3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not fits(value, NUMBER):
                raise InvalidArgument(
                    f"NearZero: `{field.name}` must be {NUMBER}. "
                    f"Received: {field.name}={value!r}. The default is {field.default}."
                )

    @property
    def activation_limit(self) -> float:
        """rtol · a*: an activation is near zero up to this size."""
        return self.rtol * self.activation_scale

    def gradient_scale(self, g_out: float, elements: int) -> float:
        """g*, the reference size of one element of ``n * dJ/dZ``.

        Parameters
        ----------
        g_out : float
            Root mean square over positions of the norm of ``n * dJ/dy`` at the model's output.
        elements : int
            K, the number of elements of one position of the output.

        Returns
        -------
        float
            ``max(g_out, gradient_floor) / sqrt(elements)``.
        """
        return max(g_out, self.gradient_floor) / math.sqrt(elements)
