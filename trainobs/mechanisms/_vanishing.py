"""Signals and gradients that shrink: at one node, or little by little."""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis import Case, Decay, SiteFigures
from trainobs.counterfactuals import Counterfactual, PassedOn, Untried
from trainobs.mechanisms._healthy import every_layer_standardised, fresh_weights
from trainobs.mechanisms._masked import of_zeros
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import several
from trainobs.records import Place

_TREATMENTS = ("re-initialise", "insert normalisation", "swap activation", "residual wrap")
_INITIALISE = "Use He initialisation (Glorot for tanh, sigmoid), normalisation or residual connections."
_SCALE = "Scale what this layer reads to unit size (embeddings times √d, or a normalisation before it)."


@dataclasses.dataclass(frozen=True)
class VanishingGradient(Mechanism):
    """Gradients shrink on their way from the loss, over several layers, or signals on their way to it.

    Severity: error; info where the one node that takes the gradient has weights that get a gradient
    themselves: they will grow

    When: gradients or signals shrink over several layers, no single one of which kills them; or one node
    without a kernel (a normalisation, attention scores, operations) takes a factor of 32 (10^`killer`) or
    more from the gradient, and more than half of all that is lost.

    Where: the layer with the strongest drop, which is the one with the smallest gain, with the mean gain of
    the way and the factor that drives it (slope or kernel); or that node, with its gain.

    Parameters
    ----------
    layers : int
        Kernels on the way.
    mean_gain : float
        What a layer leaves of the gradient, on geometric average.
    by_slopes : bool
        Whether slopes drive it, and not kernels.
    rectifying : bool
        Whether all activations on the way are rectifiers.
    kernel_layer : str
        Whose kernel takes most; "" without kernels on the way.
    kernel_rms, healthy_weight : float
        Of that kernel.
    """

    layers: int
    mean_gain: float
    by_slopes: bool
    rectifying: bool
    kernel_layer: str
    kernel_rms: float
    healthy_weight: float

    cause = "vanishing"
    treatments = _TREATMENTS
    on_the_way = True
    has_place = False
    may_be_chance = True

    @classmethod
    def along(cls, case: Case, decay: Decay) -> VanishingGradient:
        """The mechanism on a way to the loss, at the layer with the strongest drop."""
        layers, worst = max(decay.layers, 1), decay.worst
        return cls(
            layer=case.layer_of(decay.drop),
            layers=layers,
            mean_gain=10 ** (-decay.lost / layers),
            by_slopes=decay.slopes >= decay.kernels,
            rectifying=decay.rectifying,
            kernel_layer=worst.info.layer if worst else "",
            kernel_rms=worst.kernel_rms if worst else math.nan,
            healthy_weight=worst.healthy_weight if worst else math.nan,
        )

    @property
    def is_slow(self) -> bool:
        """It is."""
        return True

    @property
    def value(self) -> float:
        """The mean gain."""
        return self.mean_gain

    def evidence(self) -> str:
        """How fast, over how many layers, and what drives it."""
        if not self._shrinks:
            return (
                f"From the loss back over {several(self.layers, 'layer')}, the gradient stays at "
                f"{self.mean_gain:.2g} of itself per layer: no layer takes it."
            )
        driver = "the slopes of the activations" if self.by_slopes else self._kernels()
        return (
            f"From the loss back, the gradient shrinks to {self.mean_gain:.2g} of itself per layer over "
            f"{several(self.layers, 'layer')}, driven by {driver}; the strongest drop is at {self.layer}."
        )

    @property
    def _shrinks(self) -> bool:
        """Whether it does, in the figures that are shown; else gradients are small for other reasons too."""
        return float(f"{self.mean_gain:.2g}") < 1

    def _kernels(self) -> str:
        small = "kernels too small" if self.kernel_rms < self.healthy_weight else "the kernels"
        sizes = f"rms {self.kernel_rms:.2g} against He's scale {self.healthy_weight:.2g}"
        return f"{small} (most by that of {self.kernel_layer}: {sizes})"

    def advice(self) -> str:
        """What to try first, depending on what drives it."""
        if self.by_slopes and not self.rectifying:
            return "Use ReLU-like activations, normalisation or residual connections."
        return _INITIALISE

    def summary(self) -> str:
        """The mean gain."""
        by = f", by the {'slopes' if self.by_slopes else 'kernels'}" if self._shrinks else ""
        return f"to {self.mean_gain:.2g} per layer over {several(self.layers, 'layer')}{by}"

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Every layer gives its activation values of unit size."""
        return every_layer_standardised(case)


@dataclasses.dataclass(frozen=True)
class VanishingAtNode(Mechanism):
    """A node without a kernel takes most of the gradient (see `VanishingGradient`).

    Parameters
    ----------
    gain : float
        What it passes on of the gradient that arrives.
    learns : bool
        Whether weights of its own get a gradient.
    place : Place or None
        The operation that takes it.
    """

    gain: float
    learns: bool
    place: Place | None = None

    cause = "vanishing"
    treatments = _TREATMENTS
    on_the_way = True
    has_place = False

    def __post_init__(self) -> None:
        """It passes on less than arrives."""
        assert 0 < self.gain < 1, self

    @property
    def only_informs(self) -> bool:
        """Where its own weights get a gradient they will grow."""
        return self.learns

    @property
    def value(self) -> float:
        """The gain."""
        return self.gain

    def threshold(self, case: Case) -> float:
        """The gain of a killer."""
        return float(10**-case.thresholds.killer)

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """With the operation that takes most."""
        look = None if weight is None else case.second_look
        if look is None or weight is None:
            return self
        ending = look.ending(weight)
        if ending is not None and ending.constant:
            return of_zeros(case, self.layer, weight, ending)
        return dataclasses.replace(self, place=look.drop(weight, self.threshold(case)) or self.place)

    def evidence(self) -> str:
        """What it passes on, and whether it will grow."""
        most = "" if self.place is None else f", most of it taken by {self.place}"
        grows = " But its own weights get a gradient: they will grow." if self.learns else ""
        return f"{self.layer} passes on only {self.gain:.2g} of the gradient that arrives at it{most}.{grows}"

    def advice(self) -> str:
        """What to try first, in all cases."""
        return _SCALE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The node passes on all of the gradient, if it is all of a layer."""
        if any(record.layer == self.layer and record.stage for record in case.flow.records):
            return Untried(f"what happens inside of {self.layer} can't be changed alone")
        return PassedOn(self.layer)


