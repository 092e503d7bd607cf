"""What is near zero in a model without a finding, and why that is no fault."""

from __future__ import annotations

import numpy as np

from trainobs.analysis import SiteFigures
from trainobs.explanation._facts import Facts
from trainobs.mechanisms import are, everywhere, part_of, percent, several

_MOST = 3


def quiet_texts(facts: Facts) -> list[str]:
    """A sentence for each kernel of which much is near zero, and why that is no fault; empty without any."""
    quiet = [figures for figures in facts.sites.values() if _is_quiet(figures, facts)]
    told, more = [_quiet(figures) for figures in quiet[:_MOST]], len(quiet) - _MOST
    told += [f"It is alike at {several(more, 'other kernel')}."] if more > 0 else []
    return [*told, _why_no_fault(facts), *_too_few(quiet, facts)] if told else []


def _is_quiet(figures: SiteFigures, facts: Facts) -> bool:
    """Whether so much of a trained kernel is near zero that a reader will ask about it."""
    thresholds, info = facts.thresholds, figures.info
    dead = float(np.mean(figures.dead)) > thresholds.dead_units_warning
    lost = figures.used_near_zero > thresholds.affected
    return info.trainable and info.role == "kernel" and (lost or dead)


def _quiet(figures: SiteFigures) -> str:
    """What of a kernel is near zero."""
    dead, which = int(np.sum(figures.dead)), f"{figures.info.part} of " if figures.info.part else ""
    units = f"{part_of(dead, figures.units, 'unit')} {are(dead)} off"
    off = f"; {units} {everywhere(figures.unit_positions)}" if dead else ""
    shares = {
        str(name.name).lower().replace("_", " + "): share for name, share in figures.used_shares.items()
    }
    known = {name: share for name, share in shares.items() if share > 0}
    most = max(known, key=lambda name: known[name], default="")
    held = f", {percent(known[most])} of them by {most}" if known else ""
    lost = f"{percent(figures.used_near_zero)} of the gradients are near zero"
    return f"{which}{figures.info.layer}: {lost}{held}{off}."


def _too_few(quiet: list[SiteFigures], facts: Facts) -> list[str]:
    """How many positions it takes to tell units that are off from dead ones, where there are fewer."""
    chance = facts.case.chance
    few = [f for f in quiet if np.any(f.dead) and not chance.is_enough(f.distinct_positions)]
    needed = several(chance.positions, "different position")
    return [f"To tell a dead unit from chance takes {needed}."] if few else []


def _why_no_fault(facts: Facts) -> str:
    """What would be one."""
    thresholds = facts.thresholds
    return (
        f"That is no fault: the other weights of the layer learn, and on another batch these may. It would "
        f"be one from {thresholds.near_zero_weights:.0%} of a layer's gradients on, or with more than "
        f"{thresholds.dead_units_by_chance:.0%} of its units off (by their bias {thresholds.dead_units:.0%})."
    )
