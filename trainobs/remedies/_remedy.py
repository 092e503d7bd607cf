"""What a remedy is: one change of model or data that may remove findings."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import ClassVar

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import Mechanism
from trainobs.remedies._situation import Situation
from trainobs.remedies._treatment import Treatment


class Remedy(abc.ABC):
    """A change that may help against some causes.

    A subclass with a `name` is registered by its class statement; it is made without arguments. The first
    line of its docstring is its entry in docs/remedies.md.

    Attributes
    ----------
    name : str
        What mechanisms list in their `treatments`.
    against : tuple of str
        Causes that it is tried against, behind the remedies that the mechanism itself lists.
    """

    name: ClassVar[str]
    against: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            register_remedy(cls)

    @abc.abstractmethod
    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """What to do about a mechanism; nothing where the remedy does not fit.

        Parameters
        ----------
        mechanism : Mechanism
            What the diagnosis says: `DeadActivation` with its `reason`, say.
        situation : Situation
            What the report knows of the layers around it.

        Yields
        ------
        Treatment
            One or several, in the order in which they are tried.
        """


_REGISTERED: dict[str, type[Remedy]] = {}


def register_remedy(remedy: type[Remedy]) -> type[Remedy]:
    """Make a remedy known; the class statement of a subclass with a `name` does it by itself.

    Parameters
    ----------
    remedy : type
        A subclass of `Remedy` with a `name` and a `prescribe`. A class that was registered under the same
        name, from a module of the same name, is replaced: a notebook's cell may run twice.

    Returns
    -------
    type
        The same class, so that it can be a decorator.

    Raises
    ------
    InvalidArgument
        If it is no such class, or another remedy has its name.
    """
    if not (isinstance(remedy, type) and issubclass(remedy, Remedy)):
        raise InvalidArgument(
            f"`register_remedy` takes a subclass of trainobs.remedies.Remedy. Received: {remedy!r}. Write a "
            f"class whose base is Remedy."
        )
    _check(remedy)
    known = _REGISTERED.get(remedy.name)
    if known is not None and _home_of(known) != _home_of(remedy):
        raise InvalidArgument(
            f"{remedy.__name__}: {known.__module__}.{known.__qualname__} is called {remedy.name!r} already. "
            f"Choose another `name`, or take the other one back with `unregister_remedy`."
        )
    _REGISTERED[remedy.name] = remedy
    return remedy


def _check(remedy: type[Remedy]) -> None:
    name = getattr(remedy, "name", None)  # a class given to the decorator may have none
    if not (isinstance(name, str) and name.strip()):
        raise InvalidArgument(
            f"{remedy.__name__}: `name` must be some words such as 'swap activation'. Received: {name!r}."
        )
    if not (isinstance(remedy.against, tuple) and all(isinstance(c, str) for c in remedy.against)):
        raise InvalidArgument(
            f"{remedy.__name__}: `against` must be a tuple of causes such as ('dead_activation',). Received: "
            f"{remedy.against!r}."
        )
    if remedy.prescribe is Remedy.prescribe:
        raise InvalidArgument(f"{remedy.__name__} has no `prescribe`: write what it does about a mechanism.")


def unregister_remedy(remedy: type[Remedy]) -> None:
    """Take a remedy back."""
    if _REGISTERED.get(remedy.name) is remedy:
        del _REGISTERED[remedy.name]


def registered_remedies() -> tuple[type[Remedy], ...]:
    """All remedies, in the order in which they were registered."""
    return tuple(_REGISTERED.values())


def remedies_against(mechanism: Mechanism) -> tuple[type[Remedy], ...]:
    """What is tried against a mechanism, in order: what it lists itself, then what says that it helps.

    Raises
    ------
    InvalidArgument
        If the mechanism lists a remedy that does not exist.
    """
    unknown = [name for name in mechanism.ordered_treatments if name not in _REGISTERED]
    if unknown:
        raise InvalidArgument(
            f"{type(mechanism).__name__}: `treatments` lists {unknown}, but no remedy has such a name. There "
            f"are: {list(_REGISTERED)}."
        )
    listed = [_REGISTERED[name] for name in mechanism.ordered_treatments]
    others = [remedy for remedy in _REGISTERED.values() if mechanism.cause in remedy.against]
    return tuple(dict.fromkeys([*listed, *others]))


def _home_of(remedy: type[Remedy]) -> tuple[str, str]:
    return remedy.__module__, remedy.__qualname__
