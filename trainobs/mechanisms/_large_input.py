"""Data of a large scale that a kernel reads as it is, while its units still do what they should."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._dead_activation import DeadActivation
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._one_signed_input import OneSignedInput
from trainobs.mechanisms._saturated_activation import SaturatedActivation
from trainobs.mechanisms._unscaled_input import UnscaledInput, reads_large_data
from trainobs.records import DATA


class LargeInput(UnscaledInput):
    """The scale of the data makes the first step of its kernel too large (see `UnscaledInput`)."""

    cause = "unscaled_input"
    rank = 37

    def __post_init__(self) -> None:
        """Nothing has to be off."""

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """None: nothing is off here."""
        return iter(())

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Trained kernels that read such data, without a normalisation before or right behind them."""
        for figures in case.sites.values():
            trained = figures.info.role == "kernel" and figures.info.trainable
            large = trained and reads_large_data(case, figures)
            if large and not (_is_rescaled(case, figures) or _is_off(case, figures)):
                yield cls.of(case, figures)

    @property
    def severity(self) -> str:
        """A warning: the layer works."""
        return "warning"

    def summary(self) -> str:
        """The scale."""
        return f"rms {self.input_rms:.3g}"

    def evidence(self) -> str:
        """The scale, and what it does."""
        return (
            f"The input of {self.layer} has an rms of {self.input_rms:.3g}, where about 1 is expected, and "
            f"nothing normalises it: the gradient of this kernel is as much larger than the others."
        )

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no gradient is lost."""
        return Untried("it speaks of gradients that are large, and none is lost by it")


def _is_rescaled(case: Case, figures: SiteFigures) -> bool:
    """Whether a normalisation stands between the data and the kernel, or makes its scale meaningless."""
    node, flow = figures.info.node, case.flow
    if figures.info.normalised or flow.is_normalised(node):
        return True
    todo, seen = [*flow.records[node].producers], {DATA}
    while todo:
        current = todo.pop()
        if current not in seen:
            if flow.normalises(current):
                return True
            seen.add(current)
            todo += flow.records[current].producers
    return False


def _is_off(case: Case, figures: SiteFigures) -> bool:
    """Whether so many units are off that another mechanism says why."""
    if SaturatedActivation.holds(case, figures) or OneSignedInput.is_told(case, figures):
        return True
    some = float(np.mean(figures.dead)) > case.thresholds.dead_units_warning
    dead = DeadActivation.holds(case, figures) or (some and UnscaledInput.holds(case, figures))
    return dead and case.chance.is_enough(figures.distinct_positions)
