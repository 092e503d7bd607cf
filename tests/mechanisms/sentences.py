"""What no sentence of a report may say: figures that are none, and figures that contradict their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import trainobs

_THINGS = (
    "units|layers|positions|weights|inputs|classes|values|elements|steps|batches|samples|outputs|gradients"
    "|predictions|kernels|activations"
)
#: Before a number: nothing that makes it a part of another one, or of a name.
_ALONE = r"(?<![\w.,:/×−-])"
_FIGURE = r"(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"

#: By name: what no sentence may contain.
_NEVER = {
    "a figure that is not known": r"\bnan\b",
    "an infinite figure": r"\binf\b",
    "nothing, by its name in Python": r"\bNone\b",
    "an empty list": r"\(\s*\)|\b(?:by|of|at|and) ?[.,;:)]|[:,;] ?\.(?!\d)|\(and\b",
    "a space before a stop": r" [.,;:)](?!\d)",
    "doubled spaces": r"  |^ | $",
    "doubled stops": r"\.\.(?!\.)|,,|;;",
    "one thing in the plural": rf"{_ALONE}1 (?:[\w-]+ )?(?:{_THINGS})\b|\b(?:[Aa]ll|of the) 1\b(?![,.]\d)",
    "fewer than none": rf"(?<![\w.])[-−]\d[\d,]* (?:of\b|{_THINGS})|(?<![\w.])[-−]\d+(?:\.\d+)?%",
    "none, counted": rf"{_ALONE}0 of\b|{_ALONE}0%|{_ALONE}0 (?:{_THINGS})\b",
    "a range without an end": r"\[[^\]]*∞\]",
}

_Holds = Callable[[float], bool]
#: Words around a figure, and what has to be true of it.
_WORDS: tuple[tuple[str, _Holds], ...] = (
    (rf"{_FIGURE}%", lambda figure: figure <= 100),
    (rf"\bonly {_FIGURE}(?![\d.,%]*%)", lambda figure: 0 < figure < 1),
    (rf"\bonly {_FIGURE}%", lambda figure: figure < 100),
    (rf"shrinks to {_FIGURE}", lambda figure: figure < 1),
    (rf"grows to {_FIGURE}", lambda figure: figure > 1),
    (rf"passes on (?:only )?{_FIGURE}", lambda figure: figure < 1),
    (rf"it has {_FIGURE} times the size", lambda figure: figure <= 100),
    (rf"of which the model has {_FIGURE}", lambda figure: figure < 1),
    (rf"rms of {_FIGURE}, where about 1 is expected: next to no", lambda figure: figure < 1),
    (rf"rms of {_FIGURE}, where 1 is usual: neither", lambda figure: figure < 1),
    (rf"rms of {_FIGURE}, where about 1 is expected(?:;|, and nothing)", lambda figure: figure > 1),
)
_Compares = Callable[[float, float], bool]
#: Words around two figures, and what has to be true of them.
_PAIRS: tuple[tuple[str, _Compares], ...] = (
    (rf"too small \([^()]*rms {_FIGURE} against He's scale {_FIGURE}\)", lambda rms, scale: rms < scale),
    (rf"rms of {_FIGURE}, where He's scale is {_FIGURE}: neither", lambda rms, scale: rms < scale),
    (rf"kernel is too large \([^()]*of weights {_FIGURE}, He's scale {_FIGURE}\)", lambda w, he: w >= he),
    (rf"^{_FIGURE} of the {_FIGURE} ", lambda part, whole: part <= whole),
    (rf"from {_FIGURE} to {_FIGURE}", lambda low, high: low <= high),
    (rf"between {_FIGURE} and {_FIGURE}", lambda low, high: low <= high),
)


def wrong_in(sentence: str) -> list[str]:
    """What is wrong with a sentence; empty if nothing is. Code of the user's is no sentence."""
    text = re.sub(r"`[^`]*`", "CODE", sentence)
    found = [name for name, pattern in _NEVER.items() if re.search(pattern, text)]
    figures = [(pattern, holds, _numbers(pattern, text)) for pattern, holds in (*_WORDS, *_PAIRS)]
    return found + [pattern for pattern, holds, given in figures for g in given if not holds(*g)]


def _numbers(pattern: str, text: str) -> list[list[float]]:
    found = (match.groups() for match in re.finditer(pattern, text))
    return [[float(group.replace(",", "")) for group in groups] for groups in found]


def told_by(report: trainobs.Report) -> Iterator[str]:
    """All sentences of a report: of each finding, and of what is quiet; without its tables."""
    yield from report.findings["evidence"]
    yield from report.findings["remedy"]
    text = str(report).split("\nKernels, input first")[0]
    yield from (line.strip() for line in text.splitlines() if line.startswith(("[", "recorded", "No ")))


def wrong_in_report(report: trainobs.Report) -> list[tuple[str, list[str]]]:
    """The sentences of a report with which something is wrong, and what it is."""
    return [(sentence, wrong) for sentence in told_by(report) if (wrong := wrong_in(sentence))]
