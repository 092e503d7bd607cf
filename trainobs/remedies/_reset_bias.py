"""Biases back to 0: kernels keep what they learnt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from trainobs.errors import InvalidArgument
from trainobs.mechanisms import DeadActivation, Mechanism, OffUnits
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, layers_named, rebuilt
from trainobs.remedies._treatment import Treatment, listed
from trainobs.remedies._weights import shifts_of, units_of


class ResetBias(Remedy):
    """Sets biases, or the betas of a normalisation in between, to 0 where they keep units off."""

    name = "reset the bias"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """The biases of dead units; those of all units where values are saturated."""
        by_bias = [m.layer for m in situation.alike if isinstance(m, OffUnits) and m.reason == "bias"]
        if mechanism.layer not in by_bias or situation.is_recurrent():
            return
        if isinstance(mechanism, DeadActivation):
            yield from self._of_dead_units(mechanism, situation.dead_units(by_bias))
            return
        names = situation.with_normalisations(by_bias)
        changes = f"Sets the biases of {listed(names)} to 0."
        yield Treatment.of_model(mechanism, self.name, changes, reset_bias, layers=names)

    def _of_dead_units(self, mechanism: Mechanism, masks: dict[str, np.ndarray]) -> Iterator[Treatment]:
        if masks:
            counts = ", ".join(f"{int(mask.sum())} of {name}" for name, mask in masks.items())
            changes = f"Sets the biases of dead units to 0: {counts}."
            treatment = Treatment.of_model(
                mechanism, self.name, changes, reset_bias, layers=list(masks), units=masks
            )
            call = f"remedies.reset_bias(model, layers={list(masks)!r}, units=dead)"  # masks are long
            yield dataclasses.replace(treatment, call=call)


def reset_bias(
    model: keras.Model, *, layers: Iterable[str], units: Mapping[str, np.ndarray] | None = None
) -> keras.Model:
    """Set biases and betas of layers to 0; kernels and gammas stay.

    Parameters
    ----------
    model : keras.Model
    layers : iterable of str
        Their names.
    units : mapping of str to bool array of shape (j,), optional
        By the layer's name, which of its units: ``{"hidden": report.units("hidden")["dead"]}``. Default:
        all, also of layers that it does not name.

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If there is no such layer, it has another number of units, or none of the layers has a bias.

    Examples
    --------
    >>> dense = keras.layers.Dense(3, "relu", bias_initializer="ones", name="hidden")
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> new = reset_bias(model, layers=["hidden"], units={"hidden": [True, True, False]})
    >>> np.asarray(new.get_layer("hidden").bias).tolist()
    [0.0, 0.0, 1.0]
    """
    names, masks = checked_names(model, layers), units or {}
    new = rebuilt(model)
    shifts = [(layer.name, variable) for layer in layers_named(new, names) for variable in shifts_of(layer)]
    if not shifts:
        raise InvalidArgument(f"None of these layers has a bias: {sorted(names)}.")
    for name, variable in shifts:
        reset = units_of(variable, masks[name]) if name in masks else True
        variable.assign(np.where(reset, 0.0, np.asarray(variable)))
    return new
