"""Output activations, losses and targets that don't fit each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.records import DATA, NodeRecord
from trainobs.statistics import OutputStatistics

#: Activations that make probabilities of logits.
_PROBABILITIES = ("sigmoid", "softmax")
_ADVICE = {
    "single": "Use one sigmoid unit (or two softmax units).",
    "range": "Use a linear output, or scale the targets into the activation's range.",
    "clipped": "Use a loss with from_logits=True, or an output that gives probabilities.",
}


@dataclasses.dataclass(frozen=True)
class OutputMismatch(Mechanism):
    """Output activation, loss and targets can't pass a gradient together.

    Severity: error; warning where Keras reads the logits before an activation that is not expected

    When: softmax over one unit; targets outside the activation's range; a loss that clips probabilities, and
    outputs outside of (0, 1); a sigmoid or softmax that is applied twice, or where the loss expects logits.

    Where: the output layer.

    Parameters
    ----------
    rule : {"single", "range", "clipped"}
        Which of the first three it is.
    why : str
        The same in words.
    low, high : float
        Smallest and largest target; nan where they are no numbers.
    """

    rule: str
    why: str
    low: float
    high: float

    cause = "output_mismatch"
    treatments = ("fix the head",)
    on_the_way = True
    explains_output = True
    rank = 10

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Outputs that a loss reads."""
        for output in case.statistics.outputs:
            site = case.flow.site_of_activation(output.node) if output.node != DATA else None
            rule, why = ("", "") if site is None else _broken_rule(output, site)
            if site is not None and rule:
                yield cls(site.info.layer, rule, why, output.target_low, output.target_high)

    def evidence(self) -> str:
        """What does not fit."""
        reach = "" if math.isnan(self.low) else f" Targets reach from {self.low:g} to {self.high:g}."
        return f"At {self.layer}, {self.why}.{reach}"

    def advice(self) -> str:
        """What to try first, depending on the rule."""
        return _ADVICE[self.rule]


@dataclasses.dataclass(frozen=True)
class AppliedTwice(Mechanism):
    """Probabilities are made of probabilities, or where the loss expects logits (see `OutputMismatch`).

    Parameters
    ----------
    why : str
    healed : bool
        Whether Keras reads the logits before the activation.
    """

    why: str
    healed: bool

    cause = "output_mismatch"
    treatments = OutputMismatch.treatments
    on_the_way = True
    rank = 35

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Outputs of an activation that makes probabilities."""
        for output in case.statistics.outputs:
            if output.node == DATA or case.flow.records[output.node].activation not in _PROBABILITIES:
                continue
            record = case.flow.records[output.node]
            before = _activation_before(case, record)
            if case.flow.site_at(output.node) is None and before in _PROBABILITIES:
                why = f"{record.activation} is applied to the probabilities that {before} has made already"
                yield cls(record.layer, why, False)
            elif output.from_logits and "crossentropy" in output.loss_name:
                yield cls._where_logits_belong(record, output.logits)

    @classmethod
    def _where_logits_belong(cls, record: NodeRecord, healed: bool) -> AppliedTwice:
        why = f"the loss expects logits (from_logits=True), but {record.activation} was applied"
        noticed = "; Keras noticed, and read the logits before it" if healed else ""
        return cls(record.layer, why + noticed, healed)

    @property
    def severity(self) -> str:
        """See `OutputMismatch`."""
        return "warning" if self.healed else "error"

    def evidence(self) -> str:
        """What does not fit."""
        return f"At {self.layer}, {self.why}."

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Leave one of the two out: the activation, or from_logits=True."


def _activation_before(case: Case, record: NodeRecord) -> str:
    makers = [producer for producer in record.producers if producer != DATA]
    return case.flow.records[makers[0]].activation if makers else ""


def _broken_rule(output: OutputStatistics, site: SiteFigures) -> tuple[str, str]:
    """What does not fit, as a keyword and in words; empty if all does."""
    activation, loss = site.info.activation, output.loss_name
    if activation.name == "softmax" and output.elements == 1:
        return "single", "softmax over one unit is always 1"
    low, high = activation.range
    if loss and "sparse" not in loss and (output.target_low < low or output.target_high > high):
        return "range", f"targets lie outside the range [{low:g}, {high:g}] of {activation.name}"
    clips = "crossentropy" in loss and not output.logits and not output.from_logits
    if clips and (output.low < 0 or output.high > 1):
        return "clipped", "the loss clips everything outside (0, 1), and with it the gradient"
    return "", ""
