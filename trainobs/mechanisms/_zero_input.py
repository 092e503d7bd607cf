"""Inputs that say nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from trainobs.analysis import Case, Chance, SiteFigures
from trainobs.counterfactuals import Counterfactual, NoisyInput, Untried
from trainobs.mechanisms._masked import Masked
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import are, everywhere, part_of, percent, ranges, several

_ADVICE = "Check the data pipeline: scale the inputs to unit variance and drop constant ones."


@dataclasses.dataclass(frozen=True)
class ZeroInput(Mechanism):
    """What a layer reads is near zero.

    Severity: error; info where only what a scale multiplies is near zero, not what its layer reads (PReLU's
    slope that met no negative input)

    When: the data a kernel reads is near zero (more than half of its inputs, `zero_inputs`, at all positions,
    of which there are log₂(inputs) + 10 or more, see `chance`; or all that it reads); or its gradients are
    lost by it; or all that a layer of unknown kind reads is.

    Where: the first layer that reads the data.

    Parameters
    ----------
    zero, inputs : int
        Inputs that are near zero at all positions, of how many.
    named : str
        Which of them: "0–27, 31".
    positions, input_rms : float
        Over how many positions; size of all inputs.
    multiplied_by : str
        The weight of which this is the input, where it is not what the whole layer reads.
    near_zero : float
        Part of all values, of all inputs and positions, that is near zero.
    """

    zero: int
    inputs: int
    named: str
    positions: float
    input_rms: float
    multiplied_by: str = ""
    near_zero: float = 1.0

    cause = "zero_input"
    treatments = ("lift the background", "standardise inputs")
    may_be_chance = True

    def __post_init__(self) -> None:
        """A part of the inputs that there are."""
        assert 0 <= self.zero <= self.inputs, self
        assert 0 <= self.near_zero <= 1, self

    @classmethod
    def of(cls, figures: SiteFigures, multiplied_by: str = "") -> ZeroInput:
        """The mechanism at a weight, with its numbers."""
        return cls(
            layer=figures.info.layer,
            zero=int(np.sum(figures.dead_inputs)),
            inputs=int(figures.dead_inputs.size),
            named=ranges(figures.dead_inputs),
            positions=float(figures.statistics.sums["input_size"]),
            input_rms=figures.input_rms,
            multiplied_by=multiplied_by,
            near_zero=float(np.mean(figures.inputs.zero_fraction)),
        )

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """What made the zeros, where it was not the data."""
        return _made_by_layer(self, case)

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Kernels that read data that is mostly always zero."""
        for figures in case.sites.values():
            if figures.info.trainable and figures.info.role == "kernel" and cls._holds(case, figures):
                yield cls.of(figures)

    @classmethod
    def _holds(cls, case: Case, figures: SiteFigures) -> bool:
        share, chance = float(np.mean(figures.dead_inputs)), case.thresholds.chance
        positions = float(figures.statistics.sums["input_size"])
        told = share == 1 or Chance(figures.dead_inputs.size, 1, chance).is_enough(positions)
        mostly = share > case.thresholds.zero_inputs
        return told and mostly and case.flow.reads_data(figures.info.node)

    @property
    def only_informs(self) -> bool:
        """What the layer reads is live, where only what a scale multiplies is not."""
        return bool(self.multiplied_by)

    @property
    def value(self) -> float:
        """Part of the inputs that is always near zero."""
        return self.zero / self.inputs

    def threshold(self, case: Case) -> float:
        """The part that is too large."""
        return case.thresholds.zero_inputs

    def evidence(self) -> str:
        """Which inputs, over how many positions."""
        if self.multiplied_by:
            return (
                f"What {self.multiplied_by} of {self.layer} multiplies is near zero, though what "
                f"{self.layer} reads is not."
            )
        if not self.zero:
            return self._at_some_positions()
        inputs = part_of(self.zero, self.inputs, "input")
        which = f" (input{'' if self.zero == 1 else 's'} {self.named})" if self.named else ""
        return (
            f"{inputs} of {self.layer} {are(self.zero)} near zero {everywhere(self.positions)}{which}; "
            f"the input's rms is {self.input_rms:.2g}."
        )

    def _at_some_positions(self) -> str:
        """Where none of the inputs is near zero at all of them."""
        size = f"the input's rms is {self.input_rms:.2g}"
        if not self.near_zero:
            return f"What {self.layer} reads is small where a gradient arrives; {size}."
        values = f"{percent(self.near_zero)} of the values that {self.layer} reads"
        return f"{values} are near zero over {several(self.positions, 'position')}; {size}."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return _ADVICE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The layer reads values of unit size."""
        if self.multiplied_by:
            return Untried("what one weight of a layer multiplies can't be changed alone")
        return NoisyInput(self.layer)


@dataclasses.dataclass(frozen=True)
class ZeroLayerInput(Mechanism):
    """What a layer of unknown kind reads is near zero (see `ZeroInput`)."""

    cause = "zero_input"
    treatments = ZeroInput.treatments

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """As of a layer of known kind."""
        return _made_by_layer(self, case)

    def evidence(self) -> str:
        """A sentence: all of it is near zero."""
        return f"All that {self.layer} reads is near zero."

    def advice(self) -> str:
        """What to try first, as for a layer of known kind."""
        return _ADVICE

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """As of a layer of known kind."""
        return NoisyInput(self.layer)


def _made_by_layer(mechanism: Mechanism, case: Case) -> Mechanism:
    """The mechanism, or the layer that made what it blames the data for."""
    look = case.second_look
    place = None if look is None else look.zeros_from(mechanism.layer)
    if place is None or place.layer == mechanism.layer:
        return mechanism
    return Masked(place.layer or mechanism.layer, False, place)
