"""Every number that turns a figure into a finding, with its source; presets of other tools."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from trainobs.errors import InvalidArgument
from trainobs.thresholds._near_zero import NearZero
from trainobs.thresholds._values import expected_of, fits

Band = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """When figures become a finding, of an explanation and of a health check.

    Every number stands with its source: another tool's documentation or code, or a paper, or a reason.
    The defaults are the preset "common". A preset has what another tool uses instead.

    Parameters
    ----------
    near_zero : NearZero
        What counts as near zero; what was counted with one can't be explained with another one.
    near_zero_weights : float, default 0.95
        A kernel asks for an explanation of its own when more of its gradients than this are near
        zero, and a layer suffers when this part of its used weights or more has such gradients:
        what holds a layer that suffers never only informs. TheDeepChecker (Ben Braiek & Khomh 2023)
        flags dead weights at this share; healthy ReLU nets reach 0.66 on one batch.
    affected : float, default 0.5
        A kernel counts as affected by a finding elsewhere when more than this share is near zero.
    dead_units : float, default 0.5
        A layer is dead when its biases keep more of its units than this from ever firing, and in a health
        check when more are off for any reason: an error (SageMaker DeadRelu, TheDeepChecker: 50 %).
    dead_units_by_chance : float, default 0.7
        The same in an explanation, for other reasons than the bias (AUTOTRAINER, DeepDiagnosis: 0.7).
        Deep down in a healthy ReLU net inputs hardly vary, and a unit that sees a constant is off with
        probability 1/2.
    chance : float, default 2**-10
        How many false alarms are expected of a healthy model, at most, where units are dead. A unit that
        fires at every other position is off at all of n positions with probability 2⁻ⁿ: units are dead from
        n ≥ log₂(units of the model) + 10 positions on. Where inputs hardly vary, each unit of a layer is off
        everywhere with probability 1/2: of narrow layers more than `dead_units_by_chance` have to be.
        About 1 in 1000 is the three-sigma rule.
    dead_units_warning : float, default 0.2
        Share of dead units from which a health check warns (it informs where an explanation, with the two
        shares above, finds no cause), and an input of a large scale, or on one side of zero, is a finding.
        Tools have 10 % (keras-contrib), 20 % (common) or 70 % (DeepDiagnosis), and count different things.
    dead_activity : float, default 0
        In a health check a unit is dead if it is on at no more than this share of the positions
        (SageMaker: 0.01; keras-contrib and TIT: never). The default is never: on one batch, 1 % may be a
        single sample.
    saturated : float, default 0.5
        A bounded activation is saturated when more of its values than this are off (DeepDiagnosis: more
        than 50 % of the values; TheDeepChecker: 50 % of the neurons).
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
        An output whose rms is within this of near zero (rtol) has shrunk on its way and was not stopped
        at once: one more kernel as small as `small_kernel` would have brought it there.
    firing : float, default 0.1
        A dead unit is off by its bias if without it it would fire at this part or more of the positions that
        live input reaches; a live ReLU that fires at less is counted as sparse, not as healthy.
    deep_bias : float, default 3
        Standard deviations of a healthy preactivation (rms of the inputs a*) below zero at which a bias
        alone keeps units off: by the three-sigma rule a normal one gets above it once in 740 positions. The
        same for units that inputs on one side of zero shift down.
    killer : float, default 1.5
        Powers of ten that one node must take from the gradient, and more than half of all that is
        lost, to be the one that kills it; less is a slow decay.
    exploding_growth : float, default 100
        ‖dJ/dZ‖ · min(1, rms Z) of a layer against ‖dJ/dy‖ at the output: gradient norms above 100 are
        commonly taken as exploding.
    exploding_mean : float, default 1e6
        Mean absolute gradient of a kernel (TheDeepChecker).
    converged : float, default 0.01
        A loss is at its floor when no more than this is left of what the best constant prediction has: an R²
        (of crossentropies, McFadden's pseudo-R², 1974) of 0.99.
    penalty : float, default 10
        A penalty dominates a weight when its gradient is more than this times the data's: then less than a
        tenth of a step is learnt from data. Where both are at rest they cancel, so that the ratio is 1;
        losses of several terms are balanced until their gradients are of one size (Chen et al. 2018,
        GradNorm; Wang, Teng & Perdikaris 2021).
    residual : float, default 1e-4
        Relative residual above which a kernel is unexplained; `residual_half` in float16, and eight times
        that in bfloat16, which has three bits less. Sums of very many terms may be off by more, TensorFlow's
        own too: by 10 · √T · 2^-24 (Higham & Mary 2019: with λ = 10 next to certain).
    residual_half : float, default 1e-2
        See `residual`.
    pinv_trust : float, default 0.75
        With backprop by pseudo-inverse: rank/n from which "no gradient arrives" is believed (the
        expected relative error is then at most √(1 − 0.75) = 0.5).
    returned : float, default 0.5
        A cause is proved if at least this part of the near-zero gradients that it is said to hold comes back
        on the same batch without it: then more of them hang on it than on all else.
    flushed : float, default 0.5
        Half precision loses a layer's gradients when more of them than this are flushed to zero: those
        that are left are too few to train it (as for dead units).
    vanishing : float, default 1e-7
        In a health check a weight's gradient vanishes below this: a common value for the norm; SageMaker
        Debugger (VanishingGradient) and DeepDiagnosis compare the mean absolute gradient with the same
        number, TheDeepChecker with 1e-6. The norm is taken, as it does not shrink with a weight's size.
    vanishing_of : {"norm", "mean_abs"}, default "norm"
        Which figure is compared with `vanishing`.
    exploding : float, default 100
        A weight's gradient explodes above this: a common value for the norm. TheDeepChecker has a mean
        absolute gradient of 1e6, by which time the loss is NaN as a rule, so the former is taken.
    exploding_of : {"norm", "mean_abs"}, default "norm"
        Which figure is compared with `exploding`.
    global_norm : (float, float), default (0.1, 10)
        Healthy norm of all gradients together: a common band. Below it is an info, as a training that
        converges gets there; above it a warning.
    mean_abs : (float, float), default (1e-4, 1)
        Healthy mean absolute gradient of a kernel: a common band in teaching, for nets of few weights.
        Below it is an info (the mean of a large kernel is small when all is well), above it a warning.
    first_last : (float, float) or None, default None
        Band of the ratio of gradient norms, first kernel to last (AUTOTRAINER: 1e-3, which counts only
        with a first norm below `first_norm`, and 70). Off by default: the ratio of healthy nets depends
        on their widths.
    first_norm : float, default 1e-4
        See `first_last` (AUTOTRAINER).
    zero_gradients : float or None, default None
        Share of gradient elements that are exactly 0, over all weights (AUTOTRAINER, DeepFD: 0.7). Off by
        default: an embedding has such gradients when all is well, and units are counted too.
    shift : float, default 0.3
        Two-sample Kolmogorov-Smirnov distance of a layer's activations to those of the check before. Two
        normal distributions whose means are a large effect apart (0.8 standard deviations, Cohen 1988) have
        2Φ(0.4) − 1 = 0.31. Other tools only name such a monitor.
    initial_weights : (float, float), default (0.1, 10)
        At the first check: a kernel's rms against Glorot's scale √(2/(fan_in + fan_out)), not below the
        first (as `small_kernel`), and against He's scale √(2/fan_in), not above the second. SageMaker
        (PoorWeightInitialization) has a ratio of 10 between the variances of layers, which nets of layers
        with different widths exceed when all is well.
    update_ratio : (float, float), default (1e-5, 0.1)
        ‖ΔW‖ / ‖W‖ of a kernel in one step (DeepDiagnosis: 1e-3, times and divided by 100). TheDeepChecker
        has 1e-4 … 0.1, SageMaker 1e-8 … 10, which lets a rate pass that replaces the weights.
    oscillation_swing, oscillation_share : float, default 0.03 and 0.2
        AUTOTRAINER's ζ and η: a loss oscillates if more than this share of its points are turning points
        from which it changes by more than the swing on both sides, relative to its mean. See
        `oscillation_steps`.
    oscillation_points : int, default 10
        Points that are looked at; fewer than this, and nothing is said.
    oscillation_steps : int, default 20
        A point is the mean loss of at least so many steps; the swing also has to exceed three standard
        errors of such a mean (three-sigma rule). AUTOTRAINER's points are epochs.
    clip_window : int, default 20
        How many global norms adaptive clipping remembers.
    clip_release : int, default 5
        Healthy checks in a row after which clipping ends.
    clip_most : int, default 3
        How often clipping may begin in a fit: each makes TensorFlow trace the train step again.

    Examples
    --------
    >>> Thresholds().dead_units
    0.5
    >>> Thresholds(near_zero=NearZero(rtol=0.01)).near_zero.rtol
    0.01
    >>> Thresholds.preset("sagemaker").vanishing_of
    'mean_abs'
    """

    near_zero: NearZero = dataclasses.field(default_factory=NearZero)
    near_zero_weights: float = 0.95
    affected: float = 0.5
    dead_units: float = 0.5
    dead_units_by_chance: float = 0.7
    chance: float = 2.0**-10
    dead_units_warning: float = 0.2
    dead_activity: float = 0.0
    saturated: float = 0.5
    stuck_slope_gain: float = 0.01
    zero_inputs: float = 0.5
    large_input: float = 10.0
    small_kernel: float = 0.1
    shrunk: float = 10.0
    firing: float = 0.1
    deep_bias: float = 3.0
    killer: float = 1.5
    exploding_growth: float = 100.0
    exploding_mean: float = 1e6
    converged: float = 0.01
    penalty: float = 10.0
    residual: float = 1e-4
    residual_half: float = 1e-2
    pinv_trust: float = 0.75
    returned: float = 0.5
    flushed: float = 0.5
    vanishing: float = 1e-7
    vanishing_of: str = "norm"
    exploding: float = 100.0
    exploding_of: str = "norm"
    global_norm: Band = (0.1, 10.0)
    mean_abs: Band = (1e-4, 1.0)
    first_last: Band | None = None
    first_norm: float = 1e-4
    zero_gradients: float | None = None
    shift: float = 0.3
    initial_weights: Band = (0.1, 10.0)
    update_ratio: Band = (1e-5, 0.1)
    oscillation_swing: float = 0.03
    oscillation_share: float = 0.2
    oscillation_points: int = 10
    oscillation_steps: int = 20
    clip_window: int = 20
    clip_release: int = 5
    clip_most: int = 3

    #: What each preset has other than the default.
    PRESETS: ClassVar[dict[str, dict[str, object]]] = {
        "common": {},
        "sagemaker": {
            "near_zero": NearZero(slope_atol=1e-7),
            "vanishing_of": "mean_abs",
            "dead_units_warning": 0.5,
            "dead_activity": 0.01,
            "update_ratio": (1e-8, 10.0),
        },
        "autotrainer": {"first_last": (1e-3, 70.0), "first_norm": 1e-4, "zero_gradients": 0.7},
        "thedeepchecker": {
            "vanishing": 1e-6,
            "vanishing_of": "mean_abs",
            "exploding": 1e6,
            "exploding_of": "mean_abs",
            "dead_units_warning": 0.5,
            "update_ratio": (1e-4, 0.1),
        },
        "deepdiagnosis": {"vanishing_of": "mean_abs", "dead_units_warning": 0.7, "dead_units": 0.7},
    }

    def __post_init__(self) -> None:
        if not isinstance(self.near_zero, NearZero):
            raise InvalidArgument(
                f"Thresholds: `near_zero` must be a trainobs.NearZero. Received: {self.near_zero!r}."
            )
        for field in dataclasses.fields(self)[1:]:
            self._check(field)
        if self.dead_units < self.dead_units_warning:
            raise InvalidArgument(
                f"Thresholds: `dead_units` must be at least `dead_units_warning`. Received: "
                f"dead_units={self.dead_units!r}, dead_units_warning={self.dead_units_warning!r}. Raise the "
                f"former."
            )

    def _check(self, field: dataclasses.Field[object]) -> None:
        value, expected = getattr(self, field.name), expected_of(field.name, field.default)
        if not (fits(value, expected) or (value is None and field.default is None)):
            raise InvalidArgument(
                f"Thresholds: `{field.name}` must be {expected}. Received: {field.name}={value!r}. "
                f"The default is {field.default!r}."
            )

    @classmethod
    def preset(cls, name: str, **changes: object) -> Thresholds:
        """The thresholds that another tool uses.

        Parameters
        ----------
        name : {"common", "sagemaker", "autotrainer", "thedeepchecker", "deepdiagnosis"}
            Only the values that the tool documents, or has in its code, differ from the default.
        **changes
            Fields to set otherwise.

        Returns
        -------
        Thresholds

        Raises
        ------
        InvalidArgument
            If there is no such preset.

        Notes
        -----
        "sagemaker" derives the ranges of its SaturatedActivation from a slope of 1e-7. "autotrainer" counts
        exactly-zero gradients instead of units, and compares the first kernel's gradient with the last one's.
        "thedeepchecker" and "deepdiagnosis" count neurons, or values, by another measure than "off at all
        positions"; their shares are taken.

        Examples
        --------
        >>> Thresholds.preset("thedeepchecker", exploding=1e4).exploding
        10000.0
        """
        if name not in cls.PRESETS:
            raise InvalidArgument(
                f"There is no preset {name!r}. There are: {', '.join(cls.PRESETS)}. For values of your own, "
                f"pass them to `Thresholds(…)`."
            )
        return cls(**{**cls.PRESETS[name], **changes})  # type: ignore[arg-type]

    @classmethod
    def of(cls, thresholds: Thresholds | None, near_zero: NearZero | None) -> Thresholds:
        """The two arguments of a front door, `thresholds` and `near_zero`, as one.

        Raises
        ------
        InvalidArgument
            If one of them is something else, or both are given and differ.
        """
        if not isinstance(thresholds, Thresholds | None):
            raise InvalidArgument(
                f"`thresholds` must be a trainobs.Thresholds. Received: {thresholds!r}. For a preset pass "
                f"`Thresholds.preset(name)`."
            )
        if not isinstance(near_zero, NearZero | None):
            raise InvalidArgument(f"`near_zero` must be a trainobs.NearZero. Received: {near_zero!r}.")
        if thresholds is None:
            return cls(near_zero=near_zero or NearZero())
        if near_zero not in (None, thresholds.near_zero):
            raise InvalidArgument(
                f"`near_zero` and `thresholds.near_zero` differ: {near_zero!r} and "
                f"{thresholds.near_zero!r}. Give one of the two."
            )
        return thresholds

    def residual_limit(self, dtype: str, terms: float) -> float:
        """Relative residual that rounding in this type may leave, in a sum of so many terms."""
        half = {"float16": self.residual_half, "bfloat16": 8 * self.residual_half}
        of_type = half.get(dtype, self.residual)
        return max(of_type, 10 * math.sqrt(terms) * 2.0**-24)
