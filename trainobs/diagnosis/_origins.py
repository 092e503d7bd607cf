"""Walk from a near-zero gradient to the place where it comes from.

`input` walks upstream (towards the data), `backprop` downstream (towards the loss), `activation`
stays and asks why the units are off. Each walk ends in an `Origin`, or in one for each branch that the
gradient is lost on.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from trainobs.analysis import (
    CAUSES,
    LOSS,
    Cause,
    Edge,
    Flow,
    Paths,
    Piece,
    SiteFigures,
    Stretch,
    WholeLayerFigures,
    powers,
)
from trainobs.records import DATA
from trainobs.thresholds import Thresholds

_FACTORS = ("input", "activation", "backprop")
#: The factors of each set.
_MEMBERS = {
    cause: tuple(factor for factor in _FACTORS if factor in str(cause.name).lower())
    for cause in CAUSES
    if cause is not Cause.CANCELLATION
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a near-zero gradient comes from.

    Attributes
    ----------
    cause : str
        One of the report's causes.
    layer : str
        The layer that holds the mechanism.
    steps : tuple of str
        The way there, for people.
    detail : dict
        Numbers of the mechanism, for the evidence sentence.
    share : float
        Its part, where a gradient is lost on several branches, each for a reason of its own.
    also : tuple of (str, str)
        Cause and layer of what alone would keep the gradient near zero too.
    """

    cause: str
    layer: str
    steps: tuple[str, ...] = ()
    detail: dict[str, float | str] = dataclasses.field(default_factory=dict, compare=False, hash=False)
    share: float = 1.0
    also: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What makes two origins the same mechanism."""
        return self.cause, self.layer

    def after(self, step: str) -> Origin:
        """The same origin, reached by one more step."""
        return dataclasses.replace(self, steps=(step, *self.steps))


def main_factor(figures: SiteFigures) -> str:
    """Which factor holds most of a weight's near-zero gradients.

    Sets that share a weight have equal parts of it. Of a set of several factors, none of which would
    do alone, the part goes to the one that is smallest against its reference.
    """
    parts = figures.used_shares
    scores = dict.fromkeys(_FACTORS, 0.0) | {"cancellation": float(parts[Cause.CANCELLATION])}
    for cause, factors in _MEMBERS.items():
        smallest = min(factors, key=lambda factor: figures.factor_sizes[factor])
        scores[smallest] += float(parts[cause])
    return max(scores, key=lambda factor: scores[factor])


def also_sufficient(figures: SiteFigures, factor: str) -> list[str]:
    """Which other factors alone keep most of a weight's near-zero gradients there, too."""
    found = figures.verdict[figures.near_zero]
    return [
        other
        for cause, (other, *more) in _MEMBERS.items()
        if other != factor and not more and np.mean((found & cause) != 0) > 0.5
    ]


def is_joint(figures: SiteFigures) -> bool:
    """Whether most of a weight's near-zero gradients have no factor that alone keeps them there."""
    parts = figures.used_shares
    joint = sum(float(parts[cause]) for cause, factors in _MEMBERS.items() if len(factors) > 1)
    return joint > 0.5


