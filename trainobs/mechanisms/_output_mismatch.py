"""Output activations, losses and targets that don't fit each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, LogitsRead, SquaredError, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._output_rules import PROBABILITIES, Broken, Targets, broken_rule
from trainobs.records import DATA, NodeRecord


@dataclasses.dataclass(frozen=True)
class OutputMismatch(Mechanism):
    """Output activation, loss and targets can't pass a gradient together.

    Severity: error; warning where a gradient is passed, but the predictions are not what the loss makes of
    them: Keras reads the logits before an activation that is not expected, a sigmoid is trained as a softmax,
    logits are bounded

    When: softmax, or a crossentropy over classes, over one unit; targets that are numbers of classes on one
    unit, or outside the activation's range; a crossentropy of probabilities on outputs that are none, so that
    it clips them (most wrong predictions, or all that leave (0, 1)); a sigmoid under a crossentropy over
    classes; a crossentropy that expects logits on outputs that can't take all values; a sigmoid or softmax
    that is applied twice, or where the loss expects logits.

    Where: the output layer.

    Parameters
    ----------
    rule : {"single", "classes", "range", "clipped", "cut", "sigmoid", "logits"}
        Which of the first seven it is.
    why : str
        The same in words.
    low, high : float
        Smallest and largest target; nan where they are no numbers.
    targets : {"", "binary", "classes", "several", "real"}
        What the targets are: 0 and 1, numbers of classes, several classes at once, or any numbers.
    """

    rule: str
    why: str
    low: float
    high: float
    targets: str = ""

    cause = "output_mismatch"
    treatments = ("fix the head",)
    on_the_way = True
    explains_output = True
    rank = 10

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Outputs that a loss reads."""
        for output in case.statistics.outputs:
            site = case.site_of_output(output)
            broken = None if site is None else broken_rule(output, site, case.thresholds)
            if site is not None and broken is not None and cls.does(broken):
                targets, low, high = Targets.of(output).kind, output.target_low, output.target_high
                yield cls(site.info.layer, broken.rule, broken.why, low, high, targets)

    @classmethod
    def does(cls, broken: Broken) -> bool:
        """Whether a broken rule does what this class is for."""
        return broken.stops and not broken.breaks

    @property
    def classes(self) -> int:
        """How many classes targets that are numbers of classes have."""
        return 0 if math.isnan(self.high) else int(self.high) + 1

    def evidence(self) -> str:
        """What does not fit."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        reach = f" Targets reach from {self.low:g} to {self.high:g}." if known else ""
        return f"At {self.layer}, {self.why}.{reach}"

    def advice(self) -> str:
        """What to try first, depending on the rule and on what the targets are."""
        if self.rule == "range":
            return "Use a linear output, or scale the targets into the activation's range."
        if self.rule in ("clipped", "cut"):
            return "Use a loss with from_logits=True, or an output that gives probabilities."
        if self.rule == "logits":
            return "Leave the activation out: logits have to be free to take any value."
        if self.rule == "sigmoid" and self.targets != "several":
            return "Use softmax with this loss: each sample belongs to one class."
        if self.rule == "sigmoid":
            return "Use binary_crossentropy: each class is a yes or no of its own."
        return self._advice_for_one_unit()

    def _advice_for_one_unit(self) -> str:
        if self.targets == "real":
            return "Use a linear output with the mean squared error: the targets are no classes."
        if self.targets == "classes":
            return f"Use {self.classes} softmax units with sparse_categorical_crossentropy."
        return "Use one sigmoid unit with binary_crossentropy (or two softmax units)."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """A loss that fits: it reads logits, or is the squared error of a linear output."""
        by_logits = self.rule in ("clipped", "cut", "sigmoid", "logits")
        return LogitsRead(self.layer) if by_logits else SquaredError(self.layer)


class MisreadOutput(OutputMismatch):
    """Predictions are not what the loss makes of them (see `OutputMismatch`)."""

    cause = "output_mismatch"
    explains_output = False
    rank = 35

    @classmethod
    def does(cls, broken: Broken) -> bool:
        """Gradients pass."""
        return not broken.stops

    @property
    def severity(self) -> str:
        """A warning: the model trains, though not what it predicts."""
        return "warning"


class BrokenOutput(OutputMismatch):
    """A loss divides by what an output does not keep from being 0 (see `OutputMismatch`)."""

    cause = "output_mismatch"
    alone = True
    rank = -10

    @classmethod
    def does(cls, broken: Broken) -> bool:
        """The loss is NaN."""
        return broken.breaks

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: what NaN would have been is not known."""
        return Untried("no gradient can be compared with NaN")


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
            if (
                output.node == DATA
                or output.changed
                or case.flow.records[output.node].activation not in PROBABILITIES
            ):
                continue
            record = case.flow.records[output.node]
            before = _activation_before(case, record)
            if case.flow.site_at(output.node) is None and before in PROBABILITIES:
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

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The loss reads what is before the activation."""
        return LogitsRead(self.layer)


def _activation_before(case: Case, record: NodeRecord) -> str:
    makers = [producer for producer in record.producers if producer != DATA]
    return case.flow.records[makers[0]].activation if makers else ""
