"""Mechanisms of heads that don't fit their loss, as the rules make them of any output."""

from __future__ import annotations

import dataclasses
import functools
import math

from hypothesis import assume
from hypothesis import strategies as st

from tests.mechanisms.chains import case_of, dense, inputs, step
from trainobs import mechanisms as m
from trainobs.analysis import SiteFigures
from trainobs.mechanisms._output_rules import Targets, broken_rule
from trainobs.statistics import OutputStatistics
from trainobs.thresholds import Thresholds

_LOSSES = (
    *("mean_squared_error", "binary_crossentropy", "categorical_crossentropy"),
    "sparse_categorical_crossentropy",
)
_bounds = st.tuples(st.floats(-1e6, 1e6) | st.integers(-2, 5).map(float), st.floats(0, 1e6))


@functools.cache
def _site(activation: str) -> SiteFigures:
    """The last kernel of a small chain; of ReLU, with some units that are off."""
    name = "linear" if activation == "softmax" else activation
    case = case_of(step(inputs(), dense(), dense(units=3, seed=2, activation=name)))
    site = case.sites["d1/kernel"]
    if activation == "softmax":
        softmax = dataclasses.replace(
            site.info.activation, name="softmax", probed_slopes=(), range=(0.0, 1.0)
        )
        site.statistics = dataclasses.replace(
            site.statistics, info=dataclasses.replace(site.info, activation=softmax)
        )
    return site


@st.composite
def _outputs(draw: st.DrawFn) -> OutputStatistics:
    """Any output that is consistent in itself."""
    (low, width), (target, reach) = draw(_bounds), draw(_bounds)
    rows, row_width = draw(_bounds)
    wrong = draw(st.integers(0, 100))
    positions = draw(st.integers(1, 1000))
    return OutputStatistics(
        node=1,
        elements=draw(st.integers(1, 12)),
        logits=draw(st.booleans()),
        touched=True,
        gradient_sq=1.0,
        positions=float(positions),
        low=low,
        high=low + width,
        target_low=target,
        target_high=draw(st.sampled_from([target + reach, target + math.ceil(reach) % 9])),
        loss_name=draw(st.sampled_from(_LOSSES)),
        from_logits=draw(st.booleans()),
        whole_targets=draw(st.booleans()) and target == round(target),
        most_at_once=float(draw(st.integers(1, 4))),
        empty_rows=float(draw(st.integers(0, positions))),
        row_low=rows,
        row_high=rows + row_width,
        cut=float(draw(st.integers(0, wrong))),
        wrong=float(wrong),
    )


@st.composite
def broken_rules(draw: st.DrawFn, kind: type[m.Mechanism]) -> m.Mechanism:
    """What the first broken rule makes of an output."""
    if issubclass(kind, m.AppliedTwice):
        why = "softmax is applied to the probabilities that sigmoid has made already"
        return m.AppliedTwice("out", why, draw(st.booleans()))
    divides = kind is m.BrokenOutput  # rare among any outputs
    names = ["linear", "relu"] if divides else ["linear", "relu", "tanh", "sigmoid", "softmax"]
    site, output = _site(draw(st.sampled_from(names))), draw(_outputs())
    if divides:
        output = dataclasses.replace(
            output, loss_name="categorical_crossentropy", logits=False, from_logits=False, elements=3
        )
    broken = broken_rule(output, site, Thresholds())
    assume(broken is not None and kind.does(broken))
    targets = Targets.of(output).kind
    return kind("out", broken.rule, broken.why, output.target_low, output.target_high, targets)
