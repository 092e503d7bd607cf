"""How many gradients are near zero in the kernels that read a unit."""

from __future__ import annotations

import math

import numpy as np

from trainobs.analysis import SiteFigures
from trainobs.explanation._facts import Facts


def next_gradient(figures: SiteFigures, facts: Facts) -> np.ndarray:
    """Per unit, the near-zero fraction of the kernels that read it; nan if none does.

    Parameters
    ----------
    figures : SiteFigures
    facts : Facts

    Returns
    -------
    array of shape (j,)
    """
    readers = [f for f in facts.sites.values() if f.info.weight in figures.info.consumers]
    if not readers:
        return np.full(figures.units, np.nan)
    alone = [facts.flow.reads_only(reader.info.node, figures.info.activation_node) for reader in readers]
    fractions = [_near_zero_by_unit(r, figures, sole) for r, sole in zip(readers, alone, strict=True)]
    return np.asarray(np.mean(fractions, axis=0))


def _near_zero_by_unit(reader: SiteFigures, maker: SiteFigures, sole: bool) -> np.ndarray:
    """Near-zero fraction of the rows of a kernel that belong to each unit before it.

    Rows belong to units where the kernel reads the very values that the units put out, perhaps in
    another shape (`sole`: and nothing else with them), or has as many inputs as there are units.
    Otherwise every unit gets the kernel's mean.
    """
    rows = reader.near_zero_by_input
    owners = _owners(reader, maker) if sole else None
    if owners is None and (rows.size == maker.units or (sole and rows.size % maker.units == 0)):
        owners = _owners_by_order(maker, rows.size // maker.units)
    if owners is None or owners.size != rows.size:
        return np.full(maker.units, rows.mean())
    return np.bincount(owners, rows, maker.units) / np.maximum(np.bincount(owners, minlength=maker.units), 1)


def _owners_by_order(maker: SiteFigures, places: int) -> np.ndarray:
    """Which unit each input is where a pooling and a Flatten leave several places of each unit."""
    units = np.arange(maker.units)
    return np.repeat(units, places) if maker.info.op.units_in_front else np.tile(units, places)


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
