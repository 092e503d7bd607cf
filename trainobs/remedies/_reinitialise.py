"""New weights: of whole layers, or of their dead units only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from trainobs.mechanisms import Exploding, Mechanism
from trainobs.remedies._activation import activation_name
from trainobs.remedies._remedy import Remedy
from trainobs.remedies._situation import Situation
from trainobs.remedies._surgery import checked_names, layers_named, rebuilt
from trainobs.remedies._treatment import Treatment, listed
from trainobs.remedies._weights import own_name, units_of


class ReinitialiseDeadUnits(Remedy):
    """Draws the incoming weights of dead units anew, with biases of 0; what other units learnt stays."""

    name = "re-initialise dead units"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """All layers with this finding at once."""
        masks = {} if situation.is_recurrent() else situation.dead_units(situation.targets)
        if masks:
            counts = ", ".join(f"{int(mask.sum())} of {name}" for name, mask in masks.items())
            changes = f"Draws the incoming weights of dead units anew, with biases of 0: {counts}."
            treatment = Treatment.of_model(mechanism, self.name, changes, reinitialise_units, masks)
            call = f"remedies.reinitialise_units(model, dead)  # {listed(list(masks))}"  # masks are long
            yield dataclasses.replace(treatment, call=call)


class Reinitialise(Remedy):
    """Draws kernels anew (He; Glorot before sigmoid and tanh), with biases of 0."""

    name = "re-initialise"

    def prescribe(self, mechanism: Mechanism, situation: Situation) -> Iterator[Treatment]:
        """The finding's layers; all if it concerns all, those with too large kernels if gradients explode."""
        names = self._names(mechanism, situation)
        if names:
            start = "Draws kernels anew (He; Glorot before sigmoid and tanh), with biases of 0"
            changes = f"{start}: {listed(names)}."
            yield Treatment.of_model(mechanism, self.name, changes, reinitialise, layers=names)

    @staticmethod
    def _names(mechanism: Mechanism, situation: Situation) -> list[str]:
        if isinstance(mechanism, Exploding):
            return situation.too_large()
        return situation.kernels if situation.is_everywhere else situation.with_normalisations(situation.same)


def reinitialise(
    model: keras.Model, *, layers: Iterable[str], kernel: str | None = None, seed: int = 0
) -> keras.Model:
    """Draw the weights of layers anew: kernels at random, biases and betas 0, gammas 1.

    Parameters
    ----------
    model : keras.Model
    layers : iterable of str
        Their names.
    kernel : str, optional
        Name of a Keras initialiser. Default: "glorot_uniform" before sigmoid, tanh and softmax,
        "lecun_normal" before selu, else "he_normal"; "orthogonal" for recurrent kernels.
    seed : int, default 0

    Returns
    -------
    keras.Model

    Notes
    -----
    He et al. (2015): Var(w) = 2/fan_in keeps a signal's size through ReLUs. Glorot & Bengio (2010):
    2/(fan_in + fan_out) for functions with slope 1 at 0. Klambauer et al. (2017): 1/fan_in for SELU.
    """
    names = checked_names(model, layers)
    new = rebuilt(model)
    for layer in layers_named(new, names):
        for variable in layer.trainable_variables or layer.variables:
            draw = keras.initializers.get(_start_of(layer, variable, kernel))
            draw = type(draw).from_config(_reseeded(draw.get_config(), seed))
            variable.assign(draw(variable.shape, dtype=variable.dtype))
            seed += 1
    return new


def reinitialise_units(model: keras.Model, units: Mapping[str, np.ndarray], *, seed: int = 0) -> keras.Model:
    """Draw the incoming weights of some units of layers anew, and set their biases to 0.

    Parameters
    ----------
    model : keras.Model
    units : mapping of str to bool array of shape (j,)
        By the layer's name, which of its units: ``{"hidden": report.units("hidden")["dead"]}``.
    seed : int, default 0

    Returns
    -------
    keras.Model

    Raises
    ------
    InvalidArgument
        If there is no such layer, or it has another number of units.

    Notes
    -----
    What other units learnt stays: ReDo (Sokar et al. 2023) recycles dormant units in this way.
    """
    checked_names(model, units)
    fresh = reinitialise(model, layers=units, seed=seed)
    new = rebuilt(model)
    for name, mask in units.items():
        for own, drawn in zip(layers_named(new, [name]), layers_named(fresh, [name]), strict=True):
            for variable, other in zip(own.trainable_variables, drawn.trainable_variables, strict=True):
                chosen = units_of(variable, mask)
                variable.assign(np.where(chosen, np.asarray(other), np.asarray(variable)))
    return new


def _start_of(layer: keras.Layer, variable: keras.Variable, kernel: str | None) -> str:
    name = own_name(variable)
    if name.endswith("gamma"):
        return "ones"
    if name.endswith(("bias", "beta", "alpha")) or len(variable.shape) < 2:
        return "zeros"
    if name.endswith("embeddings"):
        return "uniform"
    if name.endswith("recurrent_kernel"):
        return "orthogonal"
    return kernel or _usual_start(activation_name(layer))


def _usual_start(activation: str) -> str:
    if activation in ("sigmoid", "tanh", "softmax", "hard_sigmoid", "softsign"):
        return "glorot_uniform"
    return "lecun_normal" if activation == "selu" else "he_normal"


def _reseeded(config: dict[str, object], seed: int) -> dict[str, object]:
    return {**config, "seed": seed} if "seed" in config else config
