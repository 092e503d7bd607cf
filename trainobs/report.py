"""A report: the frozen result of an explanation. Tables, plots and HTML are views of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainobs.analysis import CAUSE_NAMES, CAUSES, Case, Cause, Flow, SiteFigures, WholeLayerFigures
from trainobs.diagnosis import Diagnosis, chain, diagnose
from trainobs.errors import NotRecorded
from trainobs.findings import COLUMNS, Finding
from trainobs.records import OPERATIONS
from trainobs.selection import Selection
from trainobs.statistics import OFF_REASONS, Statistics
from trainobs.thresholds import NearZero, Thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIKELIHOODS = (
    "p_input",
    "p_activation",
    "p_weights",
    "p_backprop",
    "p_backprop_pinv",
    "p_next_gradient",
    "p_input_activation",
    "p_activation_backprop",
)
SHARES = tuple(f"share_{name}" for name in CAUSE_NAMES)
#: What a weight without terms counts for; None: the figure is not one of weights.
_UNUSED = {"p_input": 1.0, "p_input_activation": 1.0, "p_next_gradient": None}
OFF_COLUMNS = tuple(f"off_by_{reason}" for reason in OFF_REASONS)


@dataclasses.dataclass(frozen=True, eq=False)
class WeightView:
    """What a report says about each weight of one kernel. All arrays have the kernel's shape.

    Attributes
    ----------
    near_zero : bool array
        Whether the weight's gradient is near zero.
    gradient : float array
        dJ/dW without the kernel's own penalty.
    verdict : uint8 array
        Bits of `Cause`: the minimal sufficient causes; 0 where the gradient is not near zero.
    grid : uint8 array of shape (*k, inputs, units)
        The verdicts with inputs and units as the last axes, whatever the kernel's own shape; of a
        table, of the rows that were looked up.
    """

    near_zero: np.ndarray
    gradient: np.ndarray
    verdict: np.ndarray
    grid: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return getattr(self, name)


class Report:
    """Why gradients are near zero: tables, plots and sentences about one batch, step or data set.

    Made by `explain_near_zero_gradients`; not meant to be constructed by hand.

    Parameters
    ----------
    statistics : Statistics
        The additive sums of everything that was run.
    near_zero : NearZero
        The thresholds that were used.
    settings : Thresholds, optional
        When figures become findings.
    selection : Selection, optional
        Which layers the tables show.

    Notes
    -----
    Every figure is defined in docs/definitions.md.
    """

    def __init__(
        self,
        statistics: Statistics,
        near_zero: NearZero,
        *,
        settings: Thresholds | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.statistics = statistics
        self.near_zero = near_zero
        self._selection = selection or Selection()
        self._settings = settings or Thresholds(near_zero=near_zero)

    # ---- what everything is read from --------------------------------------------------------

    @functools.cached_property
    def gradient_scale(self) -> float:
        """g*, the reference size of one element of n · dJ/dZ."""
        return self.near_zero.gradient_scale(*self.statistics.loudest_output())

    @functools.cached_property
    def _sites(self) -> dict[str, SiteFigures]:
        return {
            weight: SiteFigures(site, self.near_zero, self.gradient_scale)
            for weight, site in self.statistics.sites.items()
        }

    @functools.cached_property
    def _others(self) -> dict[str, WholeLayerFigures]:
        return {
            weight: WholeLayerFigures(other, self.near_zero, self.gradient_scale, self._flow)
            for weight, other in self.statistics.others.items()
        }

    @property
    def _shown(self) -> list[SiteFigures]:
        return [f for f in self._sites.values() if self._shows(f.info)]

    def _shows(self, info: Any) -> bool:
        return self._selection.matches(info.layer, info.weight, info.bases or (info.kind,))

    @functools.cached_property
    def _flow(self) -> Flow:
        return Flow(self.statistics.nodes, self._sites, self.statistics.loudest_output()[1])

    @functools.cached_property
    def _diagnosis(self) -> Diagnosis:
        with np.errstate(invalid="ignore", over="ignore"):
            return self._diagnosed()

    def _diagnosed(self) -> Diagnosis:
        return diagnose(Case(self.statistics, self._sites, self._others, self._flow, self._settings))

    def _parts(self, name: str) -> list[SiteFigures]:
        """The figures of a weight, part by part: of one named by its path, or of a layer's first."""
        named = {f.info.weight: f for f in self._sites.values() if name in (f.info.layer, f.info.weight)}
        main = [weight for weight, figures in named.items() if figures.carries]
        paths = [name] if name in named else main or list(named)[:1]
        if not named:
            known = ", ".join(dict.fromkeys(f.info.layer for f in self._sites.values()))
            raise NotRecorded(f"No layer or weight named {name!r} in this report. Explained layers: {known}.")
        if len(paths) > 1:
            raise NotRecorded(
                f"Several weights belong to {name!r}. Name one by its path: {', '.join(paths)}."
            )
        return [f for f in self._sites.values() if f.info.weight == paths[0]]

    # ---- tables ------------------------------------------------------------------------------

    @functools.cached_property
    def layers(self) -> pd.DataFrame:
        """A row per trainable weight (index `weight`, the variable's path), in the order of the forward pass.

        Returns
        -------
        pandas.DataFrame
            Columns in docs/definitions.md. Fractions are in [0, 1]; nan means "nothing to say":
            shares of a weight without near-zero gradients, figures of a frozen one.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            by_weight: dict[str, list[SiteFigures]] = {}
            for figures in self._shown:
                by_weight.setdefault(figures.info.weight, []).append(figures)
            rows = [joined([self._layer_row(part) for part in parts]) for parts in by_weight.values()]
            others = [other for other in self._others.values() if self._shows(other.info)]
            rows += [self._other_row(other) for other in others]
        index = pd.Index([*by_weight, *(o.info.weight for o in others)], name="weight", dtype=object)
        return pd.DataFrame(rows, index=index)

    @property
    def kernels(self) -> pd.DataFrame:
        """The rows of `layers` without biases and scales, which only modify what passes by them."""
        modifying = {f.info.weight for f in self._sites.values() if f.info.role in ("bias", "scale")}
        return self.layers[~self.layers.index.isin(modifying)]

    def parts(self, layer: str) -> pd.DataFrame:
        """A row per part of a layer's weights: the gates of a recurrent layer, say.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of one of its weights.

        Returns
        -------
        pandas.DataFrame
            Index (`weight`, `part`); columns as in `layers`. A weight that is one piece has one row,
            its part is "".
        """
        found = [f for f in self._sites.values() if layer in (f.info.layer, f.info.weight)]
        if not found:
            self._parts(layer)  # says what there is
        with np.errstate(invalid="ignore", over="ignore"):
            rows = [self._layer_row(figures) for figures in found]
        names = [(figures.info.weight, figures.info.part) for figures in found]
        return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(names, names=["weight", "part"]))

    def time_steps(self, layer: str) -> pd.DataFrame:
        """A row per gate and time step of a recurrent layer: which of them receive no gradient.

        Parameters
        ----------
        layer : str
            A layer's name.

        Returns
        -------
        pandas.DataFrame
            Index (`part`, `time_step`); `off` (fraction of the gate's values with a slope near zero),
            `gradient_rms` (of n · dJ/dZ, to be held against g*) and `near_zero` (whether that is at most
            rtol · g*).

        Raises
        ------
        NotRecorded
            If the layer has no time steps.
        """
        found = [f for f in self._sites.values() if f.info.layer == layer and f.steps and f.carries]
        if not found:
            timed = dict.fromkeys(f.info.layer for f in self._sites.values() if f.steps)
            raise NotRecorded(
                f"The layer {layer!r} has no time steps in this report. Layers that have: "
                f"{', '.join(timed) or 'none'}."
            )
        tables = [
            pd.DataFrame(
                {"off": f.step_off, "gradient_rms": f.step_gradient_rms, "near_zero": f.step_near_zero}
            )
            for f in found
        ]
        return pd.concat(tables, keys=[f.info.part for f in found], names=["part", "time_step"])

    def _layer_row(self, figures: SiteFigures) -> dict[str, Any]:
        info, origins = figures.info, self._diagnosis.origins.get(figures.info.key, ())
        row: dict[str, Any] = {
            "layer": info.layer,
            "kind": info.kind,
            "activation": info.activation.name,
            "shape": info.shape,
            "size": figures.size,
            "positions": int(figures.unit_positions),
            "near_zero": figures.near_zero_fraction,
            "exact_zero": figures.exact_zero_fraction,
            "gradient_rms": figures.gradient_rms,
            "threshold": float(np.max(figures.thresholds, initial=0.0)),
        }
        row |= {
            name: figures.mean(values, unused=_UNUSED.get(name, 0.0))
            for name, values in self._likelihoods(figures).items()
        }
        row |= _named(figures.shares)
        row["dead_units"] = int(np.sum(figures.dead))
        row |= {f"off_by_{reason}": figures.off_by(reason) for reason in OFF_REASONS}
        node = self._flow.nodes[info.node]
        row["gain"] = figures.slope_gain * node.kernel_gain
        row |= {"pinv_trust": figures.pinv_trust, "residual": figures.residual}
        if not info.trainable or not figures.is_finite:
            row |= dict.fromkeys(("near_zero", "exact_zero", "gradient_rms", *SHARES), float("nan"))
        return row | self._root(info, origins)

    def _root(self, info: Any, origins: tuple[Any, ...]) -> dict[str, str | None]:
        """The first of the origins: that with the largest share."""
        cause, layer = (None, None) if info.trainable else ("frozen", info.layer)
        if origins:
            cause, layer = origins[0].key
        return {"root_cause": cause, "root_layer": layer}

    def _other_row(self, other: WholeLayerFigures) -> dict[str, Any]:
        """A weight that is explained with its layer as a whole: what is not known of it is nan."""
        info = other.info
        return {
            "layer": info.layer,
            "kind": info.kind,
            "activation": "",
            "shape": info.shape,
            "size": other.size,
            "positions": int(other.samples),
            "near_zero": other.near_zero_fraction,
            "exact_zero": other.exact_zero_fraction,
            "gradient_rms": other.gradient_rms,
            "threshold": other.threshold,
            **dict.fromkeys(LIKELIHOODS, float("nan")),
            **_named(other.shares),
            "dead_units": 0,
            **dict.fromkeys((*OFF_COLUMNS, "gain", "pinv_trust", "residual"), float("nan")),
            **self._root(info, self._diagnosis.origins.get(info.weight, ())),
        }

    def _likelihoods(self, figures: SiteFigures) -> dict[str, np.ndarray]:
        found = {**figures.likelihoods, "p_next_gradient": self._next_gradient(figures)}
        return {name: found[name] for name in LIKELIHOODS}

    def _next_gradient(self, figures: SiteFigures) -> np.ndarray:
        """Per unit, the near-zero fraction of the kernels that read it; nan if none does."""
        readers = [f for f in self._sites.values() if f.info.weight in figures.info.consumers]
        if not readers:
            return np.full(figures.units, np.nan)
        parts = []
        for reader in readers:
            sole = self._flow.reads_only(reader.info.node, figures.info.activation_node)
            parts.append(_near_zero_by_unit(reader, figures, sole))
        return np.mean(parts, axis=0)

    def units(self, layer: str) -> pd.DataFrame:
        """A row per output unit (channel) of a layer: the same figures where they have meaning.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.

        Returns
        -------
        pandas.DataFrame
            Index `unit`; `near_zero` … `off_by_combination` as in `layers`, and `dead` and `off`
            (fraction of the positions at which the unit is off).
        """
        parts = [self._unit_rows(figures) for figures in self._parts(layer)]
        return pd.concat(parts, ignore_index=True).rename_axis("unit")

    def _unit_rows(self, figures: SiteFigures) -> pd.DataFrame:
        table: dict[str, Any] = {"part": figures.info.part} if figures.info.part else {}
        table |= {
            "near_zero": figures.per_unit(figures.near_zero, unused=1.0),
            "exact_zero": figures.per_unit(figures.gradient == 0, unused=1.0),
            "gradient_rms": np.sqrt(figures.per_unit(np.square(figures.gradient))),
        }
        table |= {
            name: figures.per_unit(values, unused=_UNUSED.get(name, 0.0))
            for name, values in self._likelihoods(figures).items()
        }
        table |= _named(figures.shares_per_unit)
        table |= {"dead": figures.dead, "off": figures.off / figures.unit_positions}
        for reason in OFF_REASONS:
            table[f"off_by_{reason}"] = [figures.off_by(reason, unit) for unit in range(figures.units)]
        return pd.DataFrame(table, index=pd.RangeIndex(figures.units, name="unit"))

    def inputs(self, layer: str) -> pd.DataFrame:
        """A row per input (channel) of a layer's kernel: which of them never say anything.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.

        Returns
        -------
        pandas.DataFrame
            Index `input`; `zero` (fraction of its values near zero), `dead` (near zero at all
            positions), `rms`, and `near_zero`, the fraction of its weights with a near-zero gradient
            (nan for grouped convolutions, whose kernels do not tell inputs of groups apart). Of a
            weight in parts, the first one's.
        """
        figures = self._parts(layer)[0]
        inputs = figures.dead_inputs.size
        sums = figures.statistics.sums
        ungrouped = figures.shape[-2] == inputs
        table = {
            "zero": figures.input_zero_fraction,
            "dead": figures.dead_inputs,
            "rms": np.sqrt(sums["input_channel_sq"] / sums["input_size"]),
            "near_zero": figures.near_zero_by_input if ungrouped else np.full(inputs, np.nan),
        }
        return pd.DataFrame(table, index=pd.RangeIndex(inputs, name="input"))

    def chain(self, weight: str) -> str:
        """The way from a weight to the place where its gradient is lost, in one line.

        Parameters
        ----------
        weight : str
            A row of `layers`: a path, or a layer's name for that of its kernel.

        Returns
        -------
        str
            Steps from the weight on, the cause with its numbers last, and what alone would do the same
            ("also"); several with their shares, where the gradient is lost on several branches. "" for a
            weight whose gradient is not lost. Of a weight in parts, the first lost one's.

        Raises
        ------
        NotRecorded
            If the report has no such weight.

        Examples
        --------
        >>> import keras, numpy as np, trainobs
        >>> far = keras.initializers.Constant(-99)
        >>> near = keras.initializers.RandomUniform(0.5, 1)
        >>> dead = keras.layers.Dense(3, "relu", kernel_initializer=near, bias_initializer=far, name="dead")
        >>> first = keras.layers.Dense(3, kernel_initializer="ones", name="first")
        >>> model = keras.Sequential([keras.Input((4,)), first, dead])
        >>> model.compile(loss="mse")
        >>> x = np.ones((8, 4))
        >>> trainobs.explain_near_zero_gradients(model, x, np.ones((8, 3))).chain("first")
        'first/kernel ← backprop ← dead ← off: bias (3 of 3 units, 8 positions)'
        """
        keys = [weight] if weight in self._others else [figures.info.key for figures in self._parts(weight)]
        found = (self._diagnosis.origins.get(key, ()) for key in keys)
        origins = next(filter(None, found), ())
        return chain(origins) if origins else ""

    @functools.cached_property
    def chains(self) -> pd.DataFrame:
        """The ways of all weights whose gradient is lost, input first.

        Returns
        -------
        pandas.DataFrame
            Index `weight`; `near_zero` as of `layers`, and `chain` as by `Report.chain`.
        """
        found = self.layers[["near_zero"]].copy()
        found["chain"] = [self.chain(weight) for weight in found.index]
        return found[found["chain"] != ""]

    def weights(self, layer: str) -> WeightView:
        """What the report says about each weight of a layer's kernel.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.

        Returns
        -------
        WeightView
            Arrays `near_zero`, `gradient` and `verdict` with the kernel's shape.
        """
        parts = self._parts(layer)
        values = [[f.near_zero for f in parts], [f.gradient for f in parts], [f.verdict for f in parts]]
        near_zero, gradient, verdicts = (_whole(parts, value) for value in values)
        return WeightView(near_zero, gradient, verdicts, np.concatenate(values[2], axis=-1))

    @functools.cached_property
    def flow(self) -> pd.DataFrame:
        """A row per node, from the loss back to the input.

        Returns
        -------
        pandas.DataFrame
            `node` (name, numbered where a layer is called several times), `layer`, `kind`,
            `gradient_rms` (size of one sample's dJ/d(output), in units of g*: see
            docs/definitions.md), `gain` = `slope_gain` · `kernel_gain` (ratios
            of norms), `zero` (fraction of the gradient that is exactly 0); nan where backprop never
            came by, or was not measured (`unmeasured_nodes`).
        """
        columns = ("name", "layer", "kind", "gradient_rms", "gain", "slope_gain", "kernel_gain", "zero")
        rows = [{name: getattr(node, name) for name in columns} for node in reversed(self._flow.nodes)]
        return pd.DataFrame(rows, columns=list(columns)).rename(columns={"name": "node"})

    @property
    def unmeasured_nodes(self) -> tuple[str, ...]:
        """The nodes of `flow` of which it is not known what arrives.

        Operations that are no layers have nothing to measure it by, a recorded step leaves unread what
        would change the training, and an estimate (``backprop="pinv"``) knows the kernels' nodes only.
        """
        estimated = self.statistics.backprop == "pinv"
        silent = [node for node in self._flow.nodes if np.isnan(node.zero)]
        return tuple(n.name for n in silent if n.unread or n.kind == OPERATIONS or estimated)

    @functools.cached_property
    def findings(self) -> pd.DataFrame:
        """Ranked root causes with evidence and remedy; empty for a healthy model.

        Returns
        -------
        pandas.DataFrame
            `severity`, `cause`, `layer`, `share` (of the model's weights), `affects` (tuple
            of layer names), `evidence`, `remedy`.
        """
        rows = [vars(finding) for finding in self._diagnosis.findings]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
            {"share": float, "value": float, "threshold": float}
        )

    @functools.cached_property
    def backprop_estimate(self) -> pd.DataFrame:
        """How good the theory's pseudo-inverse estimate of backprop is, per kernel.

        Returns
        -------
        pandas.DataFrame
            Index `weight`; `pinv_trust` = rank/n, `expected_error` √(1 − rank/n) and the
            `true_error` ‖estimate − measured‖ / ‖measured‖ (nan where the tape has no value).
        """
        kernels = [figures for figures in self._shown if figures.info.role == "kernel"]
        rows = [
            {
                "pinv_trust": figures.pinv_trust,
                "expected_error": float(np.sqrt(max(0.0, 1.0 - figures.pinv_trust))),
                "true_error": figures.pinv_error,
            }
            for figures in kernels
        ]
        index = pd.Index([figures.info.key for figures in kernels], name="weight", dtype=object)
        return pd.DataFrame(rows, index=index)

    # ---- pictures ----------------------------------------------------------------------------

    def plot_heatmap(self, ax: Axes | None = None) -> Axes:
        """Draw which causes hold each kernel's near-zero gradients (kernels × causes).

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from trainobs.plots import draw_heatmap

        return draw_heatmap(self, ax)

    def plot_layer(self, layer: str, ax: Axes | None = None) -> Axes:
        """Draw a kernel with every weight coloured by its verdict, units and inputs beside it.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The axes of the kernel.
        """
        from trainobs.plots import draw_layer

        return draw_layer(self, layer, ax)

    def plot_flow(self, ax: Axes | None = None) -> Axes:
        """Draw gradient size and zero fraction from the loss back to the input.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from trainobs.plots import draw_flow

        return draw_flow(self, ax)

    # ---- remedies ----------------------------------------------------------------------------

    def remedies(self) -> pd.DataFrame:
        """What may help against the findings, from the catalogue of `trainobs.remedies`.

        Returns
        -------
        pandas.DataFrame
            A row per remedy, those of the worst finding first: `cause` and `layer` of the finding,
            `remedy`, `changes` (a sentence) and `call` (as code). Whether it does help is what
            `try_remedies` finds out.
        """
        from trainobs.remedies import treatments

        columns = ["cause", "layer", "remedy", "changes", "call"]
        rows = [{name: getattr(treatment, name) for name in columns} for treatment in treatments(self)]
        return pd.DataFrame(rows, columns=columns)

    def try_remedies(
        self,
        model: Any,
        x: Any,
        y: Any,
        *,
        steps: int = 20,
        batch_size: int = 32,
        seed: int = 0,
        remedies: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Apply each remedy to a copy of the model, explain and train it again, and rank them.

        Parameters
        ----------
        model : keras.Model
            The model that this report explains; it is left as it is.
        x, y : array or structure of arrays of shape (samples, …)
            What is explained again, and trained on.
        steps, batch_size, seed, remedies
            As of `trainobs.remedies.try_remedies`, which tells the columns too.

        Returns
        -------
        pandas.DataFrame
            The best remedy first; `plot_remedies` draws it.

        Examples
        --------
        >>> import keras, numpy as np, trainobs
        >>> keras.utils.set_random_seed(0)
        >>> hidden = keras.layers.Dense(8, "relu", kernel_initializer="zeros", name="hidden")
        >>> model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.random.default_rng(0).normal(size=(2, 64, 4)).astype("float32")
        >>> report = trainobs.explain_near_zero_gradients(model, x, y[:, :1])
        >>> report.try_remedies(model, x, y[:, :1], steps=2)[["remedy", "gone"]].values.tolist()
        [['re-initialise', True]]
        """
        from trainobs.remedies import try_remedies

        return try_remedies(
            self, model, x, y, steps=steps, batch_size=batch_size, seed=seed, remedies=remedies
        )

    def plot_remedies(self, trials: pd.DataFrame) -> np.ndarray:
        """Draw near-zero gradients and loss before and after each remedy.

        Parameters
        ----------
        trials : pandas.DataFrame
            From `try_remedies`.

        Returns
        -------
        array of two matplotlib.axes.Axes
        """
        from trainobs.plots import draw_remedies

        return draw_remedies(trials)

    # ---- text --------------------------------------------------------------------------------

    @property
    def scope(self) -> str:
        """Over what the report speaks, in one line."""
        statistics = self.statistics
        where = "" if statistics.step is None else f"recorded step {statistics.step}: "
        positions = max((int(f.unit_positions) for f in self._sites.values()), default=0)
        batches = f"{statistics.batches} batch{'es' if statistics.batches > 1 else ''}"
        spoken = f"{where}{batches}, up to {positions:,} positions per kernel · loss {statistics.loss:.4g}"
        return f"{spoken} · backprop by pseudo-inverse" if self.statistics.backprop == "pinv" else spoken

    @property
    def thresholds(self) -> str:
        """The thresholds that were used, in one line."""
        n = self.near_zero
        return (
            f"near zero: rtol {n.rtol:g} against a* = {n.activation_scale:g}, s* = {n.slope_scale:g}, "
            f"g* = {self.gradient_scale:.3g} (g_out = {self.statistics.loudest_output()[0]:.3g})"
        )

    def __repr__(self) -> str:
        parts = ["trainobs report: why gradients are near zero", self.scope, "", self._findings_text(), ""]
        return "\n".join([*parts, self._layers_text(), "", self.thresholds])

    def _findings_text(self) -> str:
        if not self._diagnosis.findings:
            return "No finding: nothing stops the gradients."
        blocks = [_finding_text(finding) for finding in self._diagnosis.findings]
        return "\n".join(blocks)

    def _layers_text(self) -> str:
        table = self.summary()
        text = table.to_string(index=False, na_rep="–", formatters=_formatters(table))
        return f"Kernels, input first (share of near-zero gradients, and what holds them there):\n{text}"

    def summary(self) -> pd.DataFrame:
        """The few columns of `layers` that a reader needs first.

        Returns
        -------
        pandas.DataFrame
            `layer`, `activation`, `shape`, `near_zero`, `held by` (largest share), `dead units`,
            `root cause`.
        """
        layers = self.kernels
        held = [_largest_share(row) for _, row in layers[list(SHARES)].iterrows()]
        many = dict.fromkeys(layers.index, 0)
        for figures in self._sites.values():
            if figures.info.weight in many:
                many[figures.info.weight] += figures.units
        dead_units = layers["dead_units"].items()
        units = [f"{dead} of {many[weight]}" if many[weight] else "–" for weight, dead in dead_units]
        roots = [
            "–" if pd.isna(cause) else f"{cause} at {layer}"
            for cause, layer in zip(layers["root_cause"], layers["root_layer"], strict=True)
        ]
        columns = {
            "layer": layers["layer"],
            "activation": layers["activation"],
            "shape": ["×".join(map(str, shape)) for shape in layers["shape"]],
            "near_zero": layers["near_zero"],
            "held by": held,
            "dead units": units,
            "root cause": roots,
        }
        return pd.DataFrame(columns)

    def _repr_html_(self) -> str:
        from trainobs.html import fragment

        return fragment(self)

    def to_html(self, path: Any) -> None:
        """Write the report as one HTML file: findings, tables and plots, nothing loaded from outside.

        Parameters
        ----------
        path : str or path-like
            The file to write; an existing one is replaced.
        """
        from trainobs.html import write_page

        write_page(self, path)


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a weight from those of its parts."""
    if len(rows) == 1:
        return rows[0]
    sizes = np.array([row["size"] for row in rows], float)
    near_zero = sizes * np.nan_to_num([row["near_zero"] for row in rows])
    found = dict(rows[0])
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in ("size", "dead_units"):
            found[name] = int(np.sum(values))
        elif name in ("threshold", "residual"):
            found[name] = float(np.nanmax(values)) if not np.isnan(values).all() else float("nan")
        elif name == "gradient_rms":
            found[name] = float(np.sqrt(_mean(np.square(values), sizes)))
        elif name in SHARES:
            found[name] = _mean(values, near_zero)
        elif isinstance(values[0], float):
            found[name] = _mean(values, sizes)
        elif name == "activation":
            found[name] = ", ".join(dict.fromkeys(values))
    roots = [(row["root_cause"], row["root_layer"]) for row in rows if row["root_cause"]]
    found["root_cause"], found["root_layer"] = max(roots, key=roots.count) if roots else (None, None)
    return found


def _mean(values: Any, weights: np.ndarray) -> float:
    known = ~np.isnan(np.asarray(values, float))
    if not np.any(weights[known]):
        return float("nan")
    return float(np.average(np.asarray(values, float)[known], weights=weights[known]))


def _whole(parts: list[SiteFigures], values: list[np.ndarray]) -> np.ndarray:
    """An array of the weight's own shape, from the canonical ones of its parts."""
    info, rows = parts[0].info, parts[0].statistics.rows
    if rows is not None:  # rows that were never looked up have no terms: near zero by input
        rest = {np.dtype(bool): True, np.dtype(np.uint8): int(Cause.INPUT)}.get(values[0].dtype, 0)
        whole = np.full(info.shape, rest, values[0].dtype)
        whole[rows] = values[0]
        return whole
    if len(parts) == 1:
        return np.asarray(info.op.own_kernel(values[0], info.shape))
    return np.concatenate(values, axis=-1).reshape(info.shape)


def _named(parts: dict[Cause, Any]) -> dict[str, Any]:
    return {f"share_{str(cause.name).lower()}": _plain(parts[cause]) for cause in CAUSES}


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def _near_zero_by_unit(reader: SiteFigures, maker: SiteFigures, sole: bool) -> np.ndarray:
    """Near-zero fraction of the rows of a kernel that belong to each unit before it.

    Rows belong to units where the kernel reads the very values that the units put out, perhaps in
    another shape (`sole`: and nothing else with them), or has as many inputs as there are units.
    Otherwise every unit gets the kernel's mean.
    """
    rows = reader.near_zero_by_input
    owners = _owners(reader, maker) if sole else None
    if owners is None and (rows.size == maker.units or (sole and rows.size % maker.units == 0)):
        places = rows.size // maker.units  # behind a pooling and a Flatten
        units = np.arange(maker.units)
        owners = np.repeat(units, places) if maker.info.op.units_in_front else np.tile(units, places)
    if owners is None or owners.size != rows.size:
        return np.full(maker.units, rows.mean())
    return np.bincount(owners, rows, maker.units) / np.maximum(np.bincount(owners, minlength=maker.units), 1)


def _owners(reader: SiteFigures, maker: SiteFigures) -> np.ndarray | None:
    """Which unit each input of a kernel is; None if that differs from place to place."""
    if math.prod(reader.info.input_shape) != math.prod(maker.info.unit_shape):
        return None
    own = (1, *maker.info.unit_shape)
    canonical = maker.info.op.canonical_units(np.empty(own, np.uint8)).shape
    labels = maker.info.op.own_units(np.broadcast_to(np.arange(maker.units), canonical), own)
    met = reader.info.op.canonical_input(labels.reshape(1, *reader.info.input_shape))
    places = met.reshape(-1, met.shape[-1])
    return places[0] if np.all(places == places[0]) else None


def _finding_text(finding: Finding) -> str:
    share = f" ({finding.share:.0%} of all weights)" if finding.share else ""
    head = f"[{finding.severity}] {finding.cause} at {finding.layer}{share}"
    lines = [head, *_indented(finding.evidence)]
    if finding.affects:
        lines += _indented(f"Also held down by it: {', '.join(finding.affects)}.")
    return "\n".join([*lines, *_indented(f"Try: {finding.remedy}")])


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="  ")


def _largest_share(row: pd.Series) -> str:
    if row.isna().all():
        return "–"
    name = str(row.idxmax())
    return f"{name.removeprefix('share_').replace('_', ' + ')} {row.max():.0%}"


def _formatters(table: pd.DataFrame) -> dict[str, Any]:
    del table
    return {"near_zero": lambda value: "–" if pd.isna(value) else f"{value:.0%}"}
