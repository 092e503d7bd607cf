"""No sentence has a figure that is none, or one that contradicts the words around it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mechanisms.chains import FUNCTIONS, case_of, dense, inputs, step
from tests.mechanisms.sentences import wrong_in
from tests.mechanisms.valid_figures import FIELDS, fields_of, is_described, mechanisms_of
from trainobs import mechanisms as m
from trainobs.diagnosis import chain, diagnose

KINDS = [kind for kind in m.registered_mechanisms() if kind.__module__.startswith("trainobs.")]
_many = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=50)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_has_valid_figures(kind):
    """A new field, or class, is described in `valid_figures`."""
    assert is_described(kind), [name for name in fields_of(kind) if name not in FIELDS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_sentence_contradicts_its_figures(kind):
    """Evidence, advice and what ends a chain, of any figures that the class can have."""

    @_many
    @given(mechanisms_of(kind))
    def check(mechanism):
        for sentence in filter(None, (mechanism.evidence(), mechanism.advice(), mechanism.summary())):
            assert not wrong_in(sentence), sentence

    check()


_layers = st.fixed_dictionaries(
    {
        "activation": st.sampled_from(sorted(FUNCTIONS)),
        "bias": st.sampled_from([0.0, -50.0, -2.0, 0.5, 50.0]),
        "scale": st.sampled_from([1.0, 0.0, 1e-6, 0.03, 30.0, 1e4]),
        "cut": st.sampled_from([False] * 9 + [True]),
        "trainable": st.sampled_from([True] * 4 + [False]),
    }
)


@_many
@given(
    st.lists(_layers, min_size=1, max_size=5),
    st.sampled_from([1.0, 0.0, 1e-5, 100.0]),
    st.sampled_from([1.0, 0.0, 1e-6, 1e9]),
)
def test_no_finding_of_a_chain_contradicts_its_figures(chosen, data, loss):
    """Whatever is planted: makers keep what classes demand, and ranking adds no nonsense."""
    chosen = [dense(seed=number, **options) for number, options in enumerate(chosen)]
    with np.errstate(all="ignore"):
        found = diagnose(case_of(step(inputs(data), *chosen, loss_gradient=loss)))
    told = [sentence for finding in found.findings for sentence in (finding.evidence, finding.remedy)]
    for sentence in (*told, *map(chain, found.origins.values())):
        assert not wrong_in(sentence), sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "in nan% of the cases the inputs are too large",
        "relu gives only [0, inf]",
        "most of these gradients would be near zero by .",
        "0 of the 1 units of hidden are off at all 64 positions",
        "0% of the values are off",
        "1 of the 1 unit is off",
        "over 1 positions",
        "only 120% of the values",
        "the gradient grows to 0.05 times its size",
        "the gradient shrinks to 1.3 of itself per layer",
        "kernels too small (rms 1 against He's scale 0.18)",
        "The kernel of out has an rms of 1, where He's scale is 0.18: neither signal nor gradient passes.",
        "sends a gradient of only 2.2 per position into out",
        "9 of the 8 units are off",
        "two  spaces",
        "-3 of the units",
    ],
)
def test_what_is_wrong_is_seen(sentence):
    """Sentences that reports had."""
    assert wrong_in(sentence)


@given(st.sampled_from(["NaN or infinite values", "Nonesuch layer", "rms 1e-05 and 0.5%", "`x = None`"]))
def test_what_is_right_is_not(sentence):
    """Words that look alike."""
    assert not wrong_in(sentence)
