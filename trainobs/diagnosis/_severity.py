"""How severe a finding is: severity follows the symptom."""

from __future__ import annotations

from trainobs.analysis import Case
from trainobs.diagnosis._merge import Traces
from trainobs.diagnosis._origin import Origin


def severity_of(root: Origin, traces: Traces, case: Case) -> str:
    """Of a layer that learns next to nothing, or of harm that shows by itself; all else only informs."""
    mechanism = root.mechanism
    if mechanism.only_informs:
        return "info"
    held = (w for w, origins in traces.walked.items() if any(origin.key == root.key for origin in origins))
    suffering = case.surely_suffering if mechanism.may_be_chance else case.suffering
    suffers = not suffering.isdisjoint(case.weights[weight].info.layer for weight in held)
    if suffers and mechanism.severity == "info":
        return "error"
    shows = root in traces.direct
    return mechanism.severity if suffers or shows or mechanism.always_harms else "info"