class Walk:
    """Walks over the flow of one report.

    Parameters
    ----------
    flow : Flow
        Nodes and kernels with their figures.
    settings : Thresholds
        Thresholds of findings.
    ways : Paths
        From nodes to the loss.
    silent_loss : bool
        Whether the loss delivers no gradient at all.
    learning : frozenset of str
        Layers of unknown kind whose own weights get a gradient.
    """

    def __init__(
        self, flow: Flow, settings: Thresholds, ways: Paths, silent_loss: bool, learning: frozenset[str]
    ) -> None:
        self._flow = flow
        self._ways = ways
        self._settings = settings
        self._shrunk = settings.shrunk * settings.near_zero.rtol
        self.silent_loss = silent_loss
        self._learning = learning
        self._lost_on_stretches: dict[int, list[Origin]] = {}

    def origins(self, figures: SiteFigures) -> tuple[Origin, ...]:
        """Where the near-zero gradient of a kernel comes from: the largest share first."""
        info = figures.info
        start = f"{info.layer}/{info.weight.rsplit('/', 1)[-1]}"
        if not info.connected:
            return (self.disconnection(figures).after(start),)
        if self.underflows(figures):
            return (self.of_underflow(figures).after(start),)
        silenced = self._silenced(figures)
        if silenced is not None:
            return (silenced.after(start),)
        factor = main_factor(figures)
        if factor == "cancellation":
            return (Origin("cancellation", info.layer, (start,)),)
        found = self._by(factor, figures)
        if is_joint(figures):
            found = tuple(dataclasses.replace(o, detail={**o.detail, "joint": "yes"}) for o in found)
        others = [o for other in also_sufficient(figures, factor) for o in self._by(other, figures)]
        besides = [key for o in others for key in (o.key, *o.also)]
        return tuple(_also(o, besides).after(f"{start} ← {factor}") for o in found)

    def _by(self, factor: str, figures: SiteFigures) -> tuple[Origin, ...]:
        """Why a factor of a kernel's gradient is near zero."""
        if factor == "backprop":
            return self.of_backprop(figures)
        return (self.of_input(figures) if factor == "input" else self.of_off_units(figures),)

    def other_origins(self, other: WholeLayerFigures) -> tuple[Origin, ...]:
        """Where the near-zero gradient of a weight of unknown kind comes from."""
        info, nodes = other.info, other.info.nodes
        start = f"{info.layer}/{info.weight.rsplit('/', 1)[-1]}"
        if not info.connected:
            return (Origin("disconnected", info.layer, (start,), {"where": "unused"}),)
        if Cause.BACKPROP in other.causes:
            return tuple(o.after(f"{start} ← backprop") for o in self.backprop_at(nodes[-1], info.layer))
        if Cause.INPUT in other.causes:
            return (Origin("zero_input", info.layer, (start,), {"where": "layer"}),)
        return (Origin("unexplained", info.layer, (start,), {"where": "layer"}),)

    # ---- stays -------------------------------------------------------------------------------

    def of_off_units(self, figures: SiteFigures, seen: frozenset[str] = frozenset()) -> Origin:
        """Why the units of a layer are off."""
        figures = self._flow.site_of_activation(figures.info.activation_node) or figures
        silenced = self._silenced(figures)
        if silenced is not None:
            return silenced
        info, (reason, _) = figures.info, figures.main_off_reason(self._settings.firing)
        detail = self._off_detail(figures)
        step = f"{info.activation.layer} off: {reason}"
        if self._featureless(figures) and not info.normalised:
            return Origin("zero_weights", info.layer, (step,), detail)
        rectifies = info.activation.rectifies(self._settings.near_zero.slope_atol)
        if self.reads_unscaled(figures) and reason != "bias":
            return Origin("unscaled_input", info.layer, (step,), detail)
        if rectifies and reason == "input" and info.key not in seen:
            found = self.of_input(figures, seen | {info.key}).after(step)
            return _also(found, [("dead_activation", info.layer)] if self._pushed_off(figures) else [])
        return Origin("dead_activation" if rectifies else "saturated_activation", info.layer, (step,), detail)

    def _pushed_off(self, figures: SiteFigures) -> bool:
        """Whether biases alone would keep units off, whatever healthy input they got."""
        fan_in = 2 / figures.healthy_weight**2  # of He's scale
        healthy = self._settings.near_zero.activation_scale * figures.kernel_rms * math.sqrt(fan_in)
        pushed = figures.statistics.bias_rms > self._settings.deep_bias * healthy
        return not figures.info.normalised and pushed

    def underflows(self, figures: SiteFigures) -> bool:
        """Whether half precision flushed most of a weight's gradients to zero."""
        return figures.flushed_fraction > self._settings.flushed

    def of_underflow(self, figures: SiteFigures) -> Origin:
        """Half precision as the origin, at the layer next to the loss where it begins."""
        edges = self._ways.loudest(self._ways.to_loss(figures.info.activation_node))
        passed = (self._flow.site_at(edge.reader) for edge in edges if edge.reader != LOSS)
        flushed = [site for site in passed if site is not None and self.underflows(site)]
        figures = flushed[-1] if flushed else figures
        detail: dict[str, float | str] = {"flushed": figures.flushed_fraction, "dtype": figures.info.dtype}
        return Origin("underflow", figures.info.layer, (figures.info.layer,), detail)

    def reads_unscaled(self, figures: SiteFigures) -> bool:
        """Whether a layer reads data of a scale far from 1."""
        return self._flow.reads_data(figures.info.node) and figures.input_rms >= self._settings.large_input

    def _off_detail(self, figures: SiteFigures) -> dict[str, float | str]:
        shifts = [s for n in self._flow.between(figures) if (s := self._flow.shift_at(n)) is not None]
        reason, share = figures.main_off_reason(self._settings.firing)
        return {
            "part": figures.info.part,
            "role": figures.info.role,
            "shift": shifts[-1].info.layer if shifts else "",
            "reason": reason,
            "reason_share": share,
            "dead": int(np.sum(figures.dead)),
            "units": figures.units,
            "off": figures.off_fraction,
            "positions": figures.unit_positions,
            "activation": figures.info.activation.name,
            "input_rms": figures.input_rms,
            "bias_rms": shifts[-1].kernel_rms if shifts else figures.statistics.bias_rms,
            "kernel_rms": figures.kernel_rms,
            "healthy_weight": figures.healthy_weight,
        }

    def _featureless(self, figures: SiteFigures) -> bool:
        """Whether the kernel is zero or constant, so that nothing tells units apart.

        A kernel near zero counts if it is the only small one; several are a decay over depth.
        """
        if figures.info.role == "table":  # its values are what the next kernel reads
            return figures.kernel_rms <= self._settings.near_zero.rtol
        if np.isnan(figures.healthy_weight):  # a bias, a scale
            return False
        near_zero = figures.kernel_rms <= self._settings.near_zero.rtol * figures.healthy_weight
        alone = len(self._small_kernels) <= 1
        return figures.kernel_rms == 0 or (near_zero and alone) or is_constant_kernel(figures)

    def _silenced(self, figures: SiteFigures) -> Origin | None:
        """A normalisation between a kernel and its activation whose gamma is zero."""
        found = (self._zero_scale(node) for node in self._flow.between(figures))
        return next((origin for origin in found if origin is not None), None)

    def _zero_scale(self, node: int) -> Origin | None:
        """A scale of zero as the origin, if the node multiplies with one.

        One that gets a gradient itself is on its way: blocks that start as the identity begin like this.
        """
        scale = self._flow.scale_at(node)
        if scale is None or scale.kernel_rms > self._settings.near_zero.rtol:
            return None
        info = scale.info
        learns = info.trainable and info.connected and scale.near_zero_fraction <= self._settings.affected
        detail: dict[str, float | str] = {
            "scale": info.weight.rsplit("/", 1)[-1],
            "kernel_rms": scale.kernel_rms,
            "learns": "yes" if learns else "",
        }
        return Origin("zero_weights", info.layer, (info.layer,), detail)

    # ---- upstream ----------------------------------------------------------------------------

    def of_input(self, figures: SiteFigures, seen: frozenset[str] = frozenset()) -> Origin:
        """Why what a kernel multiplies is near zero."""
        info, state = figures.info, figures.info.role == "recurrent"
        read = self._flow.gates(info.node) if state else self._flow.upstream_sites(info.node)
        upstream = [s for s in read if s.info.key not in seen]
        if self._levels(figures):
            return self._masked(info.node)
        if not upstream:
            return Origin("zero_input", info.layer, ("data",), input_detail(figures))
        source = min(upstream, key=self._liveness)
        seen = seen | {info.key}
        stopped = self._zero_scale_before(info.node) or self._silenced(source)
        if stopped is not None:
            return stopped
        if self._featureless(source):
            return Origin("zero_weights", source.info.layer, (source.info.layer,), self._off_detail(source))
        if self._mostly_off(source):
            return self.of_off_units(source, seen)
        if self._shrinks(source):
            return self._vanishing_forward(source)
        if source.input_rms <= self._settings.near_zero.rtol and source.info.role == "kernel":
            return self.of_input(source, seen).after(source.info.layer)
        if self._output_rms(source) <= self._shrunk or is_joint(figures) or state:
            return self._vanishing_forward(source)
        return self._stopped_between(figures)

    def _zero_scale_before(self, node: int) -> Origin | None:
        """A scale of zero in front of a node, with no kernel in between."""
        producers = self._flow.records[node].producers
        while len(producers) == 1 and producers[0] != DATA and self._flow.site_at(producers[0]) is None:
            found = self._zero_scale(producers[0])
            if found is not None:
                return found
            producers = self._flow.records[producers[0]].producers
        return None

    def _liveness(self, figures: SiteFigures) -> float:
        return 1.0 - figures.off_fraction

    def _mostly_off(self, figures: SiteFigures) -> bool:
        return self.dead(figures) or self.saturated(figures)

    def dead(self, figures: SiteFigures) -> bool:
        """Whether more units of a rectifying layer are dead than a healthy one has."""
        if not figures.info.activation.rectifies(self._settings.near_zero.slope_atol) or figures.info.logits:
            return False
        by_bias = figures.main_off_reason(self._settings.firing)[0] == "bias"
        limit = self._settings.dead_units if by_bias else self._settings.dead_units_by_chance
        return bool(np.mean(figures.dead) > limit)

    def saturated(self, figures: SiteFigures) -> bool:
        """Whether a bounded activation is off at most positions."""
        info = figures.info
        bounded = info.activation.elementwise and not info.activation.rectifies(
            self._settings.near_zero.slope_atol
        )
        return bounded and not info.logits and figures.off_fraction > self._settings.saturated

    def _shrinks(self, figures: SiteFigures) -> bool:
        return figures.kernel_rms < self._settings.small_kernel * figures.healthy_weight

    def _vanishing_forward(self, source: SiteFigures) -> Origin:
        detail: dict[str, float | str] = {
            "factor": "kernel" if self._small_kernels else "signal",
            "direction": "forward",
            "kernel_rms": source.kernel_rms,
            "healthy_weight": source.healthy_weight,
            "role": source.info.role,
            "layers": self._depth(source),
        }
        return Origin("vanishing", self._weakest_kernel(source), (source.info.layer,), detail)

    def _depth(self, figures: SiteFigures) -> int:
        """How many kernels the signal has passed from the data, this one included."""
        upstream = self._flow.upstream_sites(figures.info.node)
        return 1 + max((self._depth(site) for site in upstream), default=0)

    @functools.cached_property
    def _small_kernels(self) -> list[SiteFigures]:
        sites = (self._flow.site_at(index) for index in range(len(self._flow.records)))
        return [site for site in sites if site is not None and self._shrinks(site)]

    def _weakest_kernel(self, fallback: SiteFigures) -> str:
        small = self._small_kernels or [fallback]
        return min(small, key=lambda site: site.kernel_rms / site.healthy_weight).info.layer

    def _output_rms(self, figures: SiteFigures) -> float:
        return self._flow.records[figures.info.activation_node].output.rms

    def _stopped_between(self, figures: SiteFigures) -> Origin:
        """A layer without a kernel, between two live ones, puts out near-zero values."""
        node = self._flow.records[figures.info.node].producers[0]
        maker = None if node == DATA else self._forgets(node) or self._silent_maker(node)
        if maker is not None:
            return maker
        if node == DATA or not self._flow.records[node].output.rms <= self._settings.near_zero.rtol:
            detail = input_detail(figures) | {
                "own": "" if figures.carries else figures.info.weight.rsplit("/")[-1]
            }
            return Origin("zero_input", figures.info.layer, (figures.info.layer,), detail)
        return self._masked(node)

    def _levels(self, figures: SiteFigures) -> bool:
        """Whether a normalisation makes near-zero values of others: of one element each, or of equal ones."""
        node = figures.info.node
        if figures.info.role != "scale" or not self._flow.normalises(node):
            return False
        upstream = (site.info for site in self._flow.upstream_sites(node))
        # what it reads is behind an activation that stands before it, else right behind the kernel
        makers = (i.activation_node if i.activation_node < node else i.node for i in upstream)
        live = any(self._flow.records[maker].output.rms > self._settings.near_zero.rtol for maker in makers)
        return live and figures.input_rms <= self._settings.near_zero.rtol

    def _masked(self, node: int) -> Origin:
        """A node that puts out near-zero values, though what it reads is live."""
        layer = self._layer(node)
        return Origin("masked", layer, (layer,), {"normalises": "yes"} if self._flow.normalises(node) else {})

    # ---- downstream --------------------------------------------------------------------------

    def of_backprop(self, figures: SiteFigures) -> tuple[Origin, ...]:
        """Why the gradient that arrives at a layer's output is near zero: the largest share first."""
        return self.backprop_at(figures.info.activation_node, figures.info.layer)

    def backprop_at(self, node: int, layer: str) -> tuple[Origin, ...]:
        """Why the gradient that arrives at a node of this layer is near zero."""
        way = self._ways.to_loss(node)
        if self.silent_loss or not way:
            last = [edge.maker for edge in self._ways.loudest(way)][-1:]
            return (Origin("zero_loss_gradient", self._layer(last[0]) if last else layer, ("loss",)),)
        for passed in (node, *(e.reader for e in self._ways.loudest(way) if e.reader != LOSS)):
            site = self._site(passed)
            if site is not None and self.underflows(site):
                return (_chained(self.of_underflow(site), (site.info.layer,)),)
        return self._lost_on(way)

    def _lost_on(self, way: tuple[Piece, ...]) -> tuple[Origin, ...]:
        """Where a gradient is lost on its way: at one node, on all branches of a stretch, or slowly.

        Other places that would have done it alone are named besides: the loss at each is sufficient.
        """
        losses = [self._ways.loss(piece).powers for piece in way]
        worst = max(losses)
        place = losses.index(worst)
        if not self._kills(worst, losses) or isinstance(way[place], Edge):
            found: tuple[Origin, ...] = (self._lost_on_edges(self._ways.loudest(way)),)
        else:
            steps = tuple(self._layer(e.reader) for e in self._ways.loudest(way[:place]))
            found = tuple(_chained(o, steps) for o in self._lost_on_branches(way[place]))
        if not self._kills(worst, losses):
            return found
        others = [(p,) for at, p in enumerate(way) if at != place and losses[at] >= self._sufficient]
        besides = [key for other in others for o in self._lost_on(other) for key in (o.key, *o.also)]
        return tuple(_also(origin, besides) for origin in found)

    def _kills(self, loss: float, losses: list[float]) -> bool:
        """Whether one loss of several is that of a killer, and the others no part of a slow decay."""
        total = sum(loss for loss in losses if loss > 0)
        return math.isinf(loss) or (loss >= self._settings.killer and loss > 0.5 * total)

    @property
    def _sufficient(self) -> float:
        """Powers of ten that alone make a gradient near zero."""
        return -math.log10(self._settings.near_zero.rtol)

    def _lost_on_branches(self, stretch: Piece) -> list[Origin]:
        """The origins of all branches, the same ones as one; each branch has the same share.

        A branch that is cut off is none, as long as there are others: nothing was to come from there.
        """
        assert isinstance(stretch, Stretch)
        if stretch.start not in self._lost_on_stretches:
            self._lost_on_stretches[stretch.start] = self._joined(
                [self._lost_on(b) for b in stretch.branches]
            )
        return self._lost_on_stretches[stretch.start]

    @staticmethod
    def _joined(by_branch: list[tuple[Origin, ...]]) -> list[Origin]:
        """The origins of branches, the same ones as one."""
        open_ones = [o for o in by_branch if any(origin.cause != "disconnected" for origin in o)] or by_branch
        found: dict[tuple[str, str], Origin] = {}
        for origin in (o for branch in open_ones for o in branch):
            share, same = origin.share / len(open_ones), found.get(origin.key)
            found[origin.key] = dataclasses.replace(
                same or origin, share=share + (same.share if same else 0.0)
            )
        return sorted(found.values(), key=lambda origin: -origin.share)

    def _lost_on_edges(self, edges: list[Edge]) -> Origin:
        """Where a gradient is lost along one edge after the other."""
        losses = [self._ways.loss(edge) for edge in edges]
        worst = max(losses, key=lambda loss: loss.powers)
        edge = edges[losses.index(worst)]
        killer = self._kills(worst.powers, [loss.powers for loss in losses])
        if edge.reader == LOSS and killer:
            return self._quiet_output(edge.maker)
        path = [e.reader for e in edges if e.reader != LOSS]
        if not path:  # nothing stands between: what the loss sends is little
            return Origin("zero_loss_gradient", self._layer(edge.maker), ("loss",))
        steps = tuple(self._layer(node) for node in path[: edges.index(edge) + 1])
        site = None if edge.reader == LOSS else self._site(edge.reader)
        if site is not None and killer and worst.factor == "slope":
            return _chained(self.of_off_units(site), steps)
        if site is not None and worst.factor == "kernel" and self._featureless(site):
            return _chained(Origin("zero_weights", site.info.layer, (), self._off_detail(site)), steps)
        if site is None and killer:
            return self._killed_between(edge.reader, worst.powers, steps)
        along = tuple(self._layer(node) for node in path)
        strongest = path[-1] if edge.reader == LOSS else edge.reader
        return Origin("vanishing", self._layer(strongest), along, self._decay(path))

    def _quiet_output(self, node: int) -> Origin:
        """An output that gets next to nothing of the loss, while another one does."""
        detail: dict[str, float | str] = {"below": self._ways.loss(Edge(LOSS, node)).powers}
        return Origin("zero_loss_gradient", self._layer(node), ("loss",), detail)

    def _layer(self, node: int) -> str:
        return self._flow.records[node].layer

    def _site(self, node: int) -> SiteFigures | None:
        """The kernel that a node has, or whose activation it is."""
        return self._flow.site_at(node) or self._flow.site_of_activation(node)

    def _killed_between(self, node: int, worst: float, steps: tuple[str, ...]) -> Origin:
        """A node without a kernel takes the gradient: all of it, or most.

        By its scale of zero; by one of its gates, or another of its inputs, that it multiplies with; by a
        state that is not carried on; or by itself.
        """
        record = self._flow.records[node]
        scale = self._zero_scale(node)
        if scale is not None:
            return _chained(scale, steps)
        off = [gate for gate in self._flow.gates(node) if self._mostly_off(gate)]
        if off:
            return _chained(self.of_off_units(min(off, key=self._liveness)), steps)
        silent = self._forgets(node) or self._silent_maker(node)
        if silent is not None:
            return _chained(silent, steps)
        if not math.isinf(worst):
            detail: dict[str, float | str] = {"factor": "node", "direction": "node", "gain": 10**-worst}
            detail["learns"] = "yes" if record.layer in self._learning else ""
            return Origin("vanishing", record.layer, steps, detail)
        if record.output.rms <= self._settings.near_zero.rtol:
            return _chained(self._masked(node), steps)
        return Origin("disconnected", record.layer, steps, {"where": "gradient"})

    def _forgets(self, node: int) -> Origin | None:
        """Recurrent kernels of zero as the origin: nothing is carried from step to step."""
        kernels = self._flow.recurrent_kernels(node)
        if not kernels or any(
            k.kernel_rms > self._settings.near_zero.rtol * k.healthy_weight for k in kernels
        ):
            return None
        layer = kernels[0].info.layer
        return Origin("zero_weights", layer, (layer,), self._off_detail(kernels[0]))

    def _silent_maker(self, node: int) -> Origin | None:
        """Why one of several inputs of a node is near zero, if one is: a product passes nothing on."""
        if len(self._flow.records[node].producers) < 2:
            return None
        maker = min(self._flow.upstream_sites(node), key=self._output_rms, default=None)
        if maker is None or self._output_rms(maker) > self._settings.near_zero.rtol:
            return None
        if self._featureless(maker):
            return Origin("zero_weights", maker.info.layer, (maker.info.layer,), self._off_detail(maker))
        if self._mostly_off(maker):
            return self.of_off_units(maker)
        if maker.input_rms <= self._shrunk:
            return self.of_input(maker).after(maker.info.layer)
        return self._vanishing_forward(maker) if self._shrinks(maker) else None

    def _decay(self, path: list[int]) -> dict[str, float | str]:
        sites = [site for node in path if (site := self._flow.site_at(node)) is not None]
        gains = [self._flow.nodes[node].gain for node in path]
        total = sum(powers(gain) for gain in gains if gain > 0)
        taken = [powers(self._flow.nodes[site.info.node].kernel_gain) for site in sites]
        smallest = sites[int(np.argmax(taken))] if sites else None
        factors = {"slope": 0.0, "kernel": 0.0}
        for node in path:
            flow = self._flow.nodes[node]
            factors["slope"] += max(powers(flow.slope_gain), 0.0)
            factors["kernel"] += max(powers(flow.kernel_gain), 0.0)
        return {
            "factor": max(factors, key=lambda name: factors[name]),
            "direction": "backward",
            "layers": max(len(sites), 1),
            "mean_gain": 10 ** (-total / max(len(sites), 1)),
            "partial": "yes" if total < self._sufficient else "",
            "rectifies": str(
                all(s.info.activation.rectifies(self._settings.near_zero.slope_atol) for s in sites[:-1])
            ),
            "kernel_rms": smallest.kernel_rms if smallest else float("nan"),
            "healthy_weight": smallest.healthy_weight if smallest else float("nan"),
            "kernel_of": smallest.info.layer if smallest else "",
        }

    # ---- no gradient at all ------------------------------------------------------------------

    def disconnection(self, figures: SiteFigures) -> Origin:
        """Where the gradient of a kernel that the tape returned None for comes to an end."""
        start = figures.info.activation_node
        todo: list[tuple[int, tuple[int, ...]]] = [(start, ())]
        seen = set()
        while todo:
            node, between = todo.pop(0)
            if node in seen:
                continue
            seen.add(node)
            for consumer in self._flow.consumers[node]:
                reader = self._flow.records[consumer]
                if reader.output_gradient is not None or reader.unread:  # one arrived there
                    return self._cut(figures, between, consumer)
                kernel = self._flow.site_at(consumer) is not None
                todo.append((consumer, () if kernel else (*between, consumer)))
        last = self._flow.records[self._flow.end(start)].layer
        return Origin("disconnected", last, ("no path to the loss",), {"where": "unused"})

    def _cut(self, figures: SiteFigures, between: tuple[int, ...], reader: int) -> Origin:
        """Name the layer that lets no gradient through: `reader` has one, `between` has not."""
        records = self._flow.records
        suspects = [n for n in between if records[n].kind in _CUTTING] or list(
            between[:1] if len(between) == 1 else ()
        )
        named = records[suspects[0] if suspects else reader].layer
        passes = bool(between) or self._flow.site_at(reader) is not None  # a kernel hands it on
        detail: dict[str, float | str] = {
            "where": "layer" if suspects else "before" if passes else "gradient",
            "reader": records[reader].layer,
        }
        return Origin("disconnected", named, (named,), detail)


