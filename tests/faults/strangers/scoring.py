"""What trainobs says of a stranger's case: right first, half, wrong first or nothing; or a false alarm."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable

import keras
import pandas as pd
import tensorflow as tf

import trainobs
from tests.faults.strangers import (
    agents,
    autoencoders,
    finetuning,
    first_sight,
    gans,
    graphs,
    heads,
    images,
    losses,
    metric,
    physics,
    sequences,
    spiking,
    starts,
    tabular,
)
from tests.faults.strangers.cases import Built, Case, Finding
from tests.mechanisms.sentences import wrong_in_report

FAMILIES = (
    tabular,
    starts,
    heads,
    losses,
    images,
    sequences,
    autoencoders,
    gans,
    metric,
    agents,
    physics,
    graphs,
    spiking,
    finetuning,
    first_sight,
)
ALL: list[Case] = [case for family in FAMILIES for case in family.CASES]

BATCH = 512  # more than any case has: one batch


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The errors and warnings of a case, most severe first; or what was raised; and unsound sentences."""

    case: Case
    found: tuple[Finding, ...]
    raised: str = ""
    wrong: list[tuple[str, list[str]]] = dataclasses.field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Of a fault "right first", "half", "wrong first" or "nothing"; else "silent" or "false alarm"."""
        if not self.case.truth:
            return "false alarm" if self.found or self.raised else "silent"
        right = [any(_is(found, true) for true in self.case.truth) for found in self.found]
        if not right:
            return "wrong first" if self.raised else "nothing"
        return "right first" if right[0] else "half" if any(right) else "wrong first"

    @property
    def is_right(self) -> bool:
        """The fault comes first, or there is none and nothing is said."""
        return self.verdict in ("right first", "silent")


def _is(found: Finding, true: Finding) -> bool:
    return found[0] == true[0] and true[1] in ("*", found[1], found[1].rsplit("/", 1)[-1])


def build(case: Case) -> Built:
    """The same every time."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return case.make()


def judge(case: Case) -> Outcome:
    """Build a case, explain it, and compare; an exception of trainobs is an outcome too."""
    built = build(case)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = explained(built)
    except Exception as problem:
        return Outcome(case, (), f"{type(problem).__name__}: {problem}"[:200])
    told = report.findings[report.findings.severity != "info"]
    found = tuple(zip(told.cause, told.layer, strict=True))
    return Outcome(case, found, wrong=wrong_in_report(report))


def explained(built: Built) -> trainobs.Report:
    """By its model and data, or by a recorded step of its own loop."""
    if built.x is None:
        return trainobs.explain_near_zero_gradients(_watched(built))
    if built.weights is None:
        return trainobs.explain_near_zero_gradients(built.models[0], built.x, built.y, batch_size=BATCH)
    x = tuple(built.x) if isinstance(built.x, list) else built.x  # a list would become one tensor
    data = tf.data.Dataset.from_tensors((x, built.y, built.weights))
    return trainobs.explain_near_zero_gradients(built.models[0], data)


def _watched(built: Built) -> trainobs.Recorder:
    recorder = trainobs.Recorder(every=1)
    with recorder.watch(*built.models):
        if built.before is not None:
            built.before()
        with tf.GradientTape() as tape:
            loss = built.loss()
        tape.gradient(loss, built.variables)
    return recorder


def figures(outcomes: Iterable[Outcome]) -> pd.Series:
    """How many of each verdict, apart for faulty and healthy models."""
    verdicts = pd.Series([outcome.verdict for outcome in outcomes], dtype=object)
    counts = verdicts.value_counts()
    names = ("right first", "half", "wrong first", "nothing", "silent", "false alarm")
    return counts.reindex(names, fill_value=0)
