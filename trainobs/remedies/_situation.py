"""A finding's surroundings: the layers it speaks of, as far as the report knows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from trainobs.explanation import Explanation
from trainobs.mechanisms import Mechanism, VanishingAtNode, VanishingGradient, VanishingSignal
from trainobs.records import sums_of
from trainobs.statistics import SiteInfo

#: Mechanisms that many layers share, whichever is named.
_EVERYWHERE = (VanishingAtNode, VanishingGradient, VanishingSignal)


@dataclasses.dataclass(frozen=True)
class Situation:
    """A mechanism, and what the report knows of the layers that it speaks of.

    Parameters
    ----------
    report : Report
    mechanism : Mechanism
    """

    report: Explanation
    mechanism: Mechanism

    @property
    def alike(self) -> list[Mechanism]:
        """The mechanisms of this cause that are errors or warnings, and the mechanism itself, as ranked."""
        diagnosis = self.report.diagnosis
        alike = [
            diagnosis.mechanisms[finding.cause, finding.layer]
            for finding in diagnosis.findings
            if finding.cause == self.mechanism.cause and finding.severity != "info"
        ]
        return alike if self.mechanism in alike else [self.mechanism, *alike]

    @property
    def same(self) -> list[str]:
        """The layers that have this finding."""
        return [mechanism.layer for mechanism in self.alike]

    @property
    def is_everywhere(self) -> bool:
        """Whether the mechanism concerns all layers on the way."""
        return isinstance(self.mechanism, _EVERYWHERE)

    @property
    def targets(self) -> list[str]:
        """The layers to treat: those of the finding; all hidden ones where it concerns all."""
        return self.hidden if self.is_everywhere else [name for name in self.same if name in self.kernels]

    @property
    def kernels(self) -> list[str]:
        """All layers with a kernel, input first."""
        return list(dict.fromkeys(info.layer for info in self._kernel_infos()))

    @property
    def hidden(self) -> list[str]:
        """The layers with a kernel that another one reads."""
        return list(dict.fromkeys(info.layer for info in self._kernel_infos() if info.consumers))

    def activations(self) -> list[str]:
        """The layers with the activation functions of the targets."""
        infos = self._kernel_infos(self.targets)
        return list(dict.fromkeys(i.activation.layer for i in infos if i.activation.name != "linear"))

    def is_recurrent(self) -> bool:
        """Whether a target has gates: their activations and preactivations are inside of it."""
        return any(info.part or info.role == "recurrent" for info in self._kernel_infos(self.targets))

    def is_normalised(self, layer: str) -> bool:
        """Whether a normalisation stands between a layer's kernel and its activation already."""
        return any(info.normalised for info in self._kernel_infos([layer]))

    def dead_units(self, layers: Iterable[str]) -> dict[str, np.ndarray]:
        """For each layer with dead units, which of its units are; the same for normalisations behind it."""
        last = {info.layer: info.weight for info in self._kernel_infos(layers)}
        masks = {name: self.report.units(weight)["dead"].to_numpy(bool) for name, weight in last.items()}
        dead = {name: mask for name, mask in masks.items() if mask.any()}
        behind = {norm: mask for name, mask in dead.items() for norm in self._normalisations_of([name])}
        return dead | behind

    def with_normalisations(self, layers: Iterable[str]) -> list[str]:
        """Layers, and the normalisations between their kernels and activations."""
        layers = list(layers)
        return list(dict.fromkeys([*layers, *self._normalisations_of(layers)]))

    def _normalisations_of(self, layers: Iterable[str]) -> list[str]:
        nodes = {info.activation_node for info in self._kernel_infos(layers) if info.normalised}
        sites = [site.info for site in self.report.statistics.sites.values()]
        shifts = [info for info in sites if info.role in ("bias", "scale") and info.activation_node in nodes]
        return list(dict.fromkeys(info.layer for info in shifts if info.layer not in self.kernels))

    def too_large(self) -> list[str]:
        """The layers whose kernel is larger than He's scale."""
        large = [
            site.info.layer
            for site in self.report.statistics.sites.values()
            if site.info.role == "kernel"
            and sums_of(site.kernel).rms > 2 * site.info.op.healthy_weight(site.kernel.shape)
        ]
        return list(dict.fromkeys(large))

    def _kernel_infos(self, layers: Iterable[str] | None = None) -> list[SiteInfo]:
        wanted = None if layers is None else set(layers)
        infos = (site.info for site in self.report.statistics.sites.values())
        kernels = [info for info in infos if info.role in ("kernel", "recurrent", "table")]
        return [info for info in kernels if wanted is None or info.layer in wanted]
