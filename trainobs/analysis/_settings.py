"""Thresholds of the findings, each with its source."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class FindingSettings:
    """When figures become a finding.

    Parameters
    ----------
    near_zero_weights : float, default 0.95
        A kernel asks for an explanation of its own when more of its gradients than this are near
        zero. TheDeepChecker (Ben Braiek & Khomh 2023) flags dead weights at this share; healthy
        ReLU nets reach 0.66 on one batch.
    affected : float, default 0.5
        A kernel counts as affected by a finding elsewhere when more than this share is near zero.
    dead_units : float, default 0.5
        A layer is dead when its biases keep more of its units than this from ever firing (SageMaker
        DeadRelu: 50 %).
    dead_units_by_chance : float, default 0.7
        The same for other reasons (AUTOTRAINER, DeepDiagnosis: 0.7). Deep down in a healthy ReLU
        net inputs hardly vary, and a unit that sees a constant is off with probability 1/2.
    saturated : float, default 0.5
        A bounded activation is saturated when more of its values than this are off
        (DeepDiagnosis: more than 50 % of the values).
    stuck_slope_gain : float, default 0.01
        At the model's output: the error is cut off when the activation passes less than this.
        Outputs that saturate where they are right are healthy.
    zero_inputs : float, default 0.5
        Data-fed layers: more of the inputs than this are always zero (as for dead units). Black
        borders of real images stay below; `Report.inputs` names them.
    large_input : float, default 10
        Input rms from which the input's scale is what saturates or kills (AUTOTRAINER: mean
        absolute layer output of 10 is abnormal).
    small_kernel : float, default 0.1
        Kernel rms against He's scale below which signals shrink by the kernel.
    shrunk : float, default 10
        An output whose rms is within this of near zero (rtol) has shrunk on its way, it was not stopped
        at once: one more kernel as small as `small_kernel` would have brought it there.
    firing : float, default 0.1
        A dead unit is off by its bias if without it it would fire at this part or more of the positions that
        live input reaches; a live ReLU that fires at less is counted as sparse, not as healthy.
    deep_bias : float, default 3
        Standard deviations of a healthy preactivation (rms of the inputs a*) below zero at which a bias
        alone keeps units off: by the three-sigma rule a normal one gets above it once in 740 positions.
    unscaled_dead_units : float, default 0.2
        Dead units from which an input of such a scale is a finding: more than 20 % of dead units
        are commonly taken as a problem.
    killer : float, default 1.5
        Powers of ten that one node must take from the gradient, and more than half of all that is
        lost, to be the one that kills it; less is a slow decay.
    exploding_growth : float, default 100
        ‖dJ/dZ‖ · min(1, rms Z) of a layer against ‖dJ/dy‖ at the output: gradient norms above 100 are
        commonly taken as exploding.
    exploding_mean : float, default 1e6
        Mean absolute gradient of a kernel (TheDeepChecker).
    residual : float, default 1e-4
        Relative residual above which a kernel is unexplained; `residual_half` in float16, and eight times
        that in bfloat16, which has three bits less. Sums of very many terms may be off by more, TensorFlow's
        own too: by 10 · √T · 2^-24 (Higham & Mary 2019: with λ = 10 next to certain).
    pinv_trust : float, default 0.75
        With backprop by pseudo-inverse: rank/n from which "no gradient arrives" is believed (the
        expected relative error is then at most √(1 − 0.75) = 0.5).
    flushed : float, default 0.5
        Half precision loses a layer's gradients when more of them than this are flushed to zero: those
        that are left are too few to train it (as for dead units).
    slope_atol, rtol, activation_scale : float
        Copies of `NearZero`.
    """

    near_zero_weights: float = 0.95
    affected: float = 0.5
    dead_units: float = 0.5
    dead_units_by_chance: float = 0.7
    saturated: float = 0.5
    stuck_slope_gain: float = 0.01
    zero_inputs: float = 0.5
    large_input: float = 10.0
    small_kernel: float = 0.1
    shrunk: float = 10.0
    firing: float = 0.1
    deep_bias: float = 3.0
    unscaled_dead_units: float = 0.2
    killer: float = 1.5
    exploding_growth: float = 100.0
    exploding_mean: float = 1e6
    residual: float = 1e-4
    residual_half: float = 1e-2
    pinv_trust: float = 0.75
    flushed: float = 0.5
    slope_atol: float = 1e-2
    rtol: float = 1e-3
    activation_scale: float = 1.0

    def residual_limit(self, dtype: str, terms: float) -> float:
        """Relative residual that rounding in this type may leave, in a sum of so many terms."""
        half = {"float16": self.residual_half, "bfloat16": 8 * self.residual_half}
        of_type = half.get(dtype, self.residual)
        return max(of_type, 10 * math.sqrt(terms) * 2.0**-24)
