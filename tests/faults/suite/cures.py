"""Does the remedy that is ranked first remove the finding? ``python -m tests.faults.suite.cures``.

With words, only the cases whose name holds one; with a number n first, only every n-th case.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import warnings

import keras
import pandas as pd

import trainobs
from tests.faults.suite.cases import Case
from tests.faults.suite.faults import faulty_cases
from trainobs.progress import progress

#: Causes that no change of model or data made by a machine can cure: the code of the model has to
#: change (disconnected), or the weights that the user gave (masked), or nothing is wrong (the rest).
WITHOUT_CURE = (
    "disconnected", "masked", "zero_loss_gradient", "cancellation", "one_time_step", "constant_output",
    "penalty_dominates",
)  # fmt: skip
#: Data that holds nothing, or is not given in [0, 1], so that no background can be lifted.
NOTHING_TO_LEARN_FROM = (
    "zero input: tabular MLP", "zero input: regression", "80 % of the features are zero: tabular MLP",
    "80 % of the features are zero: binary MLP", "80 % of the features are zero: regression",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cure:
    """What was tried on a case: `first` is ranked first, `advised` is what is listed first."""

    name: str
    cause: str
    first: str
    gone: bool
    tried: int
    advised: str = ""
    advised_gone: bool = False


def fixable_cases() -> list[Case]:
    """The faulty cases that a remedy could cure."""
    return [case for case in faulty_cases() if case.name not in NOTHING_TO_LEARN_FROM]


def cure(case: Case, steps: int = 10) -> Cure | None:
    """Explain a case and try what fits the planted fault; None if it has no cure, or mends itself."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    planted = case.make()
    causes = {cause for cause, _ in planted.faults}
    if causes & set(WITHOUT_CURE):
        return None
    x, y = keras.tree.map_structure(lambda leaf: leaf[: planted.samples], (planted.x, planted.y))
    report = trainobs.explain_near_zero_gradients(planted.model, x, y)
    told = report.findings[report.findings["cause"].isin(causes)]
    if len(told) and (told["severity"] == "info").all():
        return None
    trials = report.try_remedies(planted.model, x, y, steps=steps)
    trials = trials[trials["cause"].isin(causes)]
    if trials.empty:
        return Cure(case.name, min(causes), "none fits", False, 0)
    best, listed = trials.iloc[0], report.remedies()
    advised = listed[listed["cause"] == best["cause"]].iloc[0]
    its_trial = trials[(trials["layer"] == advised["layer"]) & (trials["call"] == advised["call"])].iloc[0]
    return Cure(
        case.name, str(best["cause"]), str(best["remedy"]), bool(best["gone"]), len(trials),
        str(advised["remedy"]), bool(its_trial["gone"]),
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print what was not cured as it comes, then how much was, by cause."""
    every, words = (
        (int(arguments[0]), arguments[1:]) if arguments[:1] and arguments[0].isdigit() else (1, arguments)
    )
    cases = [case for case in fixable_cases() if not words or any(word in case.name for word in words)][
        ::every
    ]
    cures: list[Cure] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in progress(cases, len(cases), unit="case"):
            found = cure(case)
            if found is not None:
                cures.append(found)
                if not found.gone:
                    print(f"\n{found.name}: first is {found.first!r}, of {found.tried}", flush=True)
    table = pd.DataFrame(map(dataclasses.asdict, cures))
    counts = {"cases": ("gone", "size"), "cured": ("gone", "sum"), "advised": ("advised_gone", "sum")}
    print(table.groupby("cause").agg(**counts).to_string(), "\n")
    print(table.groupby(["cause", "first"]).size().to_string(), "\n")
    print(f"{len(table)} cases, the first remedy removes the finding in {table['gone'].mean():.1%},")
    print(f"the one that the report advises in {table['advised_gone'].mean():.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
