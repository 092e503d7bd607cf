"""What a rule is."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import ClassVar

from trainobs.findings import Finding
from trainobs.health._measured import Measured
from trainobs.health._weight_health import WeightHealth


class Rule(abc.ABC):
    """Holds figures of a check against a threshold, and says what is wrong and what to do about it.

    A subclass has `remedies` and `findings`, and takes no arguments. Its docstring says what is held against
    what, and the source of the threshold.

    Attributes
    ----------
    remedies : mapping of str to str
        The names of the findings that the rule can make (their `cause`), with what to do about each.

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
    """

    remedies: ClassVar[Mapping[str, str]]

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
            The figure, and what it was held against.
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


def words_for(measure: str) -> str:
    """What `Thresholds.vanishing_of` and `exploding_of` name, in a sentence."""
    return {"norm": "the gradient norm", "mean_abs": "the mean absolute gradient"}[measure]
