"""All cases, judged and counted: ``python -m tests.faults.strangers``; with words, those whose name holds one.

With ``tape`` before the words only what a plain tape shows is compared with what the cases say.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.faults.strangers.known_misses import KNOWN_MISSES
from tests.faults.strangers.scoring import ALL, Outcome, build, figures, judge
from tests.faults.strangers.tape import contradictions, states


def main(words: list[str]) -> None:
    """Print misses as they come, named, then the figures."""
    by_tape, words = words[:1] == ["tape"], words[1:] if words[:1] == ["tape"] else words
    cases = [case for case in ALL if not words or any(word in case.name for word in words)]
    if by_tape:
        for case in cases:
            try:
                _show_tape(case)
            except Exception:
                import traceback

                print(case.name, "RAISED", traceback.format_exc()[-900:])
        return
    outcomes = []
    for case in cases:
        outcomes.append(judge(case))
        _show(outcomes[-1])
    print(figures(outcomes).to_string())


def _show(outcome: Outcome) -> None:
    case = outcome.case
    if outcome.is_right and case.name in KNOWN_MISSES:
        print(f"{case.name}: is right now, strike it from the known misses", flush=True)
    if not outcome.is_right:
        known = "" if case.name in KNOWN_MISSES else ", not known"
        print(f"{case.name}: {outcome.verdict}{known}; true {case.truth or 'nothing'}", flush=True)
        print(f"    found {outcome.found or outcome.raised or 'nothing'}", flush=True)


def _show_tape(case: object) -> None:
    built = build(case)
    wrong = contradictions(case, built)
    print(f"{case.name}: {'as said' if not wrong else states(built)}", *wrong, sep="\n    ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
