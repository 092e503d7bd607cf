"""Gradients that grow on their way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trainobs.analysis import Case, SiteFigures
from trainobs.counterfactuals import Counterfactual, Untried
from trainobs.mechanisms._loud_loss import LoudLoss
from trainobs.mechanisms._mechanism import Mechanism


@dataclasses.dataclass(frozen=True)
class Exploding(Mechanism):
    """The gradient grows on its way from the loss, or is large.

    Severity: warning

    When: ‖dJ/dZ‖ · min(1, rms Z) grows to more than 100 times (`exploding_growth`) ‖dJ/dy‖, or kernel
    gradients exceed 1e6 (`exploding_mean`) on average, and not because the targets are large (see
    `loud_loss`). Where a normalisation scales small values up, it
    scales their gradient up too, and the kernel before it scales that down again: so the gradient is taken of
    values that are brought to unit size first. A kernel right before a normalisation is left out: its scale
    does not matter for the loss, so a large gradient makes it grow, and a larger kernel's gradient is smaller
    (Arora, Li & Lyu 2019).

    Where: the first such layer from the loss; where it is the input that is large, the layer with the largest
    kernel.

    Parameters
    ----------
    growth : float
        Of the gradient, from the output.
    mean : float
        Mean absolute gradient of the kernel at which it shows.
    kernel_rms, healthy_weight : float
        Of the layer's kernel, and He's scale.
    grows : bool
        Whether the gradient grows on its way, or is only large.
    """

    growth: float
    mean: float
    kernel_rms: float
    healthy_weight: float
    grows: bool = True

    cause = "exploding"
    treatments = (
        "re-initialise",
        "standardise targets",
        "insert normalisation",
        "clip gradients",
        "lower learning rate",
        "warm-up",
    )
    on_the_way = True
    has_place = False
    rank = 90

    @classmethod
    def seen(cls, case: Case) -> Iterator[Mechanism]:
        """The first layer, from the loss, at which the gradient has grown too large; else the largest kernel,
        if kernel gradients are large without that: then it is what they read that is large."""
        kernels = [figures for figures in case.sites.values() if figures.info.role == "kernel"][::-1]
        for figures in kernels:
            if _growth(case, figures) > case.thresholds.exploding_growth:
                yield cls._of(case, figures, figures, grows=True)
                return
        large = (f for f in kernels if f.mean_gradient > case.thresholds.exploding_mean)
        shown = next(large, None)
        if shown is not None and not any(LoudLoss.seen(case)):
            largest = max(kernels, key=lambda f: f.kernel_rms / f.healthy_weight)
            yield cls._of(case, shown, largest, grows=False)

    @classmethod
    def _of(cls, case: Case, shown: SiteFigures, at: SiteFigures, *, grows: bool) -> Exploding:
        """The mechanism at one kernel, as it shows at one."""
        growth, mean = _growth(case, shown), shown.mean_gradient
        return cls(at.info.layer, growth, mean, at.kernel_rms, at.healthy_weight, grows)

    @property
    def severity(self) -> str:
        """A warning: it may still train."""
        return "warning"

    @property
    def value(self) -> float:
        """The growth, or the mean gradient."""
        return self.growth if self.grows else self.mean

    def threshold(self, case: Case) -> float:
        """The growth, or the mean gradient, that is too large."""
        return case.thresholds.exploding_growth if self.grows else case.thresholds.exploding_mean

    def evidence(self) -> str:
        """How large the gradient is, whether it grows, and how large the kernel is."""
        kernel = f"an rms of {self.kernel_rms:.2g}, where He's scale is {self.healthy_weight:.2g}"
        if self.grows:
            return (
                f"Going back from the output, the gradient grows to {self.growth:.3g} times its size, with "
                f"kernel gradients of {self.mean:.3g} on average; the kernel of {self.layer} has {kernel}."
            )
        return (
            f"Kernel gradients are {self.mean:.3g} on average{self._hardly_grown()}. The values that it "
            f"meets at kernels are large; the largest kernel, of {self.layer}, has {kernel}."
        )

    def _hardly_grown(self) -> str:
        """How much the gradient grows, where that is known."""
        if not self.growth > 0:
            return ""
        size = f"it has {self.growth:.3g} times the size that it has there"
        return f", though the gradient does not grow much on its way back from the output: {size}"

    def advice(self) -> str:
        """What to try first, in all cases."""
        return "Clip gradients (clipnorm=1.0), scale the targets, or lower learning rate and weights."

    def counterfactual(self, case: Case) -> Counterfactual | Untried:
        """None: no gradient is lost."""
        return Untried("it speaks of gradients that are large, and none is lost by it")


def _growth(case: Case, figures: SiteFigures) -> float:
    """The gradient of a kernel's output, brought to unit size, against that of the model's output."""
    reference = max(
        (output.gradient_norm for output in case.statistics.outputs if output.touched), default=0.0
    )
    if not reference > 0 or case.flow.is_normalised(figures.info.node):
        return 0.0
    size = min(case.statistics.nodes[figures.info.node].output.rms, 1.0)
    return size * figures.preactivation_gradient_norm / reference
