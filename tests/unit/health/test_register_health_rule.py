"""The registry of rules: what the class statement lets in, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from tests.unit.health.nets import causes, checked, small_mlp
from tests.unit.health.test_rules import measured, weight
from trainobs.errors import InvalidArgument
from trainobs.health import Rule, register_health_rule, unregister_health_rule
from trainobs.health.rules import findings, registered_rules


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The rules are the package's own again afterwards."""
    before = registered_rules()
    yield
    for rule in registered_rules():
        if rule not in before:
            unregister_health_rule(rule)
    assert registered_rules() == before


def wide() -> type[Rule]:
    """A new rule: the activations of a layer spread."""

    class Wide(Rule):
        """`activation_std` of a layer, too large."""

        remedies: ClassVar = {"wide": "Normalise before the layer."}

        def findings(self, measured):
            for one in measured.weights:
                if one.activation_std > 0:
                    text, value = f"the activations of {one.layer} spread", one.activation_std
                    yield self.finding("wide", "warning", text, value=value, threshold=0, weight=one)

    return Wide


def test_a_rule_of_ones_own():
    """Every check asks it from its class statement on, behind the others, until it is taken back."""
    assert "wide" not in causes(checked(small_mlp()))
    rule = wide()
    report = checked(small_mlp())
    assert "wide" in causes(report, "warning") and not report.healthy
    row = report.findings[report.findings["cause"] == "wide"].iloc[0]
    assert row["remedy"] == "Normalise before the layer." and row["evidence"].endswith(" spread.")
    assert row["value"] == report.layers.loc[row["weight"], "activation_std"]
    assert registered_rules()[-1] is rule
    unregister_health_rule(rule)
    assert "wide" not in causes(checked(small_mlp()))


def test_the_order_is_that_of_ranks():
    """The package's own rules come first, those that break a training before all."""
    names = [rule.__name__ for rule in registered_rules()]
    assert names[:3] == ["NonFinite", "Exploding", "Vanishing"] and names[-1] == "Shift"
    first = type("First", (wide(),), {"remedies": {"first": "Nothing."}, "rank": 1})
    assert registered_rules()[0] is first


def test_a_cell_may_run_twice():
    """A class of the same name takes the place of the older one, and can't be taken back with it."""
    older, newer = wide(), wide()
    assert older not in registered_rules() and newer in registered_rules()
    unregister_health_rule(older)
    assert newer in registered_rules()


def test_the_door():
    """A subclass without remedies of its own is known when it is registered; the door is a decorator."""

    class Plain(Rule):
        def findings(self, measured):
            return iter(())

    assert Plain not in registered_rules()
    Plain.remedies = {"plain": "Nothing."}
    assert register_health_rule(Plain) is Plain and Plain in registered_rules()


def with_arguments(self, limit):
    """A constructor that needs something."""


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (
            {"remedies": {}},
            "Wrong: `remedies` must be a dict with an entry for each finding, its name ",
        ),
        ({"remedies": {"wrong": ""}}, "Wrong: `remedies` must be a dict"),
        ({"remedies": ("wrong",)}, "Wrong: `remedies` must be a dict"),
        (
            {"remedies": {"dead_units": "Revive."}},
            "Wrong: the cause 'dead_units' is that of the rule DeadUnits. Choose another name in `remedies`.",
        ),
        (
            {"findings": Rule.findings},
            "Wrong has no method `findings(self, measured)`, which every health rule needs.",
        ),
        (
            {"__init__": with_arguments},
            "Wrong takes arguments: (limit). A health rule is made without any; keep its numbers in class "
            "attributes.",
        ),
    ],
    ids=["no remedy", "empty", "tuple", "taken", "no findings", "arguments"],
)
def test_what_does_not_fit_is_refused(attributes, text):
    """By the class statement itself; and nothing is registered."""
    base, before = wide(), registered_rules()
    with pytest.raises(InvalidArgument) as caught:
        type("Wrong", (base,), {"remedies": {"wrong": "Nothing."}, **attributes})
    assert str(caught.value).startswith(text)
    assert registered_rules()[: len(before)] == before


@pytest.mark.parametrize("wrong", [dict, "dead_units", None])
def test_what_is_no_rule_is_refused(wrong):
    """The door takes classes of rules."""
    with pytest.raises(InvalidArgument) as caught:
        register_health_rule(wrong)
    assert str(caught.value) == (
        f"`register_health_rule` takes a subclass of trainobs.health.Rule. Received: {wrong!r}. Write a "
        f"class whose base is Rule."
    )


@pytest.mark.parametrize("wrong", ["shout", None])
def test_what_a_rule_yields_is_checked(wrong):
    """A severity that there is not, or something that is no finding."""

    class Wrong(Rule):
        remedies: ClassVar = {"wrong": "Nothing."}

        def findings(self, measured):
            yield wrong and self.finding("wrong", wrong, "it is wrong", value=1, threshold=0)

    with pytest.raises(InvalidArgument, match=r"Wrong.findings must yield findings made by `self.finding"):
        findings(measured(weight()))
