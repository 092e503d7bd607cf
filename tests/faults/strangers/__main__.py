"""All cases, judged and counted: ``python -m tests.faults.strangers``; with words, those whose name has one.

With ``tape`` before the words only what a plain tape shows is compared with what the cases say.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

from tests.faults.strangers.cases import Case
from tests.faults.strangers.known_misses import KNOWN_MISSES
from tests.faults.strangers.scoring import ALL, Outcome, build, figures, judge
from tests.faults.strangers.tape import contradictions, states


def main(words: list[str]) -> None:
    """Print misses as they come, named, then the figures."""
    by_tape, words = words[:1] == ["tape"], words[1:] if words[:1] == ["tape"] else words
    cases = [case for case in ALL if not words or any(word in case.name for word in words)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if by_tape:
            _compare(cases)
        else:
            print(figures([_told(judge(case)) for case in cases]).to_string())


def _told(outcome: Outcome) -> Outcome:
    """The same, printed if it is a miss, or one no more."""
    case = outcome.case
    if outcome.is_right and case.name in KNOWN_MISSES:
        print(f"{case.name}: is right now, strike it from the known misses", flush=True)
    if not outcome.is_right:
        known = "" if case.name in KNOWN_MISSES else ", not known"
        print(f"{case.name}: {outcome.verdict}{known}; true {case.truth or 'nothing'}", flush=True)
        print(f"    found {outcome.found or outcome.raised or 'nothing'}", flush=True)
    return outcome


def _compare(cases: list[Case]) -> None:
    for case in cases:
        built = build(case)
        wrong = contradictions(case, built)
        print(f"{case.name}: {states(built) if wrong else 'as said'}", *wrong, sep="\n    ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
