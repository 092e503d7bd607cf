"""What all tables are read from: figures, flow and diagnosis, each worked out when first asked for."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from trainobs.analysis import Case, Flow, SiteFigures, TakeLook, WeightFigures, WholeLayerFigures
from trainobs.counterfactuals import TryOut
from trainobs.diagnosis import Diagnosis, diagnose
from trainobs.errors import InvalidArgument, NotRecorded
from trainobs.selection import Selection
from trainobs.statistics import Statistics
from trainobs.thresholds import Thresholds


class Facts:
    """Everything that is known of one model's gradients.

    Parameters
    ----------
    statistics : Statistics
    thresholds : Thresholds
    selection : Selection
        Which weights the tables show.
    take_look, try_out : callable, optional
        Takes a second look at the batch, and runs it with something changed, for the diagnosis; both are
        forgotten once that is made.

    Raises
    ------
    InvalidArgument
        If the statistics were counted with another `near_zero` than that of the thresholds.
    """

    def __init__(
        self,
        statistics: Statistics,
        thresholds: Thresholds,
        selection: Selection,
        take_look: TakeLook | None = None,
        try_out: TryOut | None = None,
    ) -> None:
        if statistics.near_zero != thresholds.near_zero:
            raise InvalidArgument(
                f"Statistics can be explained only with the thresholds that they were counted with. Those "
                f"were {statistics.near_zero}. Received: {thresholds.near_zero}. Leave `near_zero` and "
                f"`thresholds` out, pass thresholds with that `near_zero`, or record with "
                f'keep="tensors", which any thresholds can explain.'
            )
        self.statistics, self.thresholds, self._selection = statistics, thresholds, selection
        self._take_look, self._try_out = take_look, try_out

    @functools.cached_property
    def gradient_scale(self) -> float:
        """g*, the reference size of one element of n · dJ/dZ."""
        return self.thresholds.near_zero.gradient_scale(*self.statistics.loudest_output())

    @functools.cached_property
    def case(self) -> Case:
        """The figures of all weights, and the way of the gradient."""
        near_zero, scale = self.thresholds.near_zero, self.gradient_scale
        statistics = self.statistics
        sites = {key: SiteFigures(site, near_zero, scale) for key, site in statistics.sites.items()}
        flow = Flow(statistics.nodes, sites, statistics.loudest_output()[1])
        whole_layers = {
            key: WholeLayerFigures(other, near_zero, scale, flow) for key, other in statistics.others.items()
        }
        return Case(statistics, sites, whole_layers, flow, self.thresholds)

    @functools.cached_property
    def diagnosis(self) -> Diagnosis:
        """What is wrong, and where each weight's gradient is lost."""
        take_look, try_out = self._take_look, self._try_out
        self._take_look = self._try_out = None  # with them, the model
        with np.errstate(invalid="ignore", over="ignore"):
            return diagnose(dataclasses.replace(self.case, take_look=take_look, try_out=try_out))

    @property
    def sites(self) -> dict[str, SiteFigures]:
        """The weights whose way into their layers is known, by key."""
        return self.case.sites

    @property
    def flow(self) -> Flow:
        """The way of the gradient, node by node."""
        return self.case.flow

    @property
    def weights(self) -> list[WeightFigures]:
        """All weights (their parts, where they have some), in the order of the tables."""
        return list(self.case.weights.values())

    @property
    def shown(self) -> list[WeightFigures]:
        """The weights that the tables show."""
        return [figures for figures in self.weights if self.shows(figures)]

    def shows(self, figures: WeightFigures) -> bool:
        """Whether the tables show a weight."""
        info = figures.info
        return self._selection.matches(info.layer, info.weight, info.bases or (info.kind,))

    def named(self, name: str) -> list[SiteFigures]:
        """The weights of a layer, or the parts of the weight of that path.

        Raises
        ------
        NotRecorded
            If there is none.
        """
        named = self._by_name.get(name, [])
        if not named:
            known = ", ".join(dict.fromkeys(figures.info.layer for figures in self.sites.values()))
            raise NotRecorded(f"No layer or weight named {name!r} in this report. Explained layers: {known}.")
        return named

    @functools.cached_property
    def _by_name(self) -> dict[str, list[SiteFigures]]:
        """The weights of each layer and of each path."""
        named: dict[str, list[SiteFigures]] = {}
        for figures in self.sites.values():
            for name in {figures.info.layer, figures.info.weight}:
                named.setdefault(name, []).append(figures)
        return named

    def parts(self, name: str) -> list[SiteFigures]:
        """The parts of one weight: of that with this path, or of a layer's first that signals pass through.

        Raises
        ------
        NotRecorded
            If there is none, or more than one that could be meant.
        """
        named = {figures.info.weight: figures for figures in self.named(name)}
        main = [weight for weight, figures in named.items() if figures.carries]
        paths = [name] if name in named else main or list(named)[:1]
        if len(paths) > 1:
            raise NotRecorded(
                f"Several weights belong to {name!r}. Name one by its path: {', '.join(paths)}."
            )
        return [figures for figures in self.named(paths[0]) if figures.info.weight == paths[0]]

    def keys(self, weight: str) -> list[str]:
        """The keys of the parts of a weight, whatever is known of it."""
        return [weight] if weight in self.case.whole_layers else [part.key for part in self.parts(weight)]
