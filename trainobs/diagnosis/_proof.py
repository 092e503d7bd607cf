"""What trials say of a mechanism: it is proved, refuted, or neither."""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.diagnosis._trials import Changes, Held, Trials, said
from trainobs.mechanisms import Mechanism, every_layer_standardised, percent


@dataclasses.dataclass(frozen=True)
class Proof:
    """What a trial says of a finding.

    Attributes
    ----------
    proved : bool or None
        Whether the counterfactual brings the gradients back; None where that can't be told.
    told : str
        A sentence: what was changed and what came of it, or why nothing can be told.
    """

    proved: bool | None
    told: str

    @property
    def strength(self) -> int:
        """Proved is more than not known, and that is more than refuted."""
        return {True: 2, None: 1, False: 0}[self.proved]


class Judge:
    """Asks trials about mechanisms.

    Parameters
    ----------
    case : Case
    trials : Trials
    """

    def __init__(self, case: Case, trials: Trials) -> None:
        self._case, self._trials = case, trials
        self._enough = case.thresholds.returned

    def judged(self, mechanism: Mechanism, held: Held, others: Changes) -> Proof:
        """Whether a mechanism holds these weights.

        Parameters
        ----------
        mechanism : Mechanism
        held : dict of str to float
            Of each weight that it is said to hold, the part of the lost gradients.
        others : tuple of Counterfactual
            What may hold the same gradients.
        """
        change = mechanism.counterfactual(self._case)
        if isinstance(change, Untried):
            return _untried(change.reason)
        if mechanism.explains_output and self._case.loss_is_silent:
            return self._of_silent_loss(change)
        if not held:
            return _untried("it keeps less than half of the gradients of any layer near zero")
        others = tuple(other for other in others if other != change)
        own = {
            key: part for key, part in held.items() if self._case.weights[key].info.layer == mechanism.layer
        }
        proofs = [self._of(change, others, held, "of these gradients")]
        if own and proofs[0].proved is not True:  # others may be held by more than that, its own by it
            proofs.append(self._of(change, others, own, f"of the gradients of {mechanism.layer} itself"))
        return max(proofs, key=lambda proof: proof.strength)

    def _of_silent_loss(self, change: Counterfactual) -> Proof:
        """What silences a loss is proved if the loss sends a gradient without it."""
        sent = self._trials.g_out((change,))
        if isinstance(sent, Untried):
            return _untold(sent)
        if not math.isfinite(sent):
            return _untold(Untried(f"with {change}, values are NaN or infinite"))
        told = f"With {change}, the loss sends a gradient of {sent:.2g} per position."
        return Proof(sent > self._case.near_zero.gradient_floor, told)

    def _of(self, change: Counterfactual, others: Changes, held: Held, whose: str) -> Proof:
        """What a change says of weights: alone; against what can return at all; and with others."""
        alone = self._trials.returned((change,), held)
        if isinstance(alone, Untried):
            return _untold(alone)
        told = f"With {change}, {_part(alone)} {whose} return"
        if alone >= self._enough:
            return Proof(True, f"{told}.")
        most = self._most((change, *others), held)
        if isinstance(most, Untried):
            return _untold(
                Untried(f"with {change}, {_part(alone)} {whose} return; how many can is not known")
            )
        if alone >= self._enough * most:
            return self._of_those_that_can(told, alone, max(most, alone))
        return self._besides_others(change, others, (alone, most), held, whose)

    def _most(self, changes: Changes, held: Held) -> float | Untried:
        """How many gradients can return at all: with all mended, and all layers standardised besides."""
        healthy = every_layer_standardised(self._case)
        besides = (healthy,) if isinstance(healthy, Counterfactual) and healthy not in changes else ()
        return self._trials.returned((*changes, *besides), held)

    def _of_those_that_can(self, told: str, alone: float, most: float) -> Proof:
        if alone >= self._enough**2:
            return Proof(True, f"{told}, where {percent(most)} can on this batch.")
        return _untold(Untried("most of these gradients stay near zero on this batch, whatever is changed"))

    def _besides_others(
        self, change: Counterfactual, others: Changes, parts: tuple[float, float], held: Held, whose: str
    ) -> Proof:
        """Where one change is not enough, several mechanisms may hold the same gradients."""
        alone, most = parts
        together = self._trials.returned((change, *others), held) if others else alone
        without = self._trials.returned(others, held) if others else 0.0
        if isinstance(together, Untried) or isinstance(without, Untried):
            return _untold(Untried("several findings hold the same gradients, and can't be changed together"))
        if together >= self._enough * most > without:
            told = f"With {said((change, *others))}, {_part(together)} {whose} return; without the first,"
            return Proof(True, f"{told} {_part(without)}.")
        told = f"With {change}, {_part(alone, 'only ')} {whose} return"
        if max(alone, together - without) >= self._enough**2 * most:
            return _untold(
                Untried(f"{told[0].lower()}{told[1:]}, of the {percent(most)} that can on this batch")
            )
        return Proof(False, f"{told}.")


def _part(share: float, before: str = "") -> str:
    """How many gradients, in words: "none", "less than 1%", "only 25%"."""
    told = percent(share) if share else "none"
    return f"{before}{told}" if told[0].isdigit() else told


def _untried(reason: str) -> Proof:
    return Proof(None, f"Not tried: {reason}.")


def _untold(untried: Untried) -> Proof:
    return Proof(None, f"Not proved: {untried.reason}.")


def but_another_may_hold(other: str) -> Proof:
    """Not refuted, where a finding that can't be changed may hold the same gradients."""
    return _untold(Untried(f"{other} can't be changed, and may hold the same gradients"))
