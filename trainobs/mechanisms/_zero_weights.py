"""Weights that are zero."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Ones, Untried
from trainobs.mechanisms._healthy import fresh_weights
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class ZeroWeights(Mechanism):
    """A kernel or table is zero, so that neither signal nor gradient passes it.

    Severity: error; info where a kernel of zeros, or a scale, gets a gradient itself: it will grow

    When: a kernel is zero, or is the only one near zero, and gradients are lost by it; or a table or a scale
    (gamma) has an rms of at most rtol, and gradients are lost by it.

    Where: the layer of the weight.

    Parameters
    ----------
    role : {"kernel", "recurrent", "table"}
    rms, healthy_weight : float
        Size of the weights, and He's scale.
    learns : bool
        Whether it is a kernel that gets a gradient itself: ends of branches start like this, and last layers.
    """

    role: str
    rms: float
    healthy_weight: float
    learns: bool = False

    cause = "zero_weights"
    treatments = ("re-initialise",)
    on_the_way = True

    @classmethod
    def of(cls, case: Case, figures: SiteFigures) -> ZeroWeights:
        """The mechanism at a kernel, with its numbers."""
        info, learns = figures.info, will_grow(case, figures)
        return cls(info.layer, info.role, figures.kernel_rms, figures.healthy_weight, learns)

    @property
    def only_informs(self) -> bool:
        """Where nothing but time is missing."""
        return self.learns

    @property
    def value(self) -> float:
        """Size of the weights."""
        return self.rms

    def threshold(self, case: Case) -> float:
        """The size up to which a kernel, or a table, is near zero."""
        if self.role == "table":
            return case.near_zero.activation_limit
        return case.near_zero.rtol * self.healthy_weight

    def evidence(self) -> str:
        """How small they are."""
        if self.role == "table":
            return (
                f"The table of {self.layer} has an rms of {self.rms:.2g}: all that is looked up is near zero."
            )
        name = "recurrent kernel" if self.role == "recurrent" else "kernel"
        return (
            f"The {name} of {self.layer} has an rms of {self.rms:.2g}, where He's scale is "
            f"{self.healthy_weight:.2g}: neither signal nor gradient passes."
            f"{_grows('the kernel') * self.learns}"
        )

    def advice(self) -> str:
        """What to try first, depending on whether it will grow."""
        waits = "Nothing, if it was made so: look again after some steps. Else: "
        own = "Initialise the kernel at random (He for ReLU-like, Glorot for tanh and sigmoid)."
        return waits * self.learns + own

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The weights have a healthy size."""
        return fresh_weights(case, self.layer, self.role)


@dataclasses.dataclass(frozen=True)
class ZeroScale(Mechanism):
    """A normalisation's scale is zero (see `ZeroWeights`).

    Parameters
    ----------
    scale : str
        Name of the weight.
    rms : float
    learns : bool
        Whether it gets a gradient itself: blocks that start as the identity begin like this.
    """

    scale: str
    rms: float
    learns: bool

    cause = "zero_weights"
    treatments = ZeroWeights.treatments
    on_the_way = True

    @classmethod
    def at(cls, case: Case, node: int) -> ZeroScale | None:
        """The mechanism at a node, if it multiplies with a scale of zero."""
        scale = case.flow.scale_at(node)
        if scale is None or scale.kernel_rms > case.near_zero.rtol:
            return None
        info = scale.info
        alive = scale.near_zero_fraction <= case.thresholds.affected
        learns = info.trainable and info.connected and alive
        return cls(info.layer, info.weight.rsplit("/", 1)[-1], scale.kernel_rms, learns)

    @property
    def only_informs(self) -> bool:
        """Where it gets a gradient it will grow."""
        return self.learns

    @property
    def value(self) -> float:
        """Size of the scale."""
        return self.rms

    def threshold(self, case: Case) -> float:
        """The size up to which it is near zero."""
        return case.near_zero.rtol

    def evidence(self) -> str:
        """How small it is, and whether it will grow."""
        return (
            f"{self.scale} of {self.layer} has an rms of {self.rms:.2g}, where 1 is usual: neither signal "
            f"nor gradient passes.{_grows(self.scale) * self.learns}"
        )

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Initialise the scale with ones."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """The scale is 1."""
        infos = (site.info for site in case.sites.values() if site.info.layer == self.layer)
        named = [info.weight for info in infos if info.weight.rsplit("/", 1)[-1] == self.scale]
        return Ones(self.layer, named[0]) if named else Untried(f"{self.layer} has no {self.scale}")


def weights_at_fault(case: Case, figures: SiteFigures) -> ZeroWeights | None:
    """The mechanism at a kernel or table that is zero.

    A kernel near zero counts if it is the only small one; several are a decay over depth.
    """
    if figures.info.role == "table":  # its values are what the next kernel reads
        return ZeroWeights.of(case, figures) if case.is_near_zero(figures.kernel_rms) else None
    if np.isnan(figures.healthy_weight):  # a bias, a scale
        return None
    near_zero = figures.kernel_rms <= case.near_zero.rtol * figures.healthy_weight
    if figures.kernel_rms == 0 or (near_zero and len(case.small_kernels) <= 1):
        return ZeroWeights.of(case, figures)
    return None


def will_grow(case: Case, figures: SiteFigures) -> bool:
    """Whether a kernel is exactly zero, as it starts, and learns: so few of its gradients are near zero that
    it needs no explanation."""
    info = figures.info
    starts = info.role == "kernel" and figures.kernel_rms == 0 and info.trainable and info.connected
    return starts and figures.used_near_zero <= case.thresholds.near_zero_weights


def _grows(name: str) -> str:
    return f" But {name} itself gets a gradient: it will grow."


def forgotten_state(case: Case, node: int) -> ZeroWeights | None:
    """Recurrent kernels of zero, given a layer's last node: nothing is carried from step to step."""
    kernels = case.flow.recurrent_kernels(node)
    limit = case.near_zero.rtol
    if not kernels or any(kernel.kernel_rms > limit * kernel.healthy_weight for kernel in kernels):
        return None
    return ZeroWeights.of(case, kernels[0])
