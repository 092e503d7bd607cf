"""What an activation function does to a gradient: its slope, and where the slope dies.

Nothing here is looked up by name: an element-wise function is known by its slope on a fixed grid
of preactivations, so users' own functions are read like Keras' ones. Which layers are activations stands in
`capture/layers`.

| symbol | meaning                          |
|--------|----------------------------------|
| z, Z   | preactivation                    |
| φ      | activation function, A = φ(Z)    |
| S      | slope φ'(Z), element-wise        |
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

#: Preactivations at which a function is probed. φ' of every activation in Keras has reached its
#: limits at ±30 in float32; the spacing 0.25 is the precision of `saturation_point`.
PROBE_GRID = np.linspace(-30.0, 30.0, 241)
_PIECES = 4  # a piecewise linear activation has at most this many different slopes


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation function as seen by a gradient.

    Parameters
    ----------
    name : str
        Its name, such as "relu"; several joined by " → " where layers are chained.
    layer : str
        Name of the layer that holds it.
    probed_slopes : tuple of float
        φ' at `PROBE_GRID`; empty where the function is not element-wise.
    range : (float, float)
        The smallest and the largest value that the function puts out, as probed; infinite where it has no
        bound.
    """

    name: str
    layer: str
    probed_slopes: tuple[float, ...] = ()
    range: tuple[float, float] = (-math.inf, math.inf)

    @property
    def elementwise(self) -> bool:
        """Whether each output depends on its own preactivation alone."""
        return bool(self.probed_slopes)

    @property
    def linear(self) -> bool:
        """Whether the function passes every gradient on as it is."""
        return self.elementwise and all(s == 1.0 for s in self.probed_slopes)

    @property
    def piecewise_linear(self) -> bool:
        """Whether the slope takes a few values only (ReLU, leaky ReLU, hard sigmoid, …)."""
        return self.elementwise and len(set(self.probed_slopes)) <= _PIECES

    @property
    def homogeneous(self) -> bool:
        """Whether φ(c·z) = c·φ(z) for every c > 0: one slope on each side of 0 (ReLU, leaky ReLU, linear)."""
        zero = PROBE_GRID.size // 2
        sides = set(self.probed_slopes[:zero]), set(self.probed_slopes[zero + 1 :])
        return self.elementwise and all(len(slopes) == 1 for slopes in sides)

    def off_limit(self, slope_atol: float) -> float:
        """Slope at or below which a unit is off: 0 if piecewise linear, else `slope_atol`."""
        return 0.0 if self.piecewise_linear else slope_atol

    def rectifies(self, slope_atol: float) -> bool:
        """Whether very negative preactivations switch the unit off, but positive ones do not.

        ReLU6 and its like rectify too: off below 0 everywhere, and again far above.
        """
        if not self.elementwise:
            return False
        live = np.abs(self.probed_slopes) > self.off_limit(slope_atol)
        negative, positive = live[: live.size // 2], live[live.size // 2 + 1 :]
        return bool(not live[0] and (live[-1] or (positive.any() and not negative.any())))

    def saturation_point(self, slope_atol: float) -> float:
        """z*: smallest |z| beyond which the slope stays off on a side that saturates; 0 if none.

        The negative side of a function that rectifies is no saturation.
        """
        if not self.elementwise:
            return 0.0
        off = np.abs(self.probed_slopes) <= self.off_limit(slope_atol)
        sides = [off[120:]] if self.rectifies(slope_atol) else [off[120:], off[120::-1]]
        return min((point for side in sides if (point := _flat_from(side)) is not None), default=0.0)


def _flat_from(off: np.ndarray) -> float | None:
    """Distance from 0 at which a half-grid is off for good; None if it never is."""
    live = np.flatnonzero(~off)
    first_off = 0 if live.size == 0 else int(live[-1]) + 1
    return None if first_off == off.size else 0.25 * first_off
