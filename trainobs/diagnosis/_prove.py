"""Each error or warning is tried out, where a model is at hand: proved, refuted, or not to be told.

What a mechanism calls its counterfactual is changed, and nothing else; if at least half (`returned`) of the
gradients that it is said to hold come back, it is why they were lost. One that is refuted gives way to the
next candidate, and at last to `unexplained`.
"""

from __future__ import annotations

import dataclasses
import math

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.diagnosis._besides import mechanism_at
from trainobs.diagnosis._merge import Traces
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._trials import Changes, Held, Trials, said
from trainobs.mechanisms import Key, Mechanism, Refuted, every_layer_standardised


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


Proofs = dict[Key, Proof]


def prove(traces: Traces, case: Case) -> tuple[Traces, Proofs]:
    """Traces without what was refuted, and what the trials say of the others; none without a model."""
    roots = traces.roots()
    to_try = {key: root for key, root in roots.items() if severity_of(root) != "info"}
    if case.try_out is None or not to_try:
        return traces, {}
    prover = _Prover(traces, case, Trials(case, case.try_out), [root.mechanism for root in roots.values()])
    proofs: Proofs = {}
    for key, root in to_try.items():
        mechanism, proof = prover.settled(root)
        if mechanism.key != key:
            traces = _exchanged(traces, key, mechanism)
        proofs.setdefault(mechanism.key, proof)
    return traces, proofs


def severity_of(root: Origin) -> str:
    """Of a finding that is made of an origin."""
    return "info" if root.is_joint else root.mechanism.severity


def _exchanged(traces: Traces, key: Key, mechanism: Mechanism) -> Traces:
    """The traces, with another mechanism in place of that of a key."""
    return traces.mapped(lambda origin: origin.by(mechanism) if origin.key == key else origin)


