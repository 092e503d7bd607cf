"""What is wrong, as a table and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainobs.explanation._facts import Facts
from trainobs.explanation._quiet import quiet_texts
from trainobs.findings import COLUMNS, DTYPES, Finding
from trainobs.mechanisms import percent


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """A row per finding, in their order."""
    rows = [{name: getattr(finding, name) for name in COLUMNS} for finding in findings]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(DTYPES)


def on_the_way(findings: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """The findings that sit at a place on the gradient's way."""
    mechanisms = facts.diagnosis.mechanisms
    keys = zip(findings["cause"], findings["layer"], strict=True)
    return findings[np.array([mechanisms[key].on_the_way for key in keys], bool)]


def findings_text(findings: Sequence[Finding], facts: Facts) -> str:
    """A paragraph per finding; without any, why what is near zero is no fault."""
    if findings:
        return "\n".join(map(_paragraph, findings))
    lines = [line for text in quiet_texts(facts) for line in _indented(text)]
    return "\n".join(["No finding: nothing stops the gradients.", *lines])


def _paragraph(finding: Finding) -> str:
    told = [f"{percent(finding.share)} of all weights"] if finding.share > 0 else []
    told += ["proved"] if finding.proved else []
    besides = f" ({', '.join(told)})" if told else ""
    head = f"[{finding.severity}] {finding.cause} at {finding.layer}{besides}"
    lines = [head, *_indented(finding.evidence)]
    if finding.affects:
        lines += _indented(f"Also held down by it: {', '.join(finding.affects)}.")
    return "\n".join([*lines, *_indented(f"Try: {finding.remedy}")])


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="  ")
