"""What a finding is: one row, of an explanation's `findings` and of a health check's.

The causes themselves, with their sentences, stand in `mechanisms`; those of a health check in `health/rules`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

#: The worst first.
SEVERITIES = ("error", "warning", "info")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes
    ----------
    severity : {"error", "warning", "info"}
    cause : str
        The mechanism of an explanation (docs/findings.md), or the rule of a health check (docs/health.md).
    layer : str
        The layer where it is; "" for the whole model.
    share : float
        Part of the model's weights whose gradients it keeps near zero; nan where that was not asked.
    affects : tuple of str
        Other layers that suffer from it.
    evidence : str
        A sentence with the numbers that show it.
    remedy : str
        What to try first.
    weight : str
        The path of the weight that it speaks of; "" where it speaks of a layer or the model.
    value, threshold : float
        The figure that decided, and what it was compared with; nan where no single figure did.
    proved : bool or None
        Whether the gradients come back in a trial on the same batch with this cause, and nothing else, taken
        away; None where that was not tried, or can't be.
    """

    severity: str
    cause: str
    layer: str
    share: float
    affects: tuple[str, ...]
    evidence: str
    remedy: str
    weight: str = ""
    value: float = math.nan
    threshold: float = math.nan
    proved: bool | None = None


#: The columns of every table of findings, in order.
COLUMNS = tuple(field.name for field in dataclasses.fields(Finding))
#: The types of those that are not text; the first ones are numbers, the last one is True, False or None.
DTYPES = {**dict.fromkeys(("share", "value", "threshold"), float), "proved": object}


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then the largest share; the order stays where both are the same."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), -_known(f.share)))


def _known(share: float) -> float:
    return 0.0 if math.isnan(share) else share
