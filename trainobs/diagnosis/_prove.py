"""Each error or warning is tried out, where a model is at hand: proved, refuted, or neither.

What a mechanism calls its counterfactual is changed, and nothing else; if at least half (`returned`) of the
gradients that it is said to hold come back, it is why they were lost. One that is refuted gives way to the
next candidate, and at last to `unexplained`.
"""

from __future__ import annotations

from trainobs.analysis import Case
from trainobs.counterfactuals import Counterfactual
from trainobs.diagnosis._besides import mechanism_at
from trainobs.diagnosis._merge import Traces
from trainobs.diagnosis._proof import Judge, Proof, but_another_may_hold
from trainobs.diagnosis._severity import severity_of
from trainobs.diagnosis._trials import Changes, Held, Trials
from trainobs.mechanisms import Key, Mechanism, Refuted

Proofs = dict[Key, Proof]
Settled = tuple[Mechanism, Proof]


def prove(traces: Traces, case: Case) -> tuple[Traces, Proofs]:
    """Traces without what was refuted, and what the trials say of the others; none without a model."""
    roots = traces.roots()
    to_try = {key: root for key, root in roots.items() if severity_of(root, traces, case) != "info"}
    if case.try_out is None or not to_try:
        return traces, {}
    prover = _Prover(traces, case, Judge(case, Trials(case, case.try_out)))
    proofs: Proofs = {}
    for key, root in to_try.items():
        mechanism, proof = prover.settled(root.mechanism)
        if mechanism.key != key:
            traces = _exchanged(traces, key, mechanism)
        proofs.setdefault(mechanism.key, proof)
    return traces, proofs


def _exchanged(traces: Traces, key: Key, mechanism: Mechanism) -> Traces:
    """The traces, with another mechanism in place of that of a key."""
    return traces.mapped(lambda origin: origin.by(mechanism) if origin.key == key else origin)


class _Prover:
    """Settles the findings of one report.

    Parameters
    ----------
    traces : Traces
    case : Case
    judge : Judge
    """

    def __init__(self, traces: Traces, case: Case, judge: Judge) -> None:
        self._traces, self._case, self._judge = traces, case, judge
        self._mechanisms = {key: root.mechanism for key, root in traces.roots().items()}
        self._changes = self._changes_of(self._mechanisms)

    def _changes_of(self, mechanisms: dict[Key, Mechanism]) -> dict[Key, Counterfactual]:
        """What the mechanisms would change, of those that would."""
        found = {key: mechanism.counterfactual(self._case) for key, mechanism in mechanisms.items()}
        return {key: change for key, change in found.items() if isinstance(change, Counterfactual)}

    def settled(self, mechanism: Mechanism) -> Settled:
        """The first candidate that is not refuted, and what was found of it."""
        held, others = self._held(mechanism), self._others(mechanism.key)
        candidate: Mechanism | None = mechanism
        proofs: list[Proof] = []
        while candidate is not None:
            proofs.append(self._judge.judged(candidate, held, others))
            if proofs[-1].proved is not False:
                return candidate, proofs[-1]
            candidate = candidate.instead(self._case)
        return self._by_another(mechanism, held) or self._at_last(mechanism, proofs[0])

    def _held(self, mechanism: Mechanism) -> Held:
        """The weights that a mechanism is said to hold; else those of its layer that have lost theirs."""
        walked = self._traces.walked.items()
        held = {key: o.share for key, origins in walked for o in origins if o.key == mechanism.key}
        own = {key: f for key, f in self._case.weights.items() if f.info.layer == mechanism.layer}
        limit = self._case.thresholds.affected
        asked = {key: f for key, f in own.items() if f.info.trainable and f.info.connected}
        return held or {key: 1.0 for key, f in asked.items() if f.used_near_zero > limit}

    def _others(self, key: Key) -> Changes:
        """The changes of all other findings, and of what alone would do the same and is no finding."""
        origins = (o for found in self._traces.walked.values() for o in found if o.key == key)
        besides = dict.fromkeys(other for origin in origins for other in origin.also)
        at = {other: mechanism_at(self._case, other) for other in besides if other not in self._mechanisms}
        known = {other: mechanism for other, mechanism in at.items() if mechanism is not None}
        changes = self._changes | self._changes_of(known)
        return tuple(dict.fromkeys(change for other, change in changes.items() if other != key))

    def _by_another(self, mechanism: Mechanism, held: Held) -> Settled | None:
        """Another finding that holds the same weights."""
        for key, other in self._mechanisms.items():
            proof = (
                self._judge.judged(other, held, ()) if key != mechanism.key and key in self._changes else None
            )
            if proof is not None and proof.proved:
                return other, proof
        return None

    def _at_last(self, mechanism: Mechanism, proof: Proof) -> Settled:
        """Unexplained; not refuted where a finding that can't be changed holds gradients, maybe these."""
        holding = {origin.key for origins in self._traces.walked.values() for origin in origins}
        fixed = [key for key in self._mechanisms if key in holding and key not in self._changes]
        if fixed:
            other = " and ".join(f"{cause} at {layer}" for cause, layer in fixed)
            return mechanism, but_another_may_hold(other)
        unexplained = Refuted(mechanism.layer, mechanism.cause, mechanism.evidence(), proof.told)
        return unexplained, Proof(None, "")
