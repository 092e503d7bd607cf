"""Each rule on figures alone: no model, no array."""

from __future__ import annotations

import dataclasses
import math

import pytest

from trainobs.findings import Finding
from trainobs.health import Measured, WeightHealth
from trainobs.health.rules import findings
from trainobs.thresholds import Thresholds

NAN = math.nan


def weight(name: str = "dense/kernel", role: str = "kernel", **changes) -> WeightHealth:
    """A weight that is well."""
    healthy = WeightHealth(
        weight=name,
        layer=name.split("/")[0],
        kind="Dense",
        role=role,
        dtype="float32",
        trainable=True,
        cancelled=False,
        at_output=False,
        size=100,
        gradient_norm=1.0,
        gradient_mean_abs=0.1,
        gradient_max_abs=0.5,
        zero_fraction=0.0,
        weight_rms=0.1,
        he_ratio=1.0,
        glorot_ratio=1.0,
        update_ratio=0.001,
        dead_units=0.0,
        rectifying=10,
        positions=64,
        saturated=0.0,
        shift=0.0,
    )
    return dataclasses.replace(healthy, **changes)


def measured(*weights: WeightHealth, **changes) -> Measured:
    """A check in which all else is well."""
    whole = Measured(weights or (weight(),), Thresholds(), loss=1.0, global_norm=1.0, oscillation=0.0)
    return dataclasses.replace(whole, **changes)


def only(measured: Measured) -> Finding:
    """The single finding of a check."""
    (finding,) = findings(measured)
    return finding


def brief(measured: Measured) -> list[tuple[str, str, str, float, float]]:
    """Cause, severity, weight, value and threshold of all findings."""
    return [(f.cause, f.severity, f.weight, f.value, f.threshold) for f in findings(measured)]


def test_nothing_is_said_of_what_is_well():
    """Nor of figures that are not known."""
    assert findings(measured()) == [] and findings(measured(first=True)) == []
    unknown = {f.name: NAN for f in dataclasses.fields(WeightHealth) if f.default is not dataclasses.MISSING}
    frozen = weight(trainable=False, **{**unknown, "non_finite": 0})
    assert findings(measured(frozen, global_norm=NAN, oscillation=NAN, first=True)) == []


def test_a_finding_is_complete():
    """A sentence, what to do, the weight, its layer, the figure and the threshold."""
    finding = only(measured(weight(update_ratio=0.5)))
    assert finding == Finding(
        severity="warning",
        cause="update_high",
        layer="dense",
        share=finding.share,
        affects=(),
        evidence="A step changes dense/kernel by 0.5 of its norm, more than 0.1.",
        remedy="Lower the learning rate, or warm it up: one step replaces much of the kernel.",
        weight="dense/kernel",
        value=0.5,
        threshold=0.1,
    )
    assert math.isnan(finding.share)


#: The figure of one kernel that is not well, and the finding that it makes.
KERNELS = [
    (dict(gradient_norm=101.0), ("exploding", "error", 101.0, 100.0)),
    (dict(gradient_mean_abs=1.5), ("mean_gradient_high", "warning", 1.5, 1.0)),
    (dict(gradient_mean_abs=1e-5), ("mean_gradient_low", "info", 1e-5, 1e-4)),
    (dict(non_finite=3), ("non_finite", "error", 3, 0)),
    (dict(dead_units=0.3), ("dead_units", "warning", 0.3, 0.2)),
    (dict(dead_units=0.6), ("dead_units", "error", 0.6, 0.5)),
    (dict(saturated=0.6), ("saturated", "warning", 0.6, 0.5)),
    (dict(shift=0.4), ("shift", "info", 0.4, 0.3)),
    (dict(update_ratio=0.2), ("update_high", "warning", 0.2, 0.1)),
    (dict(update_ratio=1e-6), ("update_low", "info", 1e-6, 1e-5)),
]


@pytest.mark.parametrize(("figures", "expected"), KERNELS)
def test_one_figure_of_a_kernel(figures, expected):
    """Each makes one finding, of its weight, with the figure and the threshold."""
    cause, severity, value, threshold = expected
    assert brief(measured(weight(**figures))) == [(cause, severity, "dense/kernel", value, threshold)]


