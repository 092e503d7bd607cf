"""What output, loss and targets have to be to fit each other; decided from the configuration and numbers.

Keras' crossentropies (TensorFlow backend) do this with an output p of probabilities, and a target t:

* binary: p is clipped to [ε, 1 − ε]; outside, its gradient is 0.
* categorical: p / Σp is clipped, so a row that adds up to 0 is divided by 0; sparse: p itself is clipped.
* From logits z, and where Keras finds the logits of a softmax *or sigmoid* behind an output, categorical and
  sparse ones take softmax(z): their gradient is softmax(z) − t, whatever the activation was.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from trainobs.activations import Activation
from trainobs.analysis import SiteFigures
from trainobs.mechanisms._words import are, interval, part_of, percent
from trainobs.statistics import OutputStatistics
from trainobs.thresholds import Thresholds

#: Activations that make probabilities of logits.
PROBABILITIES = ("sigmoid", "softmax")
_OVER_CLASSES = (
    *("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy"),
)
_BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
_CROSSENTROPIES = (*_OVER_CLASSES, *_BINARY)
#: Losses that hold each prediction against a target of the same scale.
_COMPARING = (
    *("mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "huber", "log_cosh"),
    *("mean_squared_logarithmic_error", "poisson", "kl_divergence", "dice", "tversky"),
    *("categorical_crossentropy", "categorical_focal_crossentropy", *_BINARY),
)
#: One more class than this, and whole numbers are counts or sizes.
_MOST_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Broken:
    """A rule that is broken.

    Parameters
    ----------
    rule, why : str
        A keyword, and the same in words.
    stops : bool
        Whether gradients are lost by it.
    breaks : bool
        Whether it makes the loss NaN.
    """

    rule: str
    why: str
    stops: bool = True
    breaks: bool = False


@dataclasses.dataclass(frozen=True)
class Targets:
    """What the targets of an output are: "binary", "classes", "several" at once, "real"; "" if unknown."""

    kind: str

    @classmethod
    def of(cls, output: OutputStatistics) -> Targets:
        """As their values show it."""
        low, high = output.target_low, output.target_high
        if math.isnan(low):
            return cls("")
        if not output.whole_targets or low < 0 or high > _MOST_CLASSES:
            return cls("real")
        if high > 1:
            return cls("classes")
        return cls("several" if output.elements > 1 and output.most_at_once > 1 else "binary")


def broken_rule(output: OutputStatistics, site: SiteFigures, thresholds: Thresholds) -> Broken | None:
    """The first rule that output, loss and targets break; None if they fit."""
    activation = site.info.activation
    return (
        _one_unit(output, activation)
        or _targets_out_of_range(output, activation)
        or _no_probabilities(output, activation, thresholds)
        or _sigmoid_over_classes(output, activation)
        or _bounded_logits(output, site, thresholds)
    )


def _takes_probabilities(output: OutputStatistics) -> bool:
    """Whether the loss is a crossentropy that reads the output itself, as probabilities."""
    return output.known_loss in _CROSSENTROPIES and not output.logits and not output.from_logits


def _one_unit(output: OutputStatistics, activation: Activation) -> Broken | None:
    """One unit that is to tell classes apart, and can't."""
    if output.elements != 1:
        return None
    if activation.name == "softmax":
        return Broken("single", "softmax over one unit is always 1")
    if output.known_loss in _OVER_CLASSES:
        name = output.known_loss
        return Broken("single", f"{name} is over one unit, whose share of itself is always 1")
    if output.known_loss in _BINARY and Targets.of(output).kind == "classes":
        classes = int(output.target_high) + 1
        return Broken("classes", f"one unit can't tell {classes} classes apart, of which targets are numbers")
    return None


def _targets_out_of_range(output: OutputStatistics, activation: Activation) -> Broken | None:
    low, high = activation.range
    outside = output.target_low < low or output.target_high > high
    if output.known_loss not in _COMPARING or not outside:
        return None
    return Broken("range", f"targets lie outside the range {interval(low, high)} of {activation.name}")


