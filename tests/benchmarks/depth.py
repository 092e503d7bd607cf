"""How the time of a report grows with the number of layers, on steps that NumPy computes.

Run by hand (`python -m tests.benchmarks.depth`). For each chain and each part of a report it prints the
seconds at every depth, and the exponent that fits them: 1 is linear.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

import time
import warnings
from collections.abc import Callable

import numpy as np

import trainobs
from tests.diagnosis.test_depth import CHAINS
from tests.mechanisms.chains import inputs, step
from trainobs.statistics import gather

DEPTHS = (20, 40, 80, 160, 320)
#: In the order in which they are asked for; what a later one needs of an earlier one is there already.
PARTS: dict[str, Callable[[trainobs.Report], object]] = {
    "findings": lambda report: report.findings,
    "layers": lambda report: report.layers,
    "chains": lambda report: report.chains,
    "flow": lambda report: report.flow,
    "text": repr,
    "plot": lambda report: report.plot_flow(),
}


def seconds(name: str, depth: int) -> list[float]:
    """What each part takes."""
    scale, layer = CHAINS[name]
    thresholds = trainobs.Thresholds()
    record = step(inputs(scale), *map(layer, range(depth)))
    report = trainobs.Report(gather(record, thresholds.near_zero, pinv=False), thresholds)
    return [_timed(part, report) for part in PARTS.values()]


def _timed(part: Callable[[trainobs.Report], object], report: trainobs.Report) -> float:
    start = time.process_time()
    part(report)
    return time.process_time() - start


def main() -> None:
    """Print a line for each part of each chain."""
    for name in CHAINS:
        times = np.array([seconds(name, depth) for depth in DEPTHS])
        for part, column in zip(PARTS, times.T, strict=True):
            exponent = np.polyfit(np.log(DEPTHS), np.log(column), 1)[0]
            told = " ".join(f"{value:7.3f}" for value in column)
            print(f"{name:18} {part:9} {told}   exponent {exponent:.2f}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