@pytest.mark.parametrize(
    "figures",
    [
        dict(gradient_norm=100.0),
        dict(gradient_norm=1e-7),
        dict(gradient_mean_abs=1.0),
        dict(gradient_mean_abs=1e-4),
        dict(dead_units=0.2),
        dict(saturated=0.5),
        dict(shift=0.3),
        dict(update_ratio=0.1),
        dict(update_ratio=1e-5),
    ],
)
def test_a_threshold_itself_is_well(figures):
    """What is above or below it is not."""
    assert findings(measured(weight(**figures))) == []


def test_initial_weights_are_those_of_the_first_check():
    """Glorot's scale for what is small, He's for what is large."""
    small, large = weight(glorot_ratio=0.05), weight("other/kernel", he_ratio=20.0)
    assert findings(measured(small, large)) == []
    assert brief(measured(small, large, first=True)) == [
        ("initial_weights_low", "warning", "dense/kernel", 0.05, 0.1),
        ("initial_weights_high", "warning", "other/kernel", 20.0, 10.0),
    ]


class TestVanishing:
    def test_some_warn_all_are_an_error(self):
        """Of kernels; biases and scales are infos, and don't count for the others."""
        lost, fine = weight(gradient_norm=1e-9), weight("other/kernel")
        bias = weight("dense/bias", "bias", gradient_norm=1e-9)
        assert brief(measured(lost, bias, fine)) == [
            ("vanishing", "warning", "dense/kernel", 1e-9, 1e-7),
            ("vanishing", "info", "dense/bias", 1e-9, 1e-7),
        ]
        assert [f.severity for f in findings(measured(lost, bias))] == ["error", "info"]

    def test_no_gradient(self):
        """It is not known how large a gradient that never arrived is."""
        apart = weight("apart/kernel", gradient_norm=NAN, gradient_mean_abs=NAN, zero_fraction=NAN)
        finding = only(measured(apart, weight()))
        assert (finding.cause, finding.severity, finding.value) == ("no_gradient", "warning", 0.0)
        assert finding.evidence == "No gradient arrives at apart/kernel."

    def test_zero_by_design(self):
        """It is no finding, and no sign that its layer vanishes."""
        bias = weight("dense/bias", "bias", gradient_norm=0.0, cancelled=True)
        check = measured(weight(gradient_norm=1e-9), bias, weight("other/kernel"))
        assert [f.weight for f in findings(check)] == ["dense/kernel"]
        assert check.flow()["vanishing"] == ("dense",)
        assert measured(bias).flow()["vanishing"] == ()

    def test_measures(self):
        """The mean absolute gradient may stand in for the norm."""
        thresholds = Thresholds(vanishing_of="mean_abs", exploding_of="mean_abs", mean_abs=(1e-30, 1e30))
        small, large = weight(gradient_mean_abs=1e-9), weight("other/kernel", gradient_mean_abs=101.0)
        assert [f.evidence for f in findings(measured(small, large, thresholds=thresholds))] == [
            "The mean absolute gradient of other/kernel is 101, above 100.",
            "The mean absolute gradient of dense/kernel is 1e-09, below 1e-07.",
        ]


class TestNonFinite:
    def test_the_loss_comes_first(self):
        """Where it is NaN, it is named before the weights."""
        found = findings(measured(weight(non_finite=3), loss=NAN, global_norm=NAN))
        assert [f.evidence for f in found] == [
            "The loss is nan.",
            "3 of 100 gradient elements of dense/kernel are NaN or infinite.",
        ]
        assert [f.layer for f in found] == ["", "dense"]

    def test_half_precision(self):
        """A scaled loss skips such a step: a warning, while the loss is finite."""
        broken = weight(non_finite=3, dtype="float16")
        finding = only(measured(broken))
        assert finding.severity == "warning" and "a scaled loss skips such a step" in finding.evidence
        assert {f.severity for f in findings(measured(broken, loss=math.inf))} == {"error"}

    def test_infinite_norms_do_not_explode(self):
        """They are not finite, which says more."""
        infinite = weight(gradient_norm=math.inf, gradient_mean_abs=math.inf, non_finite=1)
        check = measured(infinite, global_norm=math.inf)
        assert only(check).cause == "non_finite"
        assert check.flow() == {"vanishing": (), "exploding": (), "non_finite": ("dense",)}


