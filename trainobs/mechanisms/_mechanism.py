"""What a mechanism is: one cause of near-zero, exploding or broken gradients, at one layer."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.errors import InvalidArgument

#: Cause and layer.
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Mechanism(abc.ABC):
    """A cause at its place, with the numbers that show it.

    A subclass with a `cause` is registered by its class statement: its file says all there is to know of the
    cause. Its docstring is its entry in docs/findings.md, with paragraphs that begin with
    "Severity:", "When:" and "Where:".

    Parameters
    ----------
    layer : str
        Where it is.

    Attributes
    ----------
    cause : str
        Its word in tables.
    treatments : tuple of str
        Names of the remedies that may help, in the order in which they are tried (see `ordered_treatments`).
    on_the_way : bool
        Whether it sits at a place on the gradient's way, so that `Report.plot_flow` marks it.
    has_place : bool
        Whether it belongs to its layer; one that does not may move to another layer when a model changes.
    alone : bool
        Whether nothing else can be said beside it.
    explains_output : bool
        Whether it explains better than anything else why the output sends no gradient.
    always_harms : bool
        Whether it harms though no layer suffers by it (see `Case.suffering`). What shows by itself (`seen`,
        `suspects`) does in any case; what a walk from a lost gradient leads to only informs without.
    may_be_chance : bool
        Whether gradients of exactly 0, as units of few positions have by chance, may be all that shows it.
    rank : int
        Which of two findings of the same severity and share comes first: the one with the lower number.
    """

    layer: str

    cause: ClassVar[str]
    treatments: ClassVar[tuple[str, ...]] = ()
    on_the_way: ClassVar[bool] = False
    has_place: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    explains_output: ClassVar[bool] = False
    always_harms: ClassVar[bool] = False
    may_be_chance: ClassVar[bool] = False
    rank: ClassVar[int] = 50

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "cause" in vars(cls):
            register_mechanism(cls)

    # ---- where it is -------------------------------------------------------------------------

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """The places that show the mechanism by themselves, whether or not a gradient is lost by it."""
        return iter(())

    @classmethod
    def suspects(cls, case: Case) -> Iterator[SiteFigures]:
        """The kernels whose units are off so often that the reason has to be looked for."""
        return iter(())

    def located(self, case: Case, weight: str | None) -> Mechanism:
        """The same, or what explains it better, after a second look at the batch (`Case.second_look`).

        Parameters
        ----------
        case : Case
        weight : str or None
            Path of a weight that the mechanism keeps from learning; None where it shows by itself.
        """
        return self

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """What to change, and nothing else, so that the gradients come back if this is why they are lost.

        Every mechanism that a finding is made of says it, or why nothing can be changed.

        Parameters
        ----------
        case : Case
        """
        return Untried("it does not say what would have to be changed")

    def instead(self, case: Case) -> Mechanism | None:
        """The next candidate at the same place, if the counterfactual refutes this one."""
        return None

    @property
    def key(self) -> Key:
        """What makes two mechanisms the same."""
        return self.cause, self.layer

    # ---- what is said of it ------------------------------------------------------------------

    @property
    def severity(self) -> str:
        """One of `trainobs.findings.SEVERITIES`: how severe it is where it does harm."""
        return "error"

    @property
    def only_informs(self) -> bool:
        """Whether it is an info whoever suffers by it: it is made so, it will pass, or it may be chance."""
        return False

    @property
    def value(self) -> float:
        """The figure that decides; nan where it is not one figure."""
        return math.nan

    def threshold(self, case: Case) -> float:
        """What the figure is compared with; nan where it is not one number."""
        return math.nan

    @abc.abstractmethod
    def evidence(self) -> str:
        """A sentence with the numbers that show it."""

    @abc.abstractmethod
    def advice(self) -> str:
        """What to try first."""

    @property
    def ordered_treatments(self) -> tuple[str, ...]:
        """The treatments, in the order in which they are tried here: what the advice says comes first."""
        return self.treatments

    def summary(self) -> str:
        """The numbers that end a chain, in brackets; "" for none."""
        return ""

    @property
    def is_slow(self) -> bool:
        """Whether a gradient is lost little by little on its way, not at the layer."""
        return False


_REGISTERED: dict[str, list[type[Mechanism]]] = {}


def register_mechanism(mechanism: type[Mechanism]) -> type[Mechanism]:
    """Make a mechanism known; the class statement of a subclass with a `cause` does it by itself.

    Parameters
    ----------
    mechanism : type
        A subclass of `Mechanism` with a `cause`. A class that was registered under the same name, from a
        module of the same name, is replaced: a notebook's cell may run twice.

    Returns
    -------
    type
        The same class, so that it can be a decorator.

    Raises
    ------
    InvalidArgument
        If it is no such class.
    """
    if not (isinstance(mechanism, type) and issubclass(mechanism, Mechanism)):
        raise InvalidArgument(
            f"`register_mechanism` takes a subclass of trainobs.mechanisms.Mechanism. Received: "
            f"{mechanism!r}. Write a class whose base is Mechanism."
        )
    cause = getattr(mechanism, "cause", None)  # a class given to the decorator may have none
    if not isinstance(cause, str) or not cause.isidentifier():
        raise InvalidArgument(
            f"{mechanism.__name__}: `cause` must be a word such as 'dead_activation'. Received: {cause!r}."
        )
    known = _REGISTERED.setdefault(cause, [])
    known[:] = [other for other in known if _name_of(other) != _name_of(mechanism)]
    known.append(mechanism)
    return mechanism


def unregister_mechanism(mechanism: type[Mechanism]) -> None:
    """Take a mechanism back."""
    known = _REGISTERED.get(mechanism.cause, [])
    known[:] = [other for other in known if other is not mechanism]
    if not known:
        _REGISTERED.pop(mechanism.cause, None)


def registered_mechanisms() -> tuple[type[Mechanism], ...]:
    """All classes with a cause, by rank; equal ranks in the order of their names."""
    classes = [mechanism for same in _REGISTERED.values() for mechanism in same]
    return tuple(sorted(classes, key=lambda mechanism: (mechanism.rank, mechanism.__name__)))


def _name_of(mechanism: type[Mechanism]) -> tuple[str, str]:
    return mechanism.__module__, mechanism.__qualname__
