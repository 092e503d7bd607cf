"""What a diagnosis does grows as the number of layers does, on steps that NumPy computes."""

import sys

import numpy as np
import pytest

from tests.mechanisms.chains import case_of, dense, inputs, step
from trainobs.diagnosis import chain, diagnose
from trainobs.diagnosis._steps import Steps

#: By name: the data's scale, and the layer at a place.
CHAINS = {
    "healthy": (1.0, lambda at: dense(seed=at, activation="tanh", scale=1.2)),
    "gradients vanish": (1.0, lambda at: dense(seed=at, scale=0.3)),
    "signals vanish": (1.0, lambda at: dense(seed=at, activation="tanh", scale=0.1)),
    "nearly saturated": (1.0, lambda at: dense(seed=at, activation="sigmoid")),
    "dead layers": (1.0, lambda at: dense(seed=at, bias=-3.0 if at % 4 == 2 else 0.0)),
    "no input": (0.0, lambda at: dense(seed=at)),
    "cut": (1.0, lambda at: dense(seed=at, cut=True)),
}


def case_at(name, depth):
    """A chain of so many layers."""
    scale, layer = CHAINS[name]
    with np.errstate(all="ignore"):
        return case_of(step(inputs(scale), *map(layer, range(depth))))


def told(case):
    """The ways of all weights, as text."""
    with np.errstate(all="ignore"):
        return {weight: chain(origins) for weight, origins in diagnose(case).origins.items()}


def calls(name, depth):
    """How many functions a diagnosis calls, with the text of all ways."""
    case, count = case_at(name, depth), 0

    def counts(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counts)
    try:
        told(case)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", CHAINS)
def test_calls_grow_as_layers_do(name):
    """From 60 to 120 layers by twice as many as from 30 to 60; four times would be a quadratic growth."""
    few, more, many = (calls(name, depth) for depth in (30, 60, 120))
    assert many - more < 2.5 * (more - few)


@pytest.mark.parametrize("name", ["gradients vanish", "dead layers"])
def test_300_layers_are_explained(name):
    """However deep, and each way in one line that can be read."""
    ways = told(case_at(name, 300))
    assert len(ways) > 300 and max(map(len, ways.values())) < 500


def test_the_end_of_a_deep_chain():
    """300 layers read from data of zeros: every way ends there, its middle left out."""
    ways = told(case_at("no input", 300))
    begins, ends = ways["d200/kernel"].split("396 more")
    assert begins == "d200/kernel ← input ← d199 ← off: input ← d198 ← … "
    assert ends.startswith(" … ← off: input ← data ← zero_input")


def test_steps_of_long_ways_are_counted():
    """The first and the last ones are kept; the line tells how many are between."""
    names = [f"d{number}" for number in range(100)]
    at_once = Steps.of(*names)
    assert at_once.line() == "d0 ← d1 ← d2 ← d3 ← … 93 more … ← d97 ← d98 ← d99"
    assert Steps.of(*names[:50]) + Steps.of(*names[49:]) == at_once
    assert Steps.of("a", "a", "a off: bias", "b").shown == ("a", "off: bias", "b")