#: Kinds of nodes that can stop a gradient; where one stands in the gap it is named.
_CUTTING = frozenset({
    "StopGradient", "Argmax", "Argmin", "Argsort", "Cast", "Lambda", "Sign", "Round", "Floor", "Ceil",
    "OneHot", "Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "Discretization", "CategoryEncoding",
})  # fmt: skip


def input_detail(figures: SiteFigures) -> dict[str, float | str]:
    """Numbers of what a kernel reads, for the evidence sentence."""
    return {
        "zero_inputs": int(np.sum(figures.dead_inputs)),
        "inputs": int(figures.dead_inputs.size),
        "named": name_inputs(figures.dead_inputs),
        "positions": float(figures.statistics.sums["input_size"]),
        "input_rms": figures.input_rms,
    }


def is_constant_kernel(figures: SiteFigures) -> bool:
    """Whether several units have the very same incoming weights."""
    kernel = figures.statistics.kernel
    if figures.info.role != "kernel" or figures.info.op.groups > 1:  # groups read different inputs
        return False
    return kernel.shape[-1] > 1 and bool(np.all(kernel == kernel[..., :1]))


def name_inputs(mask: np.ndarray, most: int = 12) -> str:
    """Positions of the true values, as ranges: "0–27, 31, 40–44"."""
    hits = np.flatnonzero(mask)
    runs = np.split(hits, np.flatnonzero(np.diff(hits) > 1) + 1) if hits.size else []
    shown = [str(run[0]) if run.size == 1 else f"{run[0]}–{run[-1]}" for run in runs[:most]]
    return ", ".join(shown) + (", …" if len(runs) > most else "")


def _also(origin: Origin, besides: list[tuple[str, str]]) -> Origin:
    """The origin, with what alone would do the same."""
    others = dict.fromkeys(key for key in (*origin.also, *besides) if key != origin.key)
    return dataclasses.replace(origin, also=tuple(others))


def _chained(origin: Origin, steps: tuple[str, ...]) -> Origin:
    return dataclasses.replace(origin, steps=(*steps, *origin.steps))
