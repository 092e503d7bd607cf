"""A stranger's case: its source, a small model of the same kind, and the truth, known without trainobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

Finding = tuple[str, str]  # cause, layer; "*" is any layer

KERAS = "https://github.com/keras-team/keras/issues/"
KERAS_IO = "https://github.com/keras-team/keras-io/blob/master/examples/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/issues/"
DEEPLOCALIZE = "https://github.com/Wardat-ISU/DeepLocalize/tree/master/Benchmark/StackOverflow/"


@dataclasses.dataclass(frozen=True)
class Built:
    """A model and a step of it.

    Attributes
    ----------
    models : tuple of keras.Model
        The model; or those that an own loop watches.
    x, y, weights : arrays or structures of arrays, optional
        Data of a model that is compiled, with sample weights if there are some.
    loss : callable, optional
        Computes the loss of an own loop or of an own `train_step`.
    before : callable, optional
        What an own loop does before it opens its tape.
    trained : tuple of keras.Model, optional
        Whose weights an own loop trains. Default: those of all its models.
    """

    models: tuple[keras.Model, ...]
    x: object = None
    y: object = None
    weights: np.ndarray | None = None
    loss: Callable[[], tf.Tensor] | None = None
    before: Callable[[], object] | None = None
    trained: tuple[keras.Model, ...] | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        """What the step trains."""
        models = self.models if self.trained is None else self.trained
        return [variable for model in models for variable in model.trainable_variables]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model after somebody's example or report.

    Attributes
    ----------
    name : str
    source : str
        Address, and what it says there.
    make : callable
        Builds it.
    truth : tuple of (cause, layer)
        Findings that are right, one of which has to come first; nothing if the model is healthy.
    tape : mapping of str to str
        What a plain tape shows, by a part of the weights' paths: "none", "nan", "zero", "small" or "live".
        Of healthy models all others are live.
    """

    name: str
    source: str
    make: Callable[[], Built]
    truth: tuple[Finding, ...] = ()
    tape: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its fault, or "healthy"."""
        return self.truth[0][0] if self.truth else "healthy"


class Family(list[Case]):
    """Cases of one family; called as a decorator of what builds a case, it adds it."""

    def __call__(
        self,
        name: str,
        source: str,
        truth: tuple[Finding, ...] = (),
        tape: Mapping[str, str] | None = None,
    ) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
        """Add a case that the decorated function builds."""

        def add(make: Callable[[], Built]) -> Callable[[], Built]:
            self.append(Case(name, source, make, truth, tape or {}))
            return make

        return add


def compiled(model: keras.Model, loss: object, x: object, y: object, **options: object) -> Built:
    """A model that its user compiled, with its data."""
    model.compile(options.pop("optimizer", "adam"), loss, **options)
    return Built((model,), x, y)


def fitted(built: Built, epochs: int = 1, batch_size: int = 32) -> Built:
    """The same after some epochs."""
    built.models[0].fit(built.x, built.y, epochs=epochs, batch_size=batch_size, verbose=0)
    return built


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")