@dataclasses.dataclass(frozen=True)
class VanishingSignal(Mechanism):
    """What goes forward shrinks on its way (see `VanishingGradient`).

    Parameters
    ----------
    role : {"kernel", "recurrent", "table"}
        Of the weights that the signal passed last.
    layers : int
        Kernels that it has passed from the data.
    by_kernels : bool
        Whether small kernels do it.
    kernel_rms, healthy_weight : float
        Of the smallest kernel, else of the one that it passed last.
    """

    role: str
    layers: int
    by_kernels: bool
    kernel_rms: float
    healthy_weight: float

    cause = "vanishing"
    treatments = _TREATMENTS
    on_the_way = True
    has_place = False
    may_be_chance = True

    @classmethod
    def before(cls, case: Case, source: SiteFigures) -> VanishingSignal:
        """The mechanism on the way through a kernel, at the weakest one of the model."""
        small = None if source.info.role == "table" else case.weakest_kernel
        weakest = small or source
        return cls(
            layer=weakest.info.layer,
            role=source.info.role,
            layers=case.depths[source.info.node],
            by_kernels=small is not None,
            kernel_rms=weakest.kernel_rms,
            healthy_weight=weakest.healthy_weight,
        )

    def evidence(self) -> str:
        """Over how many layers, and by what."""
        if self.role == "table" and self.kernel_rms < 1:
            return (
                f"The table of {self.layer} has an rms of {self.kernel_rms:.2g}, where about 1 is expected: "
                f"next to no signal goes forward."
            )
        sizes = f"rms {self.kernel_rms:.2g} against He's scale {self.healthy_weight:.2g}"
        why = f": kernels too small (most that of {self.layer}: {sizes})" if self.by_kernels else ""
        return f"The signal dies out on its way forward through {several(self.layers, 'layer')}{why}."

    def advice(self) -> str:
        """For a table, scale what it gives."""
        return _SCALE if self.role == "table" else _INITIALISE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Every layer gives its activation values of unit size; a table has some."""
        if self.role == "table":
            return fresh_weights(case, self.layer, "table")
        return every_layer_standardised(case)


def sufficient_powers(case: Case) -> float:
    """Powers of ten that alone make a gradient near zero."""
    return -math.log10(case.near_zero.rtol)
