"""An explanation: the frozen result of what was run. Tables and text; `Report` adds pictures and HTML."""

from __future__ import annotations

import functools

import pandas as pd

from trainobs.analysis import TakeLook
from trainobs.counterfactuals import TryOut
from trainobs.diagnosis import Diagnosis
from trainobs.explanation._facts import Facts
from trainobs.explanation._findings import findings_table, findings_text, on_the_way
from trainobs.explanation._flow import chain_of, chains_table, flow_table, unmeasured_nodes
from trainobs.explanation._text import scope_text, summary_table, summary_text, thresholds_text
from trainobs.explanation._weight_tables import WeightTables
from trainobs.selection import Selection
from trainobs.statistics import Statistics
from trainobs.thresholds import NearZero, Thresholds


class Explanation(WeightTables):
    """Why gradients are near zero: tables and sentences about one batch, step or data set.

    Parameters
    ----------
    statistics : Statistics
        The additive sums of everything that was run.
    thresholds : Thresholds
        What counts as near zero, and when figures become findings.
    selection : Selection, optional
        Which layers the tables show.
    take_look : callable, optional
        Takes a second look at the batch, where the diagnosis needs it.
    try_out : callable, optional
        Runs the batch with something changed, to prove findings.

    Raises
    ------
    InvalidArgument
        If the statistics were counted with another `near_zero` than that of the thresholds.

    Notes
    -----
    Every figure is defined in docs/definitions.md.
    """

    def __init__(
        self,
        statistics: Statistics,
        thresholds: Thresholds,
        *,
        selection: Selection | None = None,
        take_look: TakeLook | None = None,
        try_out: TryOut | None = None,
    ) -> None:
        self.statistics = statistics
        self.thresholds = thresholds
        super().__init__(Facts(statistics, thresholds, selection or Selection(), take_look, try_out))

    @property
    def near_zero(self) -> NearZero:
        """What counts as near zero."""
        return self.thresholds.near_zero

    @property
    def diagnosis(self) -> Diagnosis:
        """The findings' mechanisms, and where each weight's gradient is lost."""
        return self._facts.diagnosis

    @property
    def gradient_scale(self) -> float:
        """g*, the reference size of one element of n · dJ/dZ."""
        return self._facts.gradient_scale

    # ---- the way back ------------------------------------------------------------------------

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
        return flow_table(self._facts)

    @property
    def unmeasured_nodes(self) -> tuple[str, ...]:
        """The nodes of `flow` whose gradient is not known.

        It can't be measured at operations that are no layers; a recorded step leaves unread what it could
        not read without changing the training; an estimate (``backprop="pinv"``) knows kernels' nodes only.
        """
        return unmeasured_nodes(self._facts)

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
            weight whose gradient is not lost. For a weight in parts, the way of the first part whose
            gradient is lost.

        Raises
        ------
        NotRecorded
            If there is no such weight.

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
        return chain_of(weight, self._facts)

    @functools.cached_property
    def chains(self) -> pd.DataFrame:
        """The ways of all weights whose gradient is lost, input first.

        Returns
        -------
        pandas.DataFrame
            Index `weight`; `near_zero` as in `layers`, and `chain` as by `chain`.
        """
        return chains_table(self.layers["near_zero"], self._facts)

    # ---- findings and text -------------------------------------------------------------------

    @functools.cached_property
    def findings(self) -> pd.DataFrame:
        """Ranked root causes with evidence and remedy; empty for a healthy model.

        Returns
        -------
        pandas.DataFrame
            `severity`, `cause`, `layer`, `share` (of the model's weights), `affects` (tuple
            of layer names), `evidence`, `remedy`; then `weight`, `value` and `threshold` where one
            figure decided, and `proved`: True where a trial on the same batch brings the gradients back,
            None where there was none.
        """
        return findings_table(self._facts.diagnosis.findings)

    @property
    def findings_on_the_way(self) -> pd.DataFrame:
        """The rows of `findings` whose mechanism sits at a place on the gradient's way."""
        return on_the_way(self.findings, self._facts)

    def summary(self) -> pd.DataFrame:
        """The few columns of `layers` that a reader needs first.

        Returns
        -------
        pandas.DataFrame
            `layer`, `activation`, `shape`, `near_zero`, `held by` (largest share), `dead units`,
            `root cause`.
        """
        return summary_table(self.kernels, self._facts)

    @property
    def scope(self) -> str:
        """Over what the report speaks, in one line."""
        return scope_text(self._facts)

    @property
    def thresholds_text(self) -> str:
        """What counts as near zero, in one line."""
        return thresholds_text(self._facts)

    def __repr__(self) -> str:
        head = ["trainobs report: why gradients are near zero", self.scope]
        findings = findings_text(self._facts.diagnosis.findings, self._facts)
        return "\n".join([*head, "", findings, "", summary_text(self.summary()), "", self.thresholds_text])
