"""Data of a scale that saturates or kills the layer that reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, ScaledInput, Untried
from trainobs.mechanisms._dead_activation import DeadActivation
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._off_units import OffUnits, has_dead_units, rectifies
from trainobs.mechanisms._saturated_activation import SaturatedActivation
from trainobs.mechanisms._words import percent


@dataclasses.dataclass(frozen=True)
class UnscaledInput(OffUnits):
    """The scale of the data saturates or kills the layer that reads it.

    Severity: error; warning where the layer's units still do what they should

    When: the data has an rms of 10 (`large_input`) or more, and saturates or kills the layer that reads it
    (not by its bias), or more than 20 % (`dead_units_warning`) of the layer's units are dead; not of ReLU
    and its like, which do the same at any scale. Or a kernel that is trained reads it, with no normalisation
    before it or right behind it.

    Where: that layer.
    """

    cause = "unscaled_input"
    treatments = ("standardise inputs", "insert normalisation")
    on_the_way = True

    @classmethod
    def holds(cls, case: Case, figures: SiteFigures) -> bool:
        """Whether a layer whose activation depends on scale reads data of one far from 1."""
        return not figures.info.activation.homogeneous and reads_large_data(case, figures)

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """Layers that read such data and have dead units."""
        return (f for f in case.sites.values() if has_dead_units(case, f) and cls.holds(case, f))

    @property
    def value(self) -> float:
        """The data's rms."""
        return self.input_rms

    def threshold(self, case: Case) -> float:
        """The rms that is too large."""
        return case.thresholds.large_input

    def evidence(self) -> str:
        """The scale, and what it does."""
        return (
            f"The input of {self.layer} has an rms of {self.input_rms:.3g}, where about 1 is expected; "
            f"{percent(self.off)} of its {self.activation} values are off."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Scale the inputs to zero mean and unit variance (keras.layers.Normalization)."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The data has unit size."""
        return ScaledInput(self.layer)

    def instead(self, case: Case) -> Mechanism | None:
        """The units are off, whatever the scale of the data."""
        sites = (site for site in case.sites.values() if site.info.layer == self.layer)
        site = next((site for site in sites if site.carries), None)
        if site is None:
            return None
        return (DeadActivation if rectifies(case, site) else SaturatedActivation).of(case, site)


def reads_large_data(case: Case, figures: SiteFigures) -> bool:
    """Whether a layer reads data of a scale far from 1."""
    large = figures.input_rms >= case.thresholds.large_input
    return large and case.flow.reads_data(figures.info.node)
