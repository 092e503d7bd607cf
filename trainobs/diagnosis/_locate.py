"""Down to the user's line: mechanisms take a second look at the batch, where a model is at hand."""

from __future__ import annotations

import dataclasses

from trainobs.analysis import Case
from trainobs.diagnosis._merge import Traces
from trainobs.diagnosis._origin import Origin


def located(traces: Traces, case: Case) -> Traces:
    """The same traces, with mechanisms that know their place."""
    direct = tuple(_located(origin, case, None) for origin in traces.direct)
    walked = {
        key: tuple(_located(origin, case, case.weights[key].info.weight) for origin in origins)
        for key, origins in traces.walked.items()
    }
    return dataclasses.replace(traces, direct=direct, walked=walked)


def _located(origin: Origin, case: Case, weight: str | None) -> Origin:
    return dataclasses.replace(origin, mechanism=origin.mechanism.located(case, weight))