def test_outputs_may_saturate():
    """Where they are right they do."""
    assert findings(measured(weight(saturated=1.0, at_output=True))) == []


def test_a_layer_shifts_once():
    """Its kernel and its bias say the same."""
    finding = only(measured(weight(shift=0.5), weight("dense/bias", "bias", shift=0.5)))
    assert finding.layer == "dense" and finding.evidence == (
        "The activations of dense have moved since the last check: their Kolmogorov-Smirnov distance is 0.5, "
        "above 0.3."
    )


@pytest.mark.parametrize(
    ("units", "positions", "severity"), [(8, 12, "info"), (8, 13, "error"), (64, 13, "info")]
)
def test_units_are_dead_over_enough_positions(units, positions, severity):
    """log₂(units) + 10; of fewer it is said how many it takes."""
    found = only(measured(weight(dead_units=0.75, rectifying=units, positions=positions)))
    assert found.severity == severity
    told = f"takes {10 + int(math.log2(units))} different positions, of which this batch has {positions}."
    assert found.evidence.endswith(told) is (severity == "info")


@pytest.mark.parametrize(
    ("changes", "cause", "severity"),
    [
        (dict(global_norm=20.0), "global_norm_high", "warning"),
        (dict(global_norm=0.01), "global_norm_low", "info"),
        (dict(oscillation=0.5), "oscillation", "warning"),
    ],
)
def test_the_whole_model(changes, cause, severity):
    """A figure of the model has no layer and no weight."""
    finding = only(measured(**changes))
    assert (finding.cause, finding.severity, finding.layer, finding.weight) == (cause, severity, "", "")


class TestAutotrainer:
    """Rules that are off by default."""

    THRESHOLDS = Thresholds.preset("autotrainer")

    def test_first_against_last(self):
        """A small ratio counts with a small first norm only, a large one always."""
        first, last = weight(gradient_norm=1e-5), weight("last/kernel", gradient_norm=1.0)
        assert findings(measured(first, last)) == []
        finding = only(measured(first, last, thresholds=self.THRESHOLDS))
        assert (finding.cause, finding.weight) == ("first_last_low", "dense/kernel")
        healthy = weight("last/kernel", gradient_norm=99.0), weight(gradient_norm=1.0)
        assert only(measured(*healthy, thresholds=self.THRESHOLDS)).cause == "first_last_high"
        above = weight(gradient_norm=2e-4), weight("last/kernel", gradient_norm=10.0)
        assert findings(measured(*above, thresholds=self.THRESHOLDS)) == []

    def test_one_kernel_is_no_pair(self):
        """Nor is a last one without a gradient something to divide by."""
        assert findings(measured(weight(gradient_norm=1e-5), thresholds=self.THRESHOLDS)) == []
        last = weight("last/kernel", gradient_norm=0.0, cancelled=True)
        assert findings(measured(weight(gradient_norm=1e-5), last, thresholds=self.THRESHOLDS)) == []

    def test_zero_gradients(self):
        """Weights count by their size, and those without a gradient not at all."""
        most, few = weight(zero_fraction=1.0, size=700), weight("few/kernel", size=300)
        apart = weight("apart/bias", "bias", zero_fraction=NAN, cancelled=True, gradient_norm=NAN)
        check = measured(most, few, thresholds=self.THRESHOLDS)
        assert only(check).evidence == "70% of all gradient elements are exactly 0, at least 70%."
        assert findings(measured(most, few)) == []
        with_apart = findings(measured(most, few, apart, thresholds=self.THRESHOLDS))
        assert [f.cause for f in with_apart] == ["zero_gradients", "no_gradient"]


def test_the_most_severe_come_first():
    """Within one severity rules stay in their order, and a rule's findings in that of the weights."""
    check = measured(
        weight(shift=0.5, dead_units=0.9),
        weight("a/kernel", saturated=0.9, gradient_norm=200.0),
        weight("b/kernel", saturated=0.9),
        global_norm=200.0,
    )
    assert [(f.severity, f.cause, f.layer) for f in findings(check)] == [
        ("error", "exploding", "a"),
        ("error", "dead_units", "dense"),
        ("warning", "global_norm_high", ""),
        ("warning", "saturated", "a"),
        ("warning", "saturated", "b"),
        ("info", "shift", "dense"),
    ]
