"""Units that have the same weights, so that nothing tells them apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._healthy import fresh_weights
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._words import counted


@dataclasses.dataclass(frozen=True)
class Symmetric(Mechanism):
    """All units of a kernel have the same weights, so that they compute the same.

    Severity: error if their gradients are the same too: they stay one unit; warning if their gradients cancel
    in what goes back to the layers before; info if their gradients differ, so that they part by
    themselves, or are too small to tell

    When: all units of a kernel that is trained, and is not zero, have the very same incoming weights. And
    they have the same biases, or what the kernel sends back is at most a thirtieth (10^-`killer`) of what
    comes to it, though it is not small (`small_kernel`).

    Where: the layer of the kernel.

    Parameters
    ----------
    units : int
    spread : float
        Distance of the units' gradients from their mean, relative; nan where they are near zero.
    rounding : float
        The distance that rounding may leave.
    gain : float
        What the kernel sends back, of what comes to it, if that is next to nothing; else nan.
    """

    units: int
    spread: float
    rounding: float
    gain: float = math.nan

    cause = "symmetric"
    treatments = ("re-initialise",)
    on_the_way = True

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Kernels whose units can't be told apart, though they are not zero."""
        for figures in case.sites.values():
            if figures.info.trainable and _has_equal_weights(figures):
                found = cls.where_gradients_cancel(case, figures)
                if found is not None:
                    yield found
                elif _has_equal_biases(case, figures):
                    yield cls._of(case, figures)

    @classmethod
    def where_gradients_cancel(cls, case: Case, figures: SiteFigures) -> Symmetric | None:
        """The mechanism at a kernel whose units get gradients that add up to next to nothing.

        Each unit sends its gradient back by the same weights: what arrives before them is their sum.
        """
        if not _has_equal_weights(figures) or case.shrinks(figures):
            return None
        gain = case.flow.kernel_gain(figures.info.node)
        if not gain <= 10**-case.thresholds.killer:
            return None
        return dataclasses.replace(cls._of(case, figures), gain=gain)

    @classmethod
    def _of(cls, case: Case, figures: SiteFigures) -> Symmetric:
        rounding = case.thresholds.residual_limit(figures.info.dtype, figures.terms)
        told = figures.used_near_zero <= case.thresholds.near_zero_weights
        return cls(figures.info.layer, figures.units, _spread(figures) if told else math.nan, rounding)

    @property
    def stays(self) -> bool:
        """Whether the units get the same gradients, so that they stay the same."""
        return self.spread <= self.rounding

    @property
    def cancels(self) -> bool:
        """Whether next to nothing goes back from the units."""
        return not math.isnan(self.gain)

    @property
    def severity(self) -> str:
        """See the class."""
        if self.stays:
            return "error"
        return "warning" if self.cancels else "info"

    @property
    def value(self) -> float:
        """How far the units' gradients are apart."""
        return self.spread

    def threshold(self, case: Case) -> float:
        """What rounding may leave between gradients that are the same."""
        return self.rounding

    def evidence(self) -> str:
        """How many units, and what becomes of them."""
        left = f"a part of {self.gain:.2g} is left" if self.gain else "nothing is left"
        back = f" What goes back from them is the sum of their gradients, and that cancels: {left}."
        which = "Both" if self.units == 2 else f"All {counted(self.units)}"
        alike = f"{which} units of {self.layer} have the same weights"
        return f"{alike}{self._future()}.{back if self.cancels else ''}"

    def _future(self) -> str:
        if math.isnan(self.spread):
            return ", and next to no gradient comes that could tell them apart"
        if self.stays:
            return (
                " and get the same gradients: they compute the same, learn the same, and stay as good as "
                "one unit"
            )
        return ", but their own gradients differ: they are as good as one unit now, and part as they learn"

    def advice(self) -> str:
        """What to try first, as for a kernel of zeros."""
        return "Initialise the kernel at random (He for ReLU-like, Glorot for tanh and sigmoid)."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """Units differ."""
        return fresh_weights(case, self.layer, "kernel")


def _has_equal_weights(figures: SiteFigures) -> bool:
    """Whether several units have the very same incoming weights, and these are not all zero."""
    kernel = figures.statistics.kernel
    if figures.info.role != "kernel" or figures.info.op.groups > 1:  # groups read different inputs
        return False
    return kernel.shape[-1] > 1 and bool(np.all(kernel == kernel[..., :1])) and figures.kernel_rms > 0


def _has_equal_biases(case: Case, figures: SiteFigures) -> bool:
    biases = case.biases_of(figures)
    return biases is None or bool(np.all(biases == biases[0]))


def _spread(figures: SiteFigures) -> float:
    """‖G − G̅‖ / ‖G‖, G the gradients of the kernel and G̅ their mean over its units."""
    gradient = figures.gradient
    apart = gradient - gradient.mean(axis=-1, keepdims=True)
    return float(np.linalg.norm(apart) / np.linalg.norm(gradient))
