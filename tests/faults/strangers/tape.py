"""What a plain `tf.GradientTape` shows of a case: the truth comes from here and from the source."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.faults.strangers.cases import Built, Case

SMALL = 1e-3  # against the loudest weight
TINY = 1e-6


def gradients(built: Built) -> dict[str, np.ndarray | None]:
    """Of every trained weight, by its path."""
    if built.before is not None:
        built.before()
    with tf.GradientTape() as tape:
        loss = _loss(built)
    found = tape.gradient(loss, built.variables)
    return {
        f"{number}/{variable.path}": None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for number, (variable, gradient) in enumerate(zip(built.variables, found, strict=True))
    }


def _loss(built: Built) -> tf.Tensor:
    if built.loss is not None:
        return built.loss()
    model = built.models[0]
    return model.compute_loss(built.x, built.y, model(built.x, training=True), built.weights, training=True)


def states(built: Built) -> dict[str, str]:
    """Of every trained weight: "none", "nan", "zero", "small" or "live"."""
    found = gradients(built)
    sizes = {path: _size(gradient) for path, gradient in found.items() if gradient is not None}
    loudest = max((size for size in sizes.values() if np.isfinite(size)), default=0.0)
    return {path: _state(sizes.get(path), loudest) for path in found}


def _size(gradient: np.ndarray) -> float:
    return float(np.sqrt(np.mean(gradient.astype("float64") ** 2)))


def _state(size: float | None, loudest: float) -> str:
    if size is None:
        return "none"
    if not np.isfinite(size):
        return "nan"
    if size == 0:
        return "zero"
    return "small" if size <= max(SMALL * loudest, TINY) else "live"


def contradictions(case: Case, built: Built) -> list[str]:
    """Where the tape shows something else than the case says; of healthy models, whatever is not live too."""
    seen = states(built)
    said = {path: _said(case, path) for path in seen}
    wrong = [
        f"{path}: {state}, not {said[path] or 'live'}"
        for path, state in seen.items()
        if not _agree(state, said[path], healthy=not case.truth)
    ]
    unmet = [part for part in case.tape if not any(f"/{part}/" in f"/{path}/" for path in seen)]
    return [*wrong, *(f"{part}: no such weight" for part in unmet)]


def _agree(state: str, said: str | None, healthy: bool) -> bool:
    if said is not None:
        return state == said
    return state in ("live", "small") or not healthy


def _said(case: Case, path: str) -> str | None:
    return next((state for part, state in case.tape.items() if f"/{part}/" in f"/{path}/"), None)
