"""What every mechanism would change to be proved, or why it can't be."""

import dataclasses

import numpy as np
import pytest

from tests.mechanisms.chains import case_of, dense, inputs, step
from trainobs import counterfactuals
from trainobs.counterfactuals import (
    AllStandardised,
    Counterfactual,
    FreshWeights,
    ScaledInput,
    StandardisedPreactivation,
)
from trainobs.mechanisms import (
    DeadActivation,
    Mechanism,
    UnscaledInput,
    VanishingSignal,
    ZeroWeights,
    registered_mechanisms,
)

OWN = [kind for kind in registered_mechanisms() if kind.__module__.startswith("trainobs.")]
KINDS = [kind for kind in vars(counterfactuals).values() if dataclasses.is_dataclass(kind)]
CHANGES = [kind for kind in KINDS if issubclass(kind, Counterfactual) and kind is not Counterfactual]


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_each_mechanism_decides_for_itself(kind):
    """None is left to the default, which is for mechanisms of users."""
    assert kind.counterfactual is not Mechanism.counterfactual


def test_units_that_are_off_get_standardised_values():
    """At the layer that applies the activation."""
    case = case_of(step(inputs(), dense(bias=-100.0), dense(seed=1, activation="linear")))
    mechanism = DeadActivation.of(case, case.sites["d0/kernel"])
    assert mechanism.counterfactual(case) == StandardisedPreactivation("d0")


def test_zero_weights_are_drawn_afresh():
    """Of He's scale."""
    zero = dataclasses.replace(dense(), kernel=np.zeros((8, 8), np.float32))
    case = case_of(step(inputs(), zero, dense(seed=1, activation="linear")))
    mechanism = ZeroWeights.of(case, case.sites["d0/kernel"])
    assert mechanism.counterfactual(case) == FreshWeights("d0", ("d0/kernel",), 0.5)


def test_scale_gives_way_to_units_that_are_off():
    """The data is scaled first; if that is refuted, the units are off for another reason."""
    case = case_of(step(inputs(100.0), dense(activation="tanh"), dense(seed=1, activation="linear")))
    mechanism = UnscaledInput.of(case, case.sites["d0/kernel"])
    assert mechanism.counterfactual(case) == ScaledInput("d0")
    assert mechanism.instead(case).cause == "saturated_activation"


def test_a_slow_decay_is_undone_in_every_layer():
    """All kernels on the way."""
    case = case_of(step(inputs(), dense(scale=0.01), dense(seed=1, activation="linear")))
    mechanism = VanishingSignal.before(case, case.sites["d0/kernel"])
    assert mechanism.counterfactual(case) == AllStandardised(("d0", "d1"))


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.__name__)
def test_a_change_is_said_in_words(kind):
    """As in "with the kernel of hidden drawn afresh"."""
    values = {
        "layers": ("a", "b"),
        "gates": ("reset gate",),
        "weights": ("a/kernel",),
        "weight": "a/gamma",
        "rms": 1.0,
        "factor": 8.0,
    }
    fields = {field.name: values.get(field.name, "a") for field in dataclasses.fields(kind)}
    said = str(kind(**fields))
    assert said and "<" not in said and "(" not in said


def test_many_layers_are_not_listed():
    """The first, the last, and how many."""
    assert str(AllStandardised(tuple("abcde"))) == "the preactivations of a … e (5 layers) standardised"
