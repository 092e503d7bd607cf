"""Sentences are right for one thing and for several."""

import numpy as np
import pytest

from trainobs import mechanisms as m
from trainobs.mechanisms._words import are, everywhere, part_of, ranges, several


@pytest.mark.parametrize(
    ("number", "total", "text"),
    [
        (3, 8, "3 of the 8 units"),
        (1, 8, "1 of the 8 units"),
        (1, 1, "The only unit"),
        (0, 1, "0 of the 1 unit"),
    ],
)
def test_a_part_of_things(number, total, text):
    """The only one of its kind is not counted."""
    assert part_of(number, total, "unit") == text


def test_one_thing_has_a_singular():
    """Nouns and verbs agree with their number."""
    assert (several(1, "layer"), several(1200, "layer")) == ("1 layer", "1,200 layers")
    assert (are(1), are(0), are(2)) == ("is", "are", "are")
    assert (everywhere(1), everywhere(64)) == ("at the only position", "at all 64 positions")


def test_neighbours_are_one_range():
    """Single places and runs of them, in order."""
    assert ranges(np.isin(np.arange(9), [0, 1, 2, 5, 7, 8])) == "0–2, 5, 7–8"


def dead(number, units, positions, reason="bias"):
    """Dead units of a layer."""
    return m.DeadActivation(
        layer="hidden", part="", activation="relu", reason=reason, reason_share=1.0, dead=number,
        units=units, off=1.0, positions=positions, input_rms=0.0, kernel_rms=1.0, healthy_weight=1.0,
        bias_rms=50.0, shift="",
    )  # fmt: skip


def test_a_single_dead_unit():
    """A sentence about one unit and one position, with its pronoun."""
    assert dead(1, 1, 1).evidence() == (
        "The only relu unit of hidden is off at the only position; where live input reaches it, in 100% of "
        "the cases the bias pushes it below zero (rms of the bias 50)."
    )
    assert dead(1, 1, 1).summary() == "1 of 1 unit, 1 position"


def test_one_of_several_dead_units():
    """The verb agrees with the units that are off, not with all of them."""
    assert (
        dead(1, 8, 64, "input")
        .evidence()
        .startswith(
            "1 of the 8 relu units of hidden is off at all 64 positions; no live input ever reaches it"
        )
    )


def test_a_single_input():
    """One input is zero, and it is named."""
    single = m.ZeroInput("first", zero=1, inputs=8, named="3", positions=64, input_rms=0.5, multiplied_by="")
    assert single.evidence() == (
        "1 of the 8 inputs of first is near zero at all 64 positions (input 3); the input's rms is 0.5."
    )


def test_a_single_frozen_weight():
    """Its one weight."""
    assert m.Frozen("scale", weights=1).evidence().endswith("no gradient is taken of its 1 weight.")


def test_a_single_saturated_position():
    """Of one sample."""
    fields = dead(0, 4, 1, "weights").__dict__ | {"activation": "tanh"}
    del fields["doubt"], fields["needed"]
    assert " over 1 position; " in m.SaturatedActivation(**fields).evidence()
