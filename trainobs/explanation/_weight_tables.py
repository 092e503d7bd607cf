"""The tables with a row per weight, unit, input, gate or time step."""

from __future__ import annotations

import functools

import pandas as pd

from trainobs.explanation._facts import Facts
from trainobs.explanation._layers import layers_table, modifying, parts_table
from trainobs.explanation._rows import estimate_table, inputs_table, time_steps_table, units_table
from trainobs.explanation._weights import WeightView, weight_view


class WeightTables:
    """What an `Explanation` says about the weights of a model.

    Parameters
    ----------
    facts : Facts
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    @functools.cached_property
    def layers(self) -> pd.DataFrame:
        """A row per trainable weight (index `weight`, the variable's path), in the order of the forward pass.

        Returns
        -------
        pandas.DataFrame
            Columns in docs/definitions.md. Fractions are in [0, 1]; nan means "nothing to say":
            shares of a weight without near-zero gradients, figures of a frozen one.
        """
        return layers_table(self._facts)

    @property
    def kernels(self) -> pd.DataFrame:
        """The rows of `layers` without biases and scales, which only modify what passes by them."""
        return self.layers[~self.layers.index.isin(modifying(self._facts))]

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
            with "" as its part.
        """
        return parts_table(layer, self._facts)

    def weights(self, layer: str) -> WeightView:
        """What is said about each weight of a layer's kernel.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.

        Returns
        -------
        WeightView
            Arrays `near_zero`, `gradient` and `verdict` with the kernel's shape.
        """
        return weight_view(self._facts.parts(layer))

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
        return units_table(layer, self._facts)

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
        return inputs_table(layer, self._facts)

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
            `gradient_rms` (of n · dJ/dZ, to be compared with g*) and `near_zero` (whether that is at most
            rtol · g*).

        Raises
        ------
        NotRecorded
            If the layer has no time steps.
        """
        return time_steps_table(layer, self._facts)

    @functools.cached_property
    def backprop_estimate(self) -> pd.DataFrame:
        """How good the theory's pseudo-inverse estimate of backprop is, per kernel.

        Returns
        -------
        pandas.DataFrame
            Index `weight`; `pinv_trust` = rank/n, `expected_error` √(1 − rank/n) and the
            `true_error` ‖estimate − measured‖ / ‖measured‖ (nan where the tape has no value).
        """
        return estimate_table(self._facts)
