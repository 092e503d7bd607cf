"""What all trainings share: data, the table of their names, and all that a training may change."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from sklearn.datasets import load_digits

layers = keras.layers
SAMPLES, BATCH = 88, 16  # six batches an epoch, the last one ragged
STEPS = 6

Training = tuple[keras.Model, dict[str, Any]]


# ---- data ------------------------------------------------------------------------------------


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Flat images in [0, 1] of shape (88, 64), and labels."""
    x, y = load_digits(return_X_y=True)
    return (x[:SAMPLES] / 16).astype("float32"), y[:SAMPLES].astype("int64")


def images() -> np.ndarray:
    """The images in their shape (88, 8, 8, 1)."""
    return digits()[0].reshape(-1, 8, 8, 1)


def rows() -> np.ndarray:
    """The images as sequences of 8 rows, (88, 8, 8)."""
    return digits()[0].reshape(-1, 8, 8)


def tokens() -> np.ndarray:
    """Pixels as integers from 0 to 16, (88, 12); 0 is what an Embedding masks."""
    return (digits()[0][:, 20:32] * 16).astype("int64")


def one_hot() -> np.ndarray:
    """The labels as rows, (88, 10)."""
    return np.eye(10, dtype="float32")[digits()[1]]


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch of batches, the last one ragged."""
    x, y = digits()
    for start in range(0, SAMPLES, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


# ---- models ----------------------------------------------------------------------------------


def compiled(model: keras.Model, loss: Any = None, optimizer: Any = None, **settings: Any) -> keras.Model:
    """The model, compiled without XLA, with momentum: then a step depends on all before it."""
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **{"jit_compile": False, **settings})
    return model


def flat(**fit: Any) -> dict[str, Any]:
    """Arguments of a fit on flat images."""
    x, y = digits()
    return {"x": x, "y": y, **fit}


def net(*tail: Any, hidden: Any = "tanh") -> keras.Model:
    """One hidden layer; `tail` in place of a linear head."""
    tail = tail or (layers.Dense(10, name="head"),)
    return keras.Sequential([keras.Input((64,)), layers.Dense(8, hidden, name="hidden"), *tail], name="net")


PROBLEMS: dict[str, Callable[[], Training]] = {}


def problem(make: Callable[[], Training]) -> Callable[[], Training]:
    """Enter a training into the table under its function's name."""
    PROBLEMS[make.__name__] = make
    return make


def fresh(name: str) -> Training:
    """The training of that name, from the same seeds each time."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    model, fit = PROBLEMS[name]()
    arrays = isinstance(keras.tree.flatten(fit["x"])[0], np.ndarray)
    return model, {"batch_size": BATCH if arrays else None, "epochs": 2, "verbose": 0, **fit}


# ---- all that a training may change ----------------------------------------------------------

State = dict[str, np.ndarray]


def optimizers(model: keras.Model) -> list[Any]:
    """The model's optimizers, and those inside of others."""
    found = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    return found + [inner for outer in found if (inner := getattr(outer, "inner_optimizer", None))]


def state(model: keras.Model) -> State:
    """Weights, moving statistics, metrics, optimizers, and every source of random numbers."""
    variables = {
        **{f"model {v.path}": v for v in model.variables},
        **{f"metric {i} {v.path}": v for i, v in enumerate(model.metrics_variables)},
        **{f"optimizer {i} {v.path}": v for i, o in enumerate(optimizers(model)) for v in o.variables},
    }
    generator = global_state.get_global_attribute("global_seed_generator")
    if generator is not None:
        variables["seed of keras.random"] = generator.state
    return {
        **{name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in variables.items()},
        "state of numpy.random": np.random.get_state()[1].copy(),
        "state of random": np.array([hash(random.getstate())]),
    }


def assert_same(left: State, right: State) -> None:
    """Bit by bit."""
    if only_one := sorted(left.keys() ^ right.keys()):
        raise AssertionError(f"only in one of them: {only_one}")
    if changed := [name for name in left if not np.array_equal(left[name], right[name], equal_nan=True)]:
        raise AssertionError(f"changed: {changed}")


def train(name: str, *callbacks: keras.callbacks.Callback, **settings: Any) -> State:
    """All that is left of the training of that name, and its history.

    `settings` go to `compile`.
    """
    model, fit = fresh(name)
    if settings:
        compiled(model, model.loss, model.optimizer, **settings)
    history = model.fit(**fit, callbacks=list(callbacks)).history
    return state(model) | {f"history {key}": np.array(values) for key, values in history.items()}
