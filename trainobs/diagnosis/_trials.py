"""Runs of the batch with something changed, and how many near-zero gradients come back in each."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from trainobs.analysis import Case, SiteFigures, WeightFigures
from trainobs.counterfactuals import Counterfactual, TriedOut, TryOut, Untried

Array = np.ndarray
Changes = tuple[Counterfactual, ...]
#: By key of the weight, the part of its lost gradients that a mechanism is said to hold.
Held = Mapping[str, float]


class Trials:
    """Tries changes out, each set of them once.

    Parameters
    ----------
    case : Case
    try_out : callable
        Runs the batch.
    """

    def __init__(self, case: Case, try_out: TryOut) -> None:
        self._case, self._try_out = case, try_out
        self._runs: dict[frozenset[Counterfactual], TriedOut | Untried] = {}

    def returned(self, changes: Changes, held: Held) -> float | Untried:
        """Part of the near-zero gradients that are held which come back with these changes."""
        after = self._run(changes)
        if isinstance(after, Untried):
            return after
        if not self._is_comparable(after, held):
            return Untried(f"with {said(changes)}, values are NaN or infinite, or the loss falls silent")
        if self._case.statistics.batches == 1:  # the very batch that is reported
            return self._part_of_report(after, held)
        before = self._run(())
        return before if isinstance(before, Untried) else self._part(before, after, held)

    def g_out(self, changes: Changes) -> float | Untried:
        """Size of the gradient that the loss sends into the model with these changes."""
        run = self._run(changes)
        return run if isinstance(run, Untried) else self._loudest(run)[0]

    def _run(self, changes: Changes) -> TriedOut | Untried:
        key = frozenset(changes)
        if key not in self._runs:
            self._runs[key] = self._try_out(changes)
        return self._runs[key]

    def _part(self, before: TriedOut, after: TriedOut, held: Held) -> float | Untried:
        reported = claimed = came_back = 0.0
        for key, share in held.items():
            figures = self._case.weights[key]
            near, still = self._near_zero(figures, before), self._near_zero(figures, after)
            reported += share * figures.used_near_zero * near.size
            claimed += share * float(np.sum(near))
            came_back += float(np.sum(near & ~still))
        if not claimed >= self._case.thresholds.returned * reported or not claimed:
            return Untried("one batch alone, run without a graph, does not show it")
        return min(came_back / claimed, 1.0)

    def _part_of_report(self, after: TriedOut, held: Held) -> float | Untried:
        """The same, of the gradients that the report has."""
        claimed = came_back = 0.0
        for key, share in held.items():
            figures = self._case.weights[key]
            near, still = figures.near_zero, self._as_reported(figures, self._near_zero(figures, after))
            claimed += share * float(np.sum(near))
            came_back += float(np.sum(near & ~still))
        return min(came_back / claimed, 1.0) if claimed else Untried("no gradient is near zero")

    @staticmethod
    def _as_reported(figures: WeightFigures, values: Array) -> Array:
        """Values of a weight in the layout of the report's figures."""
        if isinstance(figures, SiteFigures) and values.shape != figures.near_zero.shape:
            return np.asarray(figures.info.op.canonical_kernel(values))
        return values

    # ---- near zero, in a run -----------------------------------------------------------------

    def _near_zero(self, figures: WeightFigures, run: TriedOut) -> Array:
        """Which gradients of a weight are near zero in a run; of a table, of the rows that were looked up."""
        relative = self._scale_of(run) / self._own_scale
        limit = figures.threshold * relative * math.sqrt(self._case.statistics.batches)
        return np.asarray(np.abs(_gradient_of(figures, run, self._parts(figures))) <= limit)

    @functools.cached_property
    def _own_scale(self) -> float:
        """g* of what is reported, or of the first of several batches."""
        alone = self._case.statistics.batches == 1
        own = self._case.near_zero.gradient_scale(*self._case.statistics.loudest_output())
        return own if alone else self._scale_of(self._run(()))

    def _parts(self, figures: WeightFigures) -> list[str]:
        """The keys of all parts of the same weight, in order."""
        weights = self._case.weights.items()
        return [key for key, other in weights if other.info.weight == figures.info.weight]

    def _scale_of(self, run: TriedOut | Untried) -> float:
        """g* of a run."""
        return self._case.near_zero.gradient_scale(*self._loudest(run))

    def _loudest(self, run: TriedOut | Untried) -> tuple[float, int]:
        """g_out and K of the loudest output of a run; those of the report where it is not known which the
        loss reads."""
        outputs = self._case.statistics.outputs
        if isinstance(run, Untried) or len(run.outputs) != len(outputs) or not outputs:
            return self._case.statistics.loudest_output()
        pairs = zip(outputs, run.outputs, strict=True)
        return max((_g_out(square, size, o.elements), o.elements) for o, (square, size) in pairs)

    def _is_comparable(self, run: TriedOut, held: Held) -> bool:
        """Whether all is finite, and the loss still sends something."""
        gradients = (run.gradients.get(self._case.weights[key].info.weight) for key in held)
        finite = all(gradient is None or bool(np.all(np.isfinite(gradient))) for gradient in gradients)
        silent = bool(run.outputs) and not any(square > 0 for square, _ in run.outputs)
        return finite and math.isfinite(self._scale_of(run)) and not silent


def _g_out(square: float, size: int, elements: int) -> float:
    """√(mean over positions of ‖n · dJ/dy‖²)."""
    return math.sqrt(square * max(size // max(elements, 1), 1))


def _gradient_of(figures: WeightFigures, run: TriedOut, parts: list[str]) -> Array:
    """The gradient of a weight or of its part, in a run; zeros where there is none."""
    gradient = run.gradients.get(figures.info.weight)
    if gradient is None:
        return np.zeros(figures.info.shape)
    if len(parts) > 1:
        return _part_of(gradient, parts.index(figures.key), len(parts), figures.info.role)
    rows = figures.statistics.rows if isinstance(figures, SiteFigures) else None
    return gradient if rows is None else gradient[rows]


def _part_of(gradient: Array, number: int, parts: int, role: str) -> Array:
    """Gates have equal blocks of units, one after the other; a bias of two rows, row by row."""
    flat = gradient.reshape(-1) if role == "bias" else gradient
    return np.array_split(flat, parts, axis=-1)[number]


def said(changes: Changes) -> str:
    """What is changed, in words."""
    return " and ".join(map(str, changes))
