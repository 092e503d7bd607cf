"""A loss that sends a far too large gradient, as its targets are large."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._mechanism import Mechanism
from trainobs.mechanisms._output_rules import broken_rule
from trainobs.records import DATA
from trainobs.statistics import OutputStatistics


@dataclasses.dataclass(frozen=True)
class LoudLoss(Mechanism):
    """The targets are so large that the loss sends a far too large gradient.

    Severity: warning

    When: g_out is above 100 (`exploding`), under one of Keras' losses, and the targets have an rms of 10
    (`large_input`) or more, with predictions that are not ten times larger still: of a squared error the
    gradient is as large as the targets are, and the first steps go as far. Where predictions are
    what is large, see `exploding`; where targets don't fit the output, `output_mismatch`.

    Where: the output layer.

    Parameters
    ----------
    g_out : float
        Size of the gradient per position.
    loss : float
        The mean loss.
    target_rms : float
        Root mean square of the targets.
    """

    g_out: float
    loss: float
    target_rms: float

    cause = "loud_loss"
    treatments = ("standardise targets", "clip gradients", "lower learning rate")
    on_the_way = True
    rank = 36

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """Outputs into which a loss sends such a gradient."""
        for output in case.statistics.outputs:
            site = None if output.node == DATA else case.flow.site_of_activation(output.node)
            if site is None or _is_explained(case, output):
                continue
            targets, limit = output.target_rms, case.thresholds.large_input
            predicted = case.flow.records[output.node].output.rms
            by_targets = bool(output.known_loss) and targets >= limit and predicted <= limit * targets
            if by_targets and case.thresholds.exploding < output.g_out < math.inf:
                yield cls(site.info.layer, output.g_out, case.statistics.loss, targets)

    @property
    def severity(self) -> str:
        """A warning: it may still train."""
        return "warning"

    @property
    def value(self) -> float:
        """g_out."""
        return self.g_out

    def threshold(self, case: Case) -> float:
        """The g_out that is too large."""
        return case.thresholds.exploding

    def evidence(self) -> str:
        """The sizes of gradient, loss and targets."""
        now = "" if math.isnan(self.loss) else f" (now {self.loss:.3g})"
        return (
            f"The loss{now} sends a gradient of {self.g_out:.3g} per position into "
            f"{self.layer}, where about 1 is usual: its targets have an rms of {self.target_rms:.3g}."
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Scale the targets to zero mean and unit variance, and scale the predictions back."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no gradient is lost."""
        return Untried("it speaks of gradients that are large, and none is lost by it")


def _is_explained(case: Case, output: OutputStatistics) -> bool:
    """Whether targets don't fit the output."""
    site = case.site_of_output(output)
    return site is not None and broken_rule(output, site, case.thresholds) is not None
