"""All that the rules look at: the figures of one check, and what they are compared with."""

from __future__ import annotations

import dataclasses
import functools
import math

from trainobs.analysis import Chance
from trainobs.health._weight_health import WeightHealth, by_layer
from trainobs.thresholds import Thresholds


@dataclasses.dataclass(frozen=True)
class Measured:
    """The figures of one check.

    Attributes
    ----------
    weights : tuple of WeightHealth
        In the order of the forward pass.
    thresholds : Thresholds
    loss : float
        The batch's own loss.
    global_norm : float
        √(Σ ‖g‖²) over the trainable weights that were recorded.
    oscillation : float
        nan while it is not known.
    first : bool
        Whether the weights are the initial ones.
    """

    weights: tuple[WeightHealth, ...]
    thresholds: Thresholds
    loss: float
    global_norm: float
    oscillation: float = math.nan
    first: bool = False

    @functools.cached_property
    def trained(self) -> tuple[WeightHealth, ...]:
        """The trainable weights."""
        return tuple(weight for weight in self.weights if weight.trainable)

    @functools.cached_property
    def kernels(self) -> tuple[WeightHealth, ...]:
        """The trainable kernels, recurrent ones too."""
        return tuple(weight for weight in self.trained if weight.is_kernel)

    @functools.cached_property
    def chance(self) -> Chance:
        """What rectifying units of this model do by chance."""
        units = [weight.rectifying for weight in self.weights if weight.rectifying]
        return Chance(sum(units), len(units), self.thresholds.chance)

    def flow(self) -> dict[str, tuple[str, ...]]:
        """Which layers' gradients vanish, explode, or are not finite.

        Returns
        -------
        dict of str to tuple of str
            "vanishing", "exploding", "non_finite": names of layers in the order of the forward pass. A layer
            vanishes when the gradients of all its weights do, of those that have one by design.
        """
        layers = by_layer(self.trained).items()
        return {
            "vanishing": tuple(layer for layer, weights in layers if self._vanish(weights)),
            "exploding": tuple(layer for layer, weights in layers if any(map(self.explodes, weights))),
            "non_finite": tuple(layer for layer, weights in layers if any(w.non_finite for w in weights)),
        }

    def vanishes(self, weight: WeightHealth) -> bool:
        """Whether a weight's gradient is below `Thresholds.vanishing`."""
        return weight.gradient(self.thresholds.vanishing_of) < self.thresholds.vanishing

    def explodes(self, weight: WeightHealth) -> bool:
        """Whether a weight's gradient is finite and above `Thresholds.exploding`."""
        return self.thresholds.exploding < weight.gradient(self.thresholds.exploding_of) < math.inf

    def _vanish(self, weights: list[WeightHealth]) -> bool:
        designed = [weight for weight in weights if not weight.cancelled]
        return bool(designed) and all(map(self.vanishes, designed))