class _Prover:
    """Judges the findings of one report.

    Parameters
    ----------
    traces : Traces
    case : Case
    trials : Trials
    mechanisms : list of Mechanism
        Those of all findings.
    """

    def __init__(self, traces: Traces, case: Case, trials: Trials, mechanisms: list[Mechanism]) -> None:
        self._traces, self._case, self._trials = traces, case, trials
        self._enough = case.thresholds.returned
        found = {mechanism.key: mechanism.counterfactual(case) for mechanism in mechanisms}
        self._changes = {key: change for key, change in found.items() if isinstance(change, Counterfactual)}
        self._mechanisms = {mechanism.key: mechanism for mechanism in mechanisms}

    def settled(self, root: Origin) -> tuple[Mechanism, Proof]:
        """The first candidate that is not refuted, and what was found of it."""
        held = self._held(root.mechanism)
        refuted: list[tuple[Mechanism, str]] = []
        candidate: Mechanism | None = root.mechanism
        while candidate is not None:
            proof = self._judged(candidate, held)
            if proof.proved is not False:
                return candidate, proof
            refuted.append((candidate, proof.told))
            candidate = candidate.instead(self._case)
        other = self._other_that_holds(root.key, held)
        if other is not None:
            return other
        first, told = refuted[0]
        unexplained = Refuted(first.layer, first.cause, first.evidence(), told)
        return unexplained, Proof(None, "")

    def _held(self, mechanism: Mechanism) -> Held:
        """The weights that a mechanism is said to hold; else those of its layer that have lost theirs."""
        walked = self._traces.walked.items()
        held = {key: o.share for key, origins in walked for o in origins if o.key == mechanism.key}
        if held:
            return held
        own = {key: f for key, f in self._case.weights.items() if f.info.layer == mechanism.layer}
        limit = self._case.thresholds.affected
        return {
            key: 1.0
            for key, f in own.items()
            if f.info.trainable and f.info.connected and f.used_near_zero > limit
        }

    def _judged(self, mechanism: Mechanism, held: Held) -> Proof:
        """What the counterfactual of a mechanism says of the weights that are held."""
        change = mechanism.counterfactual(self._case)
        if isinstance(change, Untried):
            return _untold(change)
        if mechanism.explains_output and self._case.loss_is_silent:
            return self._of_silent_loss(change)
        if not held:
            return _untold(Untried("it keeps less than half of the gradients of any layer near zero"))
        part = self._trials.returned((change,), held)
        if isinstance(part, Untried):
            return _untold(part)
        if part >= self._enough:
            return Proof(True, f"With {change}, {part:.0%} of these gradients return.")
        return self._of_few(mechanism, change, part, held)

    def _of_silent_loss(self, change: Counterfactual) -> Proof:
        """What silences a loss is proved if the loss sends a gradient without it."""
        sent = self._trials.g_out((change,))
        if isinstance(sent, Untried):
            return _untold(sent)
        if not math.isfinite(sent):
            return _untold(Untried(f"with {change}, values are NaN or infinite"))
        told = f"With {change}, the loss sends a gradient of {sent:.2g} per position."
        return Proof(sent > self._case.near_zero.gradient_floor, told)

    def _of_few(self, mechanism: Mechanism, change: Counterfactual, alone: float, held: Held) -> Proof:
        """Where few return: more may not be able to on this batch, or another finding holds them too.

        How many can is seen with all findings mended, and all layers standardised besides.
        """
        found = (*self._changes.items(), *self._besides(mechanism.key).items())
        others = tuple(dict.fromkeys(c for key, c in found if key != mechanism.key and c != change))
        healthy = every_layer_standardised(self._case)
        besides = (healthy,) if isinstance(healthy, Counterfactual) and healthy != change else ()
        most = self._trials.returned((change, *others, *besides), held)
        if isinstance(most, Untried):
            return _untold(most)
        if alone >= self._enough * most:
            return self._of_those_that_can(change, alone, max(most, alone))
        return self._with_others(change, others, alone, most, held)

    def _besides(self, key: Key) -> dict[Key, Counterfactual]:
        """The changes of what alone would keep the same gradients near zero, and is no finding."""
        origins = (o for found in self._traces.walked.values() for o in found if o.key == key)
        others = dict.fromkeys(other for origin in origins for other in origin.also)
        mechanisms = (mechanism_at(self._case, other) for other in others if other not in self._mechanisms)
        found = {m.key: m.counterfactual(self._case) for m in mechanisms if m is not None}
        return {key: change for key, change in found.items() if isinstance(change, Counterfactual)}

    def _of_those_that_can(self, change: Counterfactual, alone: float, most: float) -> Proof:
        told = f"With {change}, {alone:.0%} of these gradients return, where {most:.0%} can on this batch."
        if alone >= self._enough**2:
            return Proof(True, told)
        if alone > 0:
            return _untold(
                Untried("most of these gradients stay near zero on this batch, whatever is changed")
            )
        return self._unless_another_holds(Proof(False, f"With {change}, none of these gradients return."))

    def _with_others(
        self, change: Counterfactual, others: Changes, alone: float, most: float, held: Held
    ) -> Proof:
        """Where one change is not enough, several findings may hold the same gradients."""
        refuted = Proof(False, f"With {change}, only {alone:.0%} of these gradients return.")
        if not others:
            return self._unless_another_holds(refuted)
        together = self._trials.returned((change, *others), held)
        without = self._trials.returned(others, held)
        if isinstance(together, Untried) or isinstance(without, Untried):
            return _untold(Untried("several findings hold the same gradients, and can't be changed together"))
        if together < self._enough * most:
            return self._unless_another_holds(refuted)
        if without >= self._enough * most:
            return refuted
        told = f"With {said((change, *others))}, {together:.0%} of these gradients return; without the first"
        return Proof(True, f"{told}, {without:.0%}.")

    def _unless_another_holds(self, refuted: Proof) -> Proof:
        """A finding that can't be changed, and holds gradients, may hold the same."""
        holding = {origin.key for origins in self._traces.walked.values() for origin in origins}
        fixed = [key for key in self._mechanisms if key in holding and key not in self._changes]
        if not fixed:
            return refuted
        other = " and ".join(f"{cause} at {layer}" for cause, layer in fixed)
        return _untold(Untried(f"{other} can't be changed, and may hold the same gradients"))

    def _other_that_holds(self, key: Key, held: Held) -> tuple[Mechanism, Proof] | None:
        """Another finding whose change brings the same gradients back."""
        for other, change in self._changes.items():
            part = self._trials.returned((change,), held) if other != key else 0.0
            if not isinstance(part, Untried) and part >= self._case.thresholds.returned:
                return self._mechanisms[other], Proof(
                    True, f"With {change}, {part:.0%} of these gradients return."
                )
        return None


def _untold(untried: Untried) -> Proof:
    return Proof(None, f"Not tried: {untried.reason}.")
