"""Every threshold of the monitors in one frozen object, each with its source; presets of other tools."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any, ClassVar

from trainobs.errors import InvalidArgument

Band = tuple[float, float]
_MEASURES = ("norm", "mean_abs")
_SHARES = ("dead_warning", "dead_error", "dead_activity", "saturated", "shift", "oscillation_share")
_COUNTS = ("oscillation_points", "oscillation_steps", "clip_window", "clip_release", "clip_most")


@dataclasses.dataclass(frozen=True)
class HealthSettings:
    """When a figure of a training becomes a finding.

    The defaults are the preset "common": the values that tutorials and small monitors of PyTorch and Keras
    agree on. Where other tools disagree, the reason for the choice stands below.

    Parameters
    ----------
    vanishing : float, default 1e-7
        A weight's gradient vanishes below this: a common value for the norm; SageMaker Debugger
        (VanishingGradient) and DeepDiagnosis hold the mean absolute gradient against the same number,
        TheDeepChecker against 1e-6. The norm is taken, for it does not shrink with a weight's size.
    vanishing_of : {"norm", "mean_abs"}, default "norm"
        Which figure `vanishing` is held against.
    exploding : float, default 100
        A weight's gradient explodes above this: a common value for the norm. TheDeepChecker has a mean
        absolute gradient of 1e6, by which time the loss is NaN as a rule, so the former is taken.
    exploding_of : {"norm", "mean_abs"}, default "norm"
        Which figure `exploding` is held against.
    global_norm : (float, float), default (0.1, 10)
        Healthy norm of all gradients together: a common band. Below it is an info, for a training that
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
        default: an embedding has such gradients when all is well, and `dead_warning` counts units.
    dead_warning, dead_error : float, default 0.2 and 0.5
        Share of a layer's rectifying units that are dead. From 10 % (keras-contrib) over 20 % (common) and
        50 % (SageMaker DeadRelu, TheDeepChecker) to 70 % (AUTOTRAINER, DeepDiagnosis), and four different
        things are counted. Here it is units, as SageMaker does; the common value warns, SageMaker's is the
        error.
    dead_activity : float, default 0
        A unit is dead if it is on at no more than this share of the positions (SageMaker: 0.01; keras-contrib
        and TIT: never). Never is taken: on one batch, 1 % may be a single sample.
    saturated : float, default 0.5
        Share of a bounded activation's values with a slope of at most `saturation_slope` (DeepDiagnosis:
        50 % of the values; TheDeepChecker: 50 % of the neurons).
    saturation_slope : float, default 1e-2
        As `NearZero.slope_atol`: |z| beyond 4.6 (sigmoid) and 3 (tanh). DeepDiagnosis: |z| >= 5 for both;
        SageMaker: 9.5 (tanh) and 17 (sigmoid), where the slope is below 1e-7 and the harm long done.
    shift : float, default 0.3
        Two-sample Kolmogorov-Smirnov distance of a layer's activations to those of the check before. Two
        normal distributions whose means are a large effect apart (0.8 standard deviations, Cohen 1988) have
        2Φ(0.4) − 1 = 0.31. Other tools only name such a monitor.
    initial_weights : (float, float), default (0.1, 10)
        At the first check: a kernel's rms against Glorot's scale √(2/(fan_in + fan_out)), not below the
        first, and against He's scale √(2/fan_in), not above the second. The lower one is that of
        `FindingSettings.small_kernel`. SageMaker (PoorWeightInitialization) has a ratio of 10 between the
        variances of layers, which nets of layers with different widths exceed when all is well.
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
        Global norms that adaptive clipping remembers.
    clip_release : int, default 5
        Healthy checks in a row after which clipping ends.
    clip_most : int, default 3
        Times that clipping may begin in a fit: each makes TensorFlow trace the train step again.

    Examples
    --------
    >>> HealthSettings().dead_warning
    0.2
    >>> HealthSettings.preset("sagemaker").vanishing_of
    'mean_abs'
    """

    vanishing: float = 1e-7
    vanishing_of: str = "norm"
    exploding: float = 100.0
    exploding_of: str = "norm"
    global_norm: Band = (0.1, 10.0)
    mean_abs: Band = (1e-4, 1.0)
    first_last: Band | None = None
    first_norm: float = 1e-4
    zero_gradients: float | None = None
    dead_warning: float = 0.2
    dead_error: float = 0.5
    dead_activity: float = 0.0
    saturated: float = 0.5
    saturation_slope: float = 1e-2
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
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "common": {},
        "sagemaker": {
            "vanishing_of": "mean_abs",
            "dead_warning": 0.5,
            "dead_activity": 0.01,
            "saturation_slope": 1e-7,
            "update_ratio": (1e-8, 10.0),
        },
        "autotrainer": {"first_last": (1e-3, 70.0), "first_norm": 1e-4, "zero_gradients": 0.7},
        "thedeepchecker": {
            "vanishing": 1e-6,
            "vanishing_of": "mean_abs",
            "exploding": 1e6,
            "exploding_of": "mean_abs",
            "dead_warning": 0.5,
            "update_ratio": (1e-4, 0.1),
        },
        "deepdiagnosis": {"vanishing_of": "mean_abs", "dead_warning": 0.7, "dead_error": 0.7},
    }

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            expected = _expected(field.name, field.default)
            if not _fits(field.name, value, expected):
                raise InvalidArgument(
                    f"HealthSettings: `{field.name}` must be {expected}. Received: {field.name}={value!r}. "
                    f"The default is {field.default!r}."
                )
        if self.dead_error < self.dead_warning:
            raise InvalidArgument(
                f"HealthSettings: `dead_error` must be at least `dead_warning`. Received: "
                f"dead_error={self.dead_error!r}, dead_warning={self.dead_warning!r}. Raise the former."
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> HealthSettings:
        """The settings that another tool uses.

        Parameters
        ----------
        name : {"common", "sagemaker", "autotrainer", "thedeepchecker", "deepdiagnosis"}
            Only the values that the tool documents, or has in its code, differ from the default.
        **changes
            Fields to set otherwise.

        Returns
        -------
        HealthSettings

        Raises
        ------
        InvalidArgument
            If there is no such preset.

        Notes
        -----
        "sagemaker" derives the ranges of its SaturatedActivation from a slope of 1e-7. "autotrainer" counts
        exactly-zero gradients instead of units, and holds the first kernel's gradient against the last one's.
        "thedeepchecker" and "deepdiagnosis" count neurons, or values, by another measure than "off at all
        positions"; their shares are taken.

        Examples
        --------
        >>> HealthSettings.preset("thedeepchecker", exploding=1e4).exploding
        10000.0
        """
        if name not in cls.PRESETS:
            raise InvalidArgument(
                f"There is no preset {name!r}. There are: {', '.join(cls.PRESETS)}. For values of your own, "
                f"pass them to `HealthSettings(…)`."
            )
        return cls(**{**cls.PRESETS[name], **changes})


_NUMBER = "a positive, finite number"
_SHARE = "a number from 0 to 1"
_COUNT = "a positive integer"
_BAND = "a pair (low, high) of positive, finite numbers with low < high"


def _expected(name: str, default: Any) -> str:
    """What values a field takes, in words."""
    if name.endswith("_of"):
        return f"one of {_MEASURES}"
    if name in _COUNTS:
        return _COUNT
    if isinstance(default, tuple) or name == "first_last":
        return _BAND
    return _SHARE if name in _SHARES or name == "zero_gradients" else _NUMBER


def _fits(name: str, value: Any, expected: str) -> bool:
    if expected == _COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if expected == _BAND:
        pair = isinstance(value, tuple) and len(value) == 2
        return pair and all(map(_is_positive, value)) and value[0] < value[1]
    if expected == _SHARE:
        return _is_number(value) and 0 <= value <= 1
    return value in _MEASURES if name.endswith("_of") else _is_positive(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0
