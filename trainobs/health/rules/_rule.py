"""What a rule is, and those that exist."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterator, Mapping
from typing import ClassVar

from trainobs.errors import InvalidArgument
from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health._weight_health import WeightHealth


class Rule(abc.ABC):
    """Compares figures of a check with a threshold, and says what is wrong and what to do about it.

    A subclass with `remedies` is registered by its class statement: from then on every check asks it. It
    takes no arguments. Its docstring is its entry in docs/health.md, with paragraphs that begin with
    "Findings:", "Threshold:" and "Source:".

    Attributes
    ----------
    remedies : mapping of str to str
        The names of the findings that the rule can make (their `cause`), with what to do about each.
    rank : int
        Which of two findings of the same severity comes first: the one with the lower number.

    Examples
    --------
    >>> class WideActivations(Rule):
    ...     remedies = {"wide_activations": "Normalise before the layer."}
    ...
    ...     def findings(self, measured):
    ...         for weight in measured.weights:
    ...             std = weight.activation_std
    ...             if std > 100:
    ...                 text = f"the activations of {weight.layer} spread by {std:.3g}"
    ...                 yield self.finding(
    ...                     "wide_activations", "warning", text, value=std, threshold=100, weight=weight
    ...                 )
    >>> WideActivations().finding("wide_activations", "info", "it is wide", value=1, threshold=0).evidence
    'It is wide.'
    >>> unregister_health_rule(WideActivations)
    """

    remedies: ClassVar[Mapping[str, str]]
    rank: ClassVar[int] = 100

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "remedies" in vars(cls):
            register_health_rule(cls)

    @abc.abstractmethod
    def findings(self, measured: Measured) -> Iterator[Finding]:
        """What is wrong, made with `finding`; nothing if all is well.

        Parameters
        ----------
        measured : Measured
            The figures of one check. A figure that is not known is nan: no comparison holds.
        """

    def finding(
        self,
        cause: str,
        severity: str,
        evidence: str,
        *,
        value: float,
        threshold: float,
        weight: WeightHealth | None = None,
    ) -> Finding:
        """A finding of a weight, or of the whole model.

        Parameters
        ----------
        cause : str
            One of `remedies`.
        severity : {"error", "warning", "info"}
        evidence : str
            A sentence with the numbers, without its capital and full stop.
        value, threshold : float
            The figure, and what it was compared with.
        weight : WeightHealth, optional
            The weight that it speaks of.
        """
        return Finding(
            severity=severity,
            cause=cause,
            layer="" if weight is None else weight.layer,
            share=float("nan"),
            affects=(),
            evidence=f"{evidence[0].upper()}{evidence[1:]}.",
            remedy=self.remedies[cause],
            weight="" if weight is None else weight.weight,
            value=float(value),
            threshold=float(threshold),
        )


#: By module and name: a class that is defined again takes the place of the older one.
_REGISTERED: dict[tuple[str, str], type[Rule]] = {}


def register_health_rule(rule: type[Rule]) -> type[Rule]:
    """Make a rule known; the class statement of a subclass with `remedies` does it by itself.

    Parameters
    ----------
    rule : type
        A subclass of `Rule` with causes of its own. A class that was registered under the same name, from a
        module of the same name, is replaced: a notebook's cell may run twice.

    Returns
    -------
    type
        The same class, so that it can be a decorator.

    Raises
    ------
    InvalidArgument
        If it is no such class, or another rule has one of its causes.
    """
    _check_form(rule)
    for name, other in _REGISTERED.items():
        taken = sorted(set(other.remedies) & set(rule.remedies))
        if taken and name != _name_of(rule):
            raise InvalidArgument(
                f"{rule.__name__}: the cause {taken[0]!r} is that of the rule {other.__name__}. Choose "
                f"another name in `remedies`."
            )
    _REGISTERED[_name_of(rule)] = rule
    return rule


def unregister_health_rule(rule: type[Rule]) -> None:
    """Take a rule back: checks don't ask it any more."""
    if _REGISTERED.get(_name_of(rule)) is rule:
        del _REGISTERED[_name_of(rule)]


def registered_rules() -> tuple[type[Rule], ...]:
    """All rules by rank; those of the same rank in the order in which they came."""
    return tuple(sorted(_REGISTERED.values(), key=lambda rule: rule.rank))


def _name_of(rule: type[Rule]) -> tuple[str, str]:
    return rule.__module__, rule.__qualname__


def _check_form(rule: object) -> None:
    if not (isinstance(rule, type) and issubclass(rule, Rule)):
        raise InvalidArgument(
            f"`register_health_rule` takes a subclass of trainobs.health.Rule. Received: {rule!r}. Write a "
            f"class whose base is Rule."
        )
    if rule.findings is Rule.findings:
        raise InvalidArgument(
            f"{rule.__name__} has no method `findings(self, measured)`, which every health rule needs."
        )
    if any(p.default is p.empty for p in inspect.signature(rule).parameters.values()):
        raise InvalidArgument(
            f"{rule.__name__} takes arguments: {inspect.signature(rule)}. A health rule is made without any; "
            f"keep its numbers in class attributes."
        )
    _check_remedies(rule)


def _check_remedies(rule: type[Rule]) -> None:
    remedies = getattr(rule, "remedies", None)  # a class given to the decorator may have none
    if not isinstance(remedies, Mapping) or not remedies or not all(map(_is_pair_of_text, remedies.items())):
        raise InvalidArgument(
            f"{rule.__name__}: `remedies` must be a dict with an entry for each finding, its name and what "
            f"to do about it. Received: remedies={remedies!r}."
        )


def _is_pair_of_text(pair: tuple[object, object]) -> bool:
    return all(isinstance(text, str) and text for text in pair)
