"""Each rule that makes one mechanism of what several weights see, on origins written by hand."""

import dataclasses

import pytest

from trainobs.diagnosis._merge import (
    MERGE_RULES,
    Traces,
    one_slow_decay,
    only_what_is_a_finding,
    outputs_explain_silence,
    zeros_follow_the_cut,
)
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._steps import Steps
from trainobs.mechanisms import (
    Cancellation,
    DeadActivation,
    Disconnected,
    Masked,
    OutputMismatch,
    VanishingAtNode,
    VanishingGradient,
    VanishingSignal,
    WeightlessPositions,
    ZeroLossGradient,
)


@dataclasses.dataclass
class Case:
    """All that a rule may ask of a case."""

    loss_is_silent: bool = False


def decay(layer):
    """A slow decay whose strongest drop is at a layer."""
    return VanishingGradient(layer, 3, 0.1, True, False, layer, 0.1, 0.5)


DEAD = DeadActivation("head", "", "relu", "bias", 1.0, 4, 4, 1.0, 9.0, 1.0, 1.0, 1.0, 9.0, "")
MISMATCH = OutputMismatch("head", "range", "targets lie outside", 0.0, 9.0)
SILENT = ZeroLossGradient("head", 0.0, 1.0)


def traces(*direct, asking=None, **walked):
    """Traces of mechanisms, all weights asking unless some are named."""
    origins = {weight: tuple(map(Origin, found)) for weight, found in walked.items()}
    return Traces(tuple(map(Origin, direct)), origins, frozenset(walked if asking is None else asking))


def mechanisms(result, weight):
    """The mechanisms of a weight after a rule."""
    return [origin.mechanism for origin in result.walked.get(weight, ())]


def test_an_outputs_mismatch_explains_its_own_layer():
    """What is wrong with the layer is not said twice; other layers keep their origins."""
    found = outputs_explain_silence(traces(MISMATCH, a=[DEAD], b=[decay("h")]), Case())
    assert mechanisms(found, "a") == [MISMATCH] and mechanisms(found, "b") == [decay("h")]


def test_an_outputs_mismatch_explains_a_silent_loss():
    """The silent loss is no finding of its own then, whichever weights suffer from it."""
    found = outputs_explain_silence(traces(MISMATCH, SILENT, a=[SILENT], b=[decay("h")]), Case(True))
    assert mechanisms(found, "a") == mechanisms(found, "b") == [MISMATCH]
    assert [o.mechanism for o in found.direct] == [MISMATCH]


def test_weightless_positions_explain_too():
    """A loss that leaves all positions out sends nothing."""
    nothing = WeightlessPositions("head", 1.0)
    assert mechanisms(outputs_explain_silence(traces(nothing, a=[SILENT]), Case()), "a") == [nothing]


def test_without_an_explaining_output_nothing_changes():
    """The very same traces come back."""
    given = traces(SILENT, a=[SILENT])
    assert outputs_explain_silence(given, Case()) is given


@pytest.mark.parametrize("other", [decay("late"), VanishingSignal("late", "kernel", 2, True, 0.1, 0.5)])
def test_slow_decays_are_one(other):
    """The first one's layer, forward or backward; a node that takes the gradient is none."""
    node = VanishingAtNode("norm", 1e-4, False)
    found = one_slow_decay(traces(a=[decay("early")], b=[other], c=[node]), Case())
    assert mechanisms(found, "b") == [dataclasses.replace(other, layer="early")]
    assert mechanisms(found, "c") == [node]


def test_a_decay_of_weights_that_do_not_ask_leads_nothing():
    """Only findings give their layer to others."""
    given = traces(a=[decay("early")], asking=())
    assert one_slow_decay(given, Case()) is given


def test_zeros_behind_a_cut_are_the_cut():
    """Rounding puts out zeros, and lets no gradient through: that is one mechanism."""
    cut, zeros, others = Disconnected("round", "node"), Masked("round", False), Masked("gate", False)
    found = zeros_follow_the_cut(traces(a=[cut], b=[zeros], c=[others]), Case())
    assert mechanisms(found, "b") == [cut] and mechanisms(found, "c") == [others]


def test_what_is_no_finding_is_left_out():
    """A weight that does not ask keeps the origins that are findings; a bias that cancels keeps its own."""
    by_design = Cancellation("h", by_design=True)
    given = traces(a=[decay("h")], b=[decay("h"), DEAD], c=[DEAD], d=[by_design], asking="ad")
    found = only_what_is_a_finding(given, Case())
    assert mechanisms(found, "b") == [decay("h")] and "c" not in found.walked
    assert mechanisms(found, "d") == [by_design]
    assert list(found.roots()) == [("vanishing", "h")]


def test_shares_and_steps_survive():
    """An origin that is explained better keeps its way and its part."""
    given = Traces((Origin(MISMATCH),), {"a": (Origin(DEAD, Steps.of("a", "head"), 0.5),)}, frozenset("a"))
    (origin,) = outputs_explain_silence(given, Case()).walked["a"]
    assert (origin.steps.shown, origin.share, origin.key) == (("a", "head"), 0.5, ("output_mismatch", "head"))


def test_the_order_of_the_rules():
    """Outputs first, for what they explain is no decay; findings last, when all is named."""
    assert [rule.__name__ for rule in MERGE_RULES] == [
        "outputs_explain_silence",
        "one_slow_decay",
        "zeros_follow_the_cut",
        "only_what_is_a_finding",
    ]
