"""What is said of every weight, however much is known of how it enters its layer."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from trainobs.analysis._causes import Cause

Array = np.ndarray

#: The likelihoods that are fractions of terms, and what each is for a weight without terms.
WITHOUT_TERMS: dict[str, float] = {
    "p_input": 1.0,
    "p_activation": 0.0,
    "p_weights": 0.0,
    "p_backprop": 0.0,
    "p_backprop_pinv": 0.0,
    "p_input_activation": 1.0,
    "p_activation_backprop": 0.0,
}


class Used(NamedTuple):
    """How many weights were used, and how many of these have a gradient near zero, or of exactly 0."""

    number: int
    near_zero: int
    zero: int


class KernelGains(Protocol):
    """A `Flow`, which knows what its nodes' kernels pass on."""

    def kernel_gain(self, node: int) -> float:
        """‖dJ/d(input)‖ / ‖dJ/dZ‖ of the kernel of a node."""


class WeightInfo(Protocol):
    """What stays the same about a weight from batch to batch.

    Attributes
    ----------
    layer, kind : str
        Name and class of its layer.
    weight : str
        Path of the variable.
    part : str
        Which part of the variable, such as a gate; "" for the whole.
    key : str
        Weight and part.
    role : str
        What it does in its layer: "kernel", "table", "recurrent", "bias", "scale" or, where that is not
        known, "unknown".
    shape : tuple of int
    trainable, connected : bool
        Whether it is trained, and whether backprop reaches it.
    bases : tuple of str
        Names of the layer's class and those it inherits from.
    """

    @property
    def layer(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def weight(self) -> str: ...
    @property
    def part(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def trainable(self) -> bool: ...
    @property
    def connected(self) -> bool: ...
    @property
    def bases(self) -> tuple[str, ...]: ...


class WeightFigures(abc.ABC):
    """What a report says about one weight; nan stands for a figure that is not known.

    Attributes
    ----------
    info : WeightInfo
    """

    info: WeightInfo

    @property
    def key(self) -> str:
        """Path of the variable, and the part of it."""
        return self.info.key

    @property
    @abc.abstractmethod
    def activation(self) -> str:
        """Name of the activation that its units go through; "" where none is known."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of weights."""

    @property
    @abc.abstractmethod
    def positions(self) -> int:
        """Over how many positions (or samples) its gradient is a sum."""

    @property
    @abc.abstractmethod
    def carries(self) -> bool:
        """Whether signals are known to pass through these weights."""

    # ---- the gradient ------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def near_zero(self) -> Array:
        """Which weights have a gradient near zero; of a table, of the rows that were looked up."""

    @property
    @abc.abstractmethod
    def near_zero_count(self) -> int:
        """Number of weights whose gradient is near zero."""

    @property
    def near_zero_fraction(self) -> float:
        """Part of the weights whose gradient is near zero."""
        return self.near_zero_count / max(self.size, 1)

    @property
    @abc.abstractmethod
    def used(self) -> Used:
        """How many weights were used, and how many of these have a gradient near zero, or of exactly 0."""

    @property
    def used_near_zero(self) -> float:
        """Near-zero fraction of the weights that were used; nan if none was.

        Of a table, those of the rows that were looked up; of a window, those that do not meet padding only.
        """
        return self.used.near_zero / self.used.number if self.used.number else math.nan

    @property
    @abc.abstractmethod
    def exact_zero_fraction(self) -> float:
        """Part of the weights whose gradient is exactly 0."""

    @property
    @abc.abstractmethod
    def gradient_rms(self) -> float:
        """Root mean square of the data gradient over all weights."""

    @property
    @abc.abstractmethod
    def threshold(self) -> float:
        """Size up to which a gradient is near zero: the largest one of all weights."""

    @property
    @abc.abstractmethod
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""

    # ---- what keeps it small -----------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def shares(self) -> Mapping[Cause, float]:
        """Part of the near-zero weights that belongs to each cause; nan where none is known."""

    @property
    @abc.abstractmethod
    def mean_likelihoods(self) -> dict[str, float]:
        """The mean over all weights of each likelihood in `WITHOUT_TERMS`."""

    @property
    @abc.abstractmethod
    def dead_units(self) -> int:
        """Number of units that are off at all positions."""

    @abc.abstractmethod
    def off_by(self, reason: str) -> float:
        """Part of the off (position, unit) pairs with a reason; nan where none is off or known."""

    @abc.abstractmethod
    def gain(self, flow: KernelGains) -> float:
        """Size of the gradient that its layer passes on, over the size of what arrives."""

    @property
    @abc.abstractmethod
    def pinv_trust(self) -> float:
        """rank / n of the pseudo-inverse; nan where none was computed."""

    @property
    @abc.abstractmethod
    def residual(self) -> float:
        """Distance of the terms' sum from the tape's gradient, relative."""
