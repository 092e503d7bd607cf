"""All of a diagnosis: see, walk, merge, locate, prove, rank."""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case
from trainobs.diagnosis._locate import located
from trainobs.diagnosis._merge import Traces, merge, one_cut_is_one_finding, zeros_follow_the_cut
from trainobs.diagnosis._origin import Origin
from trainobs.diagnosis._prove import prove
from trainobs.diagnosis._rank import rank
from trainobs.diagnosis._walk import Walk, see
from trainobs.findings import Finding
from trainobs.mechanisms import Key, Mechanism


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is wrong, and where each weight's gradient is lost.

    Attributes
    ----------
    findings : tuple of Finding
        The worst first.
    mechanisms : dict of (str, str) to Mechanism
        By cause and layer: those of the findings.
    origins : dict of str to tuple of Origin
        By key of the weight, the largest share first.
    """

    findings: tuple[Finding, ...]
    mechanisms: dict[Key, Mechanism]
    origins: dict[str, tuple[Origin, ...]]


def diagnose(case: Case) -> Diagnosis:
    """Find the mechanisms behind near-zero, exploding and broken gradients.

    Parameters
    ----------
    case : Case

    Returns
    -------
    Diagnosis
    """
    seen = see(case)
    alone = [mechanism for mechanism in seen if mechanism.alone]
    if alone:
        traces = Traces(tuple(map(Origin, alone)), {}, frozenset())
    else:
        walk = Walk(case)
        direct = (*map(Origin, seen), *walk.from_suspects(seen))
        traces = merge(Traces(direct, walk.from_lost_gradients(), asking(case)), case)
    traces = one_cut_is_one_finding(zeros_follow_the_cut(located(traces, case), case), case)
    traces, proofs = prove(traces, case)
    roots = traces.roots()
    mechanisms = {key: origin.mechanism for key, origin in roots.items()}
    return Diagnosis(rank(traces, case, proofs), mechanisms, traces.walked)


def asking(case: Case) -> frozenset[str]:
    """The weights with so many near-zero gradients that they need an explanation."""
    return frozenset(
        weight
        for weight, figures in case.weights.items()
        if figures.info.trainable
        and (not figures.info.connected or figures.used_near_zero > case.thresholds.near_zero_weights)
    )
