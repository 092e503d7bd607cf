"""All cases, judged and counted: ``python -m tests.faults.suite``; with words, those whose name holds one."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

from tests.faults.suite.faults import faulty_cases
from tests.faults.suite.healthy import healthy_cases
from tests.faults.suite.scoring import Outcome, confusion, judge, metrics
from trainobs.progress import progress


def main(words: list[str]) -> None:
    """Print what went wrong as it comes, then the figures."""
    cases = [*faulty_cases(), *healthy_cases()]
    cases = [case for case in cases if not words or any(word in case.name for word in words)]
    outcomes: list[Outcome] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in progress(cases, len(cases)):
            outcome = judge(case)
            outcomes.append(outcome)
            if not outcome.is_right:
                print(f"\n{case.name}: planted {outcome.expected}, found {outcome.found}", flush=True)
    print(confusion(outcomes).to_string(), "\n")
    print(metrics(outcomes).to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
