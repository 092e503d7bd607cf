"""What a remedy is: registered by its class statement, heard by name, and given the typed mechanism."""

import pytest

from trainobs import remedies
from trainobs.errors import InvalidArgument
from trainobs.mechanisms import DeadActivation, Frozen, SaturatedActivation, registered_mechanisms
from trainobs.remedies import Remedy, register_remedy, registered_remedies, remedies_against

REASONS = ("input", "weights", "bias", "combination")


def off(kind, reason):
    """A mechanism of units that are off for a reason."""
    sizes = {"input_rms": 1.0, "kernel_rms": 1.0, "healthy_weight": 1.0, "bias_rms": 9.0, "shift": ""}
    numbers = {"dead": 8, "units": 8, "off": 1.0, "positions": 64.0, "reason_share": 0.9}
    return kind(layer="h", part="", activation="tanh", reason=reason, **numbers, **sizes)


@pytest.fixture
def own():
    """A function that writes a remedy; what it registers is taken back."""
    before = registered_remedies()

    def written(name="own", against=(), module=__name__):
        body = {"name": name, "against": against, "prescribe": lambda *_: iter(()), "__module__": module}
        return type("Own", (Remedy,), body)

    yield written
    for remedy in set(registered_remedies()) - set(before):
        remedies.unregister_remedy(remedy)


def test_every_treatment_of_a_mechanism_is_a_remedy():
    """And every remedy of ours is listed by some mechanism, or says against what it is."""
    listed = {name for mechanism in registered_mechanisms() for name in mechanism.treatments}
    names = {remedy.name for remedy in registered_remedies()}
    assert listed <= names
    assert {remedy.name for remedy in registered_remedies() if not remedy.against} <= listed


@pytest.mark.parametrize("kind", [DeadActivation, SaturatedActivation])
@pytest.mark.parametrize("reason", REASONS)
def test_no_reason_loses_a_treatment(kind, reason):
    """Reasons change the order only."""
    mechanism = off(kind, reason)
    assert sorted(mechanism.ordered_treatments) == sorted(kind.treatments)
    assert [remedy.name for remedy in remedies_against(mechanism)] == list(mechanism.ordered_treatments)


@pytest.mark.parametrize(
    ("reason", "advice", "first"),
    [
        ("input", "Normalise the inputs", "insert normalisation"),
        ("weights", "Re-initialise the kernel", "re-initialise"),
        ("bias", "Reset the bias", "reset the bias"),
        ("combination", "Normalise before", "insert normalisation"),
    ],
)
def test_what_is_advised_for_saturation_comes_first(reason, advice, first):
    """By the reason."""
    mechanism = off(SaturatedActivation, reason)
    assert mechanism.advice().startswith(advice)
    assert mechanism.ordered_treatments[0] == first


def test_a_class_statement_registers(own):
    """What says that it helps comes behind what the mechanism lists; each is tried once."""
    remedy = own(against=("frozen",))
    assert remedy in registered_remedies()
    assert [r.name for r in remedies_against(Frozen("h", 3))] == ["unfreeze", "own"]
    assert remedy not in remedies_against(off(DeadActivation, "bias"))
    remedies.unregister_remedy(remedy)
    assert [r.name for r in remedies_against(Frozen("h", 3))] == ["unfreeze"]


def test_a_cell_may_run_twice(own):
    """The new class takes the place of the old one."""
    old, new = own(), own()
    assert new in registered_remedies() and old not in registered_remedies()


def test_names_are_taken_once(own):
    """Another module can't replace a remedy by accident."""
    own()
    with pytest.raises(InvalidArgument, match="is called 'own' already"):
        own(module="elsewhere")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": 3, "prescribe": list}, "must be some words"),
        ({"name": " ", "prescribe": list}, "must be some words"),
        ({"name": "own", "against": "frozen", "prescribe": list}, "must be a tuple of causes"),
        ({"name": "own"}, "has no `prescribe`"),
    ],
)
def test_what_does_not_fit_is_refused(body, message):
    """With what was expected."""
    with pytest.raises(InvalidArgument, match=message):
        type("Own", (Remedy,), body)


def test_what_is_no_remedy_is_refused():
    """A function, or a class with another base."""
    for thing in (len, int, "own"):
        with pytest.raises(InvalidArgument, match=r"takes a subclass of trainobs.remedies.Remedy"):
            register_remedy(thing)


def test_a_treatment_that_does_not_exist_is_told():
    """A mechanism that lists it can't be served in silence."""

    class Odd(DeadActivation):
        """Without a cause of its own, it is not registered."""

        treatments = ("surgery",)

    with pytest.raises(InvalidArgument, match=r"lists \['surgery'\], but no remedy has such a name"):
        remedies_against(off(Odd, "bias"))
