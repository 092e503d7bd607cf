"""Data on one side of zero, which only shifts the units that read it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, ShiftedInput, Untried
from trainobs.mechanisms._off_units import OffUnits, has_dead_units, rectifies
from trainobs.mechanisms._words import are, everywhere, part_of, percent

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class OneSignedInput(OffUnits):
    """The data lies on one side of zero, and keeps rectifying units off that read it.

    Severity: error where all units are dead; else warning where the data's mean is large against its
    deviation, and info where it has few inputs, all of one sign

    When: rectifying units that read the data are dead (by weights, or with the inputs and bias together), and
    most of them would fire if the data had a mean of zero: their bias is less than 3 standard deviations
    (`deep_bias`) below it. And the data is why: of a fresh layer without biases more than 20 %
    (`dead_units_warning`) of the units would be dead too, for the data's mean is large against its deviation,
    or it has few inputs, all of one sign.

    Where: the layer that reads the data.

    Parameters
    ----------
    mean, deviation : float
        Root mean squares of the inputs' means, and of their standard deviations.
    fresh_off : float
        Part of the units of a fresh layer that would be dead.
    is_far : bool
        Whether that is so because the mean is large against the deviation.
    """

    mean: float = math.nan
    deviation: float = math.nan
    fresh_off: float = math.nan
    is_far: bool = True

    cause = "one_signed_input"
    treatments = ("standardise inputs", "insert normalisation", "re-initialise dead units")
    on_the_way = True

    @classmethod
    def of(cls, case: Case, figures: SiteFigures) -> OneSignedInput:
        """The mechanism at a kernel, with its numbers."""
        inputs, limits = figures.inputs, case.thresholds
        return dataclasses.replace(
            super().of(case, figures),
            mean=_size(inputs.mean),
            deviation=_size(inputs.deviation),
            fresh_off=inputs.fresh_units_off(limits.deep_bias),
            is_far=inputs.fresh_units_shifted_off(limits.deep_bias) > limits.dead_units_warning,
        )

    @classmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether it is the data that keeps units off."""
        if not (_reads_data(case, figures) and rectifies(case, figures) and np.any(figures.dead)):
            return False
        if figures.main_off_reason(case.thresholds.firing)[0] not in ("weights", "combination"):
            return False
        fresh = figures.inputs.fresh_units_off(case.thresholds.deep_bias)
        return fresh > case.thresholds.dead_units_warning and _would_fire(case, figures)

    @classmethod
    def is_told(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether it holds, and more than informs: of all units, or over positions enough to say so."""
        severity = cls.of(case, figures).severity if cls.holds(case, figures) else "info"
        return severity == "error" or (
            severity == "warning" and case.chance.is_enough(figures.distinct_positions)
        )

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """Layers that read such data and have dead units, over positions enough to say so."""
        return (f for f in case.sites.values() if has_dead_units(case, f) and cls.holds(case, f))

    @property
    def severity(self) -> str:
        """See the class."""
        if self.dead == self.units:
            return "error"
        return "warning" if self.is_far else "info"

    @property
    def value(self) -> float:
        """Part of the units of a fresh layer that would be dead."""
        return self.fresh_off

    def threshold(self, case: Case) -> float:
        """The part that is too large."""
        return case.thresholds.dead_units_warning

    def evidence(self) -> str:
        """How many units are off, and what the data is like."""
        units = part_of(self.dead, self.units, f"{self.activation} unit")
        off = f"{are(self.dead)} off {everywhere(self.positions)}"
        return (
            f"{units} of {self.place} {off}, but would fire if the data had a mean of zero. It lies on one "
            f"side of it (means of size {self.mean:.2g}, deviations of {self.deviation:.2g}): of a fresh "
            f"layer {percent(self.fresh_off)} of the units would be off, too."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Subtract the mean of the inputs, and divide by their deviation (keras.layers.Normalization)."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The data has a mean of zero."""
        return ShiftedInput(self.layer)


def _reads_data(case: Case, figures: SiteFigures) -> bool:
    """Whether a kernel reads the data, and nothing but its bias is added to its units."""
    info = figures.info
    alone = info.role == "kernel" and not (info.normalised or info.logits or figures.steps)
    return alone and case.flow.reads_data(info.node)


def _would_fire(case: Case, figures: SiteFigures) -> bool:
    """Whether most dead units are shifted down by the data, and would fire if its mean were zero."""
    shift = _of_units(figures, figures.inputs.mean, 1)
    variance = _of_units(figures, figures.inputs.deviation, 2)
    biases = case.biases_of(figures)
    above = (0.0 if biases is None else biases) + case.thresholds.deep_bias * np.sqrt(variance)
    return bool(np.mean(((shift < 0) & (above > 0))[figures.dead]) > 0.5)


def _of_units(figures: SiteFigures, of_channels: Array, power: int) -> Array:
    """Σ (w · what a channel has)^power over the weights of each unit, shape (j,)."""
    op, kernel = figures.info.op, np.asarray(figures.statistics.kernel, np.float64)
    weights = (kernel**power).sum(axis=tuple(range(kernel.ndim - 2)))
    groups = np.arange(figures.units) * op.groups // figures.units
    met = np.reshape(of_channels**power, (op.groups, -1))[groups]
    return np.asarray(np.einsum("ij,ji->j", weights, met))


def _size(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