# ---- losses of probabilities ---------------------------------------------------------------------


def _no_probabilities(
    output: OutputStatistics, activation: Activation, thresholds: Thresholds
) -> Broken | None:
    """A crossentropy of probabilities on what are none, or are at exactly 0 or 1 where they are wrong."""
    known = math.isfinite(output.low) and math.isfinite(output.high)  # else others say where NaN begins
    if not known or not _takes_probabilities(output):
        return None
    low, high = activation.range
    if (activation.elementwise and (low < 0 or high > 1)) or output.low < 0 or output.high > 1:
        return _clipped(output, activation)
    if output.wrong and output.cut > thresholds.saturated * output.wrong:
        which = part_of(output.cut, output.wrong, "wrong prediction")
        why = f"{which} {are(output.cut)} at 0 or 1, where the loss clips them, and with them the gradient"
        return Broken("cut", why)
    return None


def _clipped(output: OutputStatistics, activation: Activation) -> Broken:
    takes = f"{output.known_loss} takes probabilities, but {activation.name} gives none"
    reach = f"{takes}: outputs reach from {output.low:.3g} to {output.high:.3g}"
    if output.empty_rows and output.known_loss == "categorical_crossentropy":
        rows = f"at {part_of(output.empty_rows, output.positions, 'position')}"
        why = f"{reach}, and {rows} they add up to 0, by which the loss divides"
        return Broken("clipped", why, breaks=True)
    return Broken("clipped", f"{reach}. The loss clips everything outside (0, 1), and with it the gradient")


def _sigmoid_over_classes(output: OutputStatistics, activation: Activation) -> Broken | None:
    if activation.name != "sigmoid" or output.known_loss not in _OVER_CLASSES or output.from_logits:
        return None
    if Targets.of(output).kind == "several":
        many = f"up to {output.most_at_once:g} classes at once, which it makes compete"
        why = f"{output.known_loss} expects one class for each sample, but targets name {many}"
    else:
        adds = f"add up to between {output.row_low:.3g} and {output.row_high:.3g}"
        why = f"{output.known_loss} is over classes of which one is right, but the outputs of sigmoid {adds}"
    read = "; Keras trains softmax of the same logits, and predicts their sigmoids" if output.logits else ""
    return Broken("sigmoid", why + read, stops=False)


# ---- losses of logits ----------------------------------------------------------------------------


def _bounded_logits(output: OutputStatistics, site: SiteFigures, thresholds: Thresholds) -> Broken | None:
    """A crossentropy of logits on an output that can't take every value."""
    activation, name = site.info.activation, output.known_loss
    expects = name in _CROSSENTROPIES and output.from_logits and not output.logits
    if not expects or not activation.elementwise or activation.name in PROBABILITIES:
        return None
    low, high = activation.range
    floor = _lowest_loss(output, low, high)
    reference = math.log(max(output.elements, 2)) if output.fit is None else output.fit.constant_loss
    given = f"the loss expects logits of any size, but {activation.name} gives only {interval(low, high)}"
    if floor > thresholds.converged * reference:
        return Broken("logits", f"{given}: it can't get below {floor:.2g}", stops=False)
    if activation.piecewise_linear and activation.rectifies(thresholds.near_zero.slope_atol):
        off = f"{percent(site.off_fraction)} of them are off, and pass no gradient"
        return Broken("logits", f"{given}: {off}" if site.off_fraction else given, stops=False)
    return None


def _lowest_loss(output: OutputStatistics, low: float, high: float) -> float:
    """The lowest mean loss that logits in [low, high] allow, of targets as those are."""
    if output.known_loss in _OVER_CLASSES:
        return math.log1p((output.elements - 1) * math.exp(low - high))
    fit = output.fit
    ones = 0.5 if fit is None or not fit.weight else float(np.mean(fit.sums)) / fit.weight
    return ones * _softplus(-high) + (1 - ones) * _softplus(low)


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
