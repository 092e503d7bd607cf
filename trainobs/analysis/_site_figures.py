"""Everything about one kernel, from its sums. Definitions: docs/definitions.md."""

from __future__ import annotations

import functools
import math

import numpy as np

from trainobs.analysis._gradient_figures import GradientFigures
from trainobs.analysis._input_figures import InputFigures
from trainobs.analysis._off_figures import OffFigures
from trainobs.analysis._time_figures import TimeFigures
from trainobs.analysis._weight_figures import Array, KernelGains
from trainobs.records import Scalars, sums_of
from trainobs.statistics import SiteStatistics
from trainobs.thresholds import NearZero


class SiteFigures(GradientFigures):
    """Everything a report says about one kernel, worked out when first asked for.

    Parameters
    ----------
    statistics : SiteStatistics
        The sums.
    near_zero : NearZero
        The thresholds.
    gradient_scale : float
        g* of the whole data.

    Attributes
    ----------
    verdicts : Verdicts
        Weight by weight.
    off_units : OffFigures
        Unit by unit.
    inputs : InputFigures
        Input channel by input channel.
    time : TimeFigures
        Time step by time step.
    """

    def __init__(self, statistics: SiteStatistics, near_zero: NearZero, gradient_scale: float) -> None:
        super().__init__(statistics, near_zero, gradient_scale)
        self.off_units = OffFigures(statistics, near_zero.slope_atol)
        self.inputs = InputFigures(statistics, near_zero.rtol)
        self.time = TimeFigures(statistics, near_zero.rtol * gradient_scale)

    @property
    def activation(self) -> str:
        """Name of the activation that the units go through."""
        return self.info.activation.name

    @property
    def carries(self) -> bool:
        """Whether signals pass through these weights; biases and scales only modify them."""
        return self.info.role in ("kernel", "table")

    # ---- the weights -------------------------------------------------------------------------

    @functools.cached_property
    def _kernel_sums(self) -> Scalars:
        return sums_of(self.statistics.kernel)

    @property
    def kernel_is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return not self._kernel_sums.non_finite

    @property
    def kernel_rms(self) -> float:
        """Root mean square of the kernel's weights."""
        return self._kernel_sums.rms

    @property
    def healthy_weight(self) -> float:
        """w* = √(2/fan_in), He's scale; nan for what is no kernel."""
        return self.info.op.healthy_weight(self.shape)

    # ---- units, inputs and time steps --------------------------------------------------------

    @property
    def positions(self) -> int:
        """Positions of the units, over all calls of the layer."""
        return int(self.unit_positions)

    @property
    def unit_positions(self) -> float:
        """Positions of the units, over all calls of the layer."""
        return self.off_units.positions

    @property
    def distinct_positions(self) -> float:
        """Positions of the units; a single one where all of them read the same."""
        return self.unit_positions if self.inputs.vary else min(self.unit_positions, 1.0)

    @property
    def off_fraction(self) -> float:
        """Part of the (position, unit) pairs that are off."""
        return self.off_units.fraction

    @property
    def dead(self) -> Array:
        """Which units are off at all positions."""
        return self.off_units.dead

    @property
    def dead_units(self) -> int:
        """Number of units that are off at all positions."""
        return int(np.sum(self.dead))

    def off_by(self, reason: str) -> float:
        """Part of the off pairs with a reason; nan where none is off or known."""
        return self.off_units.by(reason)

    def main_off_reason(self, firing: float) -> tuple[str, float]:
        """Why units are off, and the part that this reason has: see `OffFigures.main_reason`."""
        return self.off_units.main_reason(firing)

    @property
    def dead_inputs(self) -> Array:
        """Which input channels are near zero at all positions, shape (i,)."""
        return self.inputs.dead

    @property
    def input_rms(self) -> float:
        """Root mean square of all input values."""
        return self.inputs.rms

    @property
    def steps(self) -> int:
        """Time steps; 0 where there is no time."""
        return self.time.steps

    @property
    def step_near_zero(self) -> Array:
        """At which time steps next to no gradient arrives."""
        return self.time.near_zero

    # ---- the way back ------------------------------------------------------------------------

    def gain(self, flow: KernelGains) -> float:
        """‖dJ/d(input)‖ / ‖dJ/dA‖: of the slopes times of the kernel."""
        return self.slope_gain * flow.kernel_gain(self.info.node)

    @property
    def slope_gain(self) -> float:
        """‖dJ/dZ‖ / ‖dJ/dA‖; nan where no gradient arrives."""
        return ratio(self._sums["preactivation_gradient_sq"], self._sums["output_gradient_sq"])

    @property
    def preactivation_gradient_norm(self) -> float:
        """‖dJ/dZ‖, the Frobenius norm."""
        return float(np.sqrt(self._sums["preactivation_gradient_sq"]) / self.statistics.positions)

    @property
    def flushed_fraction(self) -> float:
        """Part of the gradients that are not zero in float32, but are in the step's half precision."""
        of = float(self._sums.get("flushed_of", 0.0))
        return float(self._sums["flushed"]) / of if of else 0.0

    # ---- how well it is understood -----------------------------------------------------------

    @property
    def residual(self) -> float:
        """Distance of the terms' sum from the tape's gradient, relative."""
        size, scale = float(self._sums["residual"]), float(self._sums["residual_scale"])
        return size / scale if scale else (0.0 if size == 0 else math.inf)

    @property
    def pinv_trust(self) -> float:
        """rank / n of the pseudo-inverse; nan where none was computed."""
        rank, positions = self._sums.get("pinv_rank"), self._sums.get("pinv_positions")
        return float(rank / positions) if rank is not None and positions is not None else math.nan

    @property
    def pinv_error(self) -> float:
        """True relative error of the pseudo-inverse estimate of dJ/dA."""
        if "pinv_error_sq" not in self._sums:
            return math.nan
        return ratio(self._sums["pinv_error_sq"], self._sums["pinv_true_sq"])


def ratio(square: Array | float, of: Array | float) -> float:
    """√(square / of); nan where `of` is 0."""
    return float(np.sqrt(square / of)) if of else math.nan
