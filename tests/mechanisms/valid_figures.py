"""For each class of mechanisms, the figures that it can have: a strategy per field.

Most fields mean the same wherever they stand, so they are described by their name. `SPECIAL` has what holds
for one class only. What a class itself excludes (`__post_init__`) is left out: its assertion is a rejection.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from hypothesis import assume
from hypothesis import strategies as st

from tests.mechanisms.broken_rules import broken_rules
from trainobs import mechanisms as m
from trainobs.mechanisms._off_units import OffUnits
from trainobs.records import Place
from trainobs.statistics import OFF_REASONS

Field = st.SearchStrategy
_sizes = st.floats(0, 1e30) | st.floats(0, 10)
_positive = st.floats(1e-30, 1e30) | st.floats(0.01, 10)
_parts = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 1e-4, 0.9999])
_counts = st.integers(0, 3) | st.integers(0, 10**9)
_some = st.integers(1, 3) | st.integers(1, 10**9)
_names = st.sampled_from(["hidden", "block_1/conv", "lstm"])
_places = st.builds(
    Place,
    layer=st.sampled_from(["", "own"]),
    operation=st.sampled_from(["Round", "Softmax"]),
    file=st.sampled_from(["", "/home/me/model.py"]),
    line=st.integers(1, 999),
    code=st.sampled_from(["", "q = tf.round(s)", "x = [0 of  it, None]"]),
)


def _known(values: Field) -> Field:
    """The same, or nan: not known."""
    return values | st.just(math.nan)


#: By name of the field, wherever it stands.
FIELDS: dict[str, Field] = {
    "layer": _names,
    "activation": st.sampled_from(["relu", "tanh", "relu → dropout"]),
    "activations": st.lists(st.sampled_from(["relu", "leaky_relu"]), unique=True).map(tuple),
    "bias_rms": _known(_sizes),
    "by_design": st.booleans(),
    "by_kernels": st.booleans(),
    "by_slopes": st.booleans(),
    "constant_loss": _known(_sizes),
    "converged": st.just(0.01),
    "dead": _counts,
    "data": _sizes,
    "deviation": _sizes,
    "doubt": st.sampled_from(["", "positions", "alike", "units"]),
    "dtype": st.sampled_from(["float16", "bfloat16"]),
    "flushed": _parts,
    "fresh_off": st.floats(0.2, 1, exclude_min=True),
    "g_out": _sizes,
    "gain": st.floats(0, 10**-1.5, exclude_min=True),
    "grows": st.booleans(),
    "growth": _sizes,
    "healed": st.booleans(),
    "healthy": _sizes,
    "healthy_weight": _positive,
    "input_rms": _sizes,
    "inputs": _some,
    "is_constant": st.booleans(),
    "is_far": st.booleans(),
    "kernel_layer": _names,
    "kernel_rms": _sizes,
    "layers": _some,
    "learns": st.booleans(),
    "left": _known(_sizes),
    "limit": st.just(1e-4),
    "loss": _known(_sizes),
    "mean": _sizes,
    "mean_gain": _positive,
    "multiplied_by": st.sampled_from(["", "alpha"]),
    "named": st.sampled_from(["", "3", "0–27, 31"]),
    "near_zero": _parts,
    "needed": st.integers(10, 40),
    "normalises": st.booleans(),
    "off": _parts,
    "part": st.sampled_from(["", "forget gate"]),
    "penalty": _positive,
    "place": st.none() | _places,
    "positions": _some.map(float),
    "reader": _names,
    "reason": st.sampled_from(OFF_REASONS),
    "reason_share": _known(st.floats(0, 1, exclude_min=True)),
    "rectifying": st.booleans(),
    "residual": st.floats(1e-4, exclude_min=True),
    "rms": _sizes,
    "role": st.sampled_from(["kernel", "recurrent", "table"]),
    "rounding": st.just(1e-4),
    "scale": st.just("gamma"),
    "scaled": st.booleans(),
    "shift": st.sampled_from(["", "normalisation"]),
    "silent": st.booleans(),
    "spread": _known(_positive),
    "target_rms": _sizes,
    "units": _some,
    "waiting": st.just("lora_a"),
    "weight": st.just("kernel"),
    "weights": _counts,
    "what": st.sampled_from(["input", "kernel", "output", "gradient", "kernel gradient"]),
    "where": st.sampled_from(
        ["unused", "node", "before", "layer", "inside", "unseen", "zeros", "some zeros"]
    ),
    "zero": _counts,
}
_quiet = {"part": st.floats(0, 10**-1.5)}
_live, _rare = st.floats(1e-3, 1), st.floats(0, 1e-6)
_no_place = {"where": st.just("unused")}

#: By class, what its maker keeps.
SPECIAL: dict[type[m.Mechanism], Mapping[str, Field]] = {
    m.ConstantOutput: {"why": st.sampled_from(["single", "one left", "none left"])},
    m.Exploding: {"growth": st.just(0.0) | st.floats(1e-3, 100)} | {"grows": st.just(False)},
    m.LargeInput: {"input_rms": st.floats(10, 1e30)},
    m.LoudLoss: {"g_out": st.floats(100, 1e30, exclude_min=True), "target_rms": st.floats(10, 1e30)},
    m.NeverRead: _no_place,
    m.NothingTrained: {"layers": st.lists(_names, min_size=1, unique=True).map(tuple)},
    m.GivenNothing: {"layers": st.lists(_names, min_size=1, unique=True).map(tuple), "weights": _some},
    m.InnerTermDominates: {"place": _places, "weight": st.sampled_from(["1 layer", "2 layers"])},
    m.UsedElsewhere: {"place": _places},
    m.Refuted: {
        "suspected": st.just("vanishing"),
        "shown": st.just("hidden passes on only 0.01 of the gradient that arrives at it."),
        "told": st.just("With unit noise as the input of hidden, only 3% of these gradients return."),
    },
    m.FiresOnNothing: {"on": _live, "live": _live, "both": _rare},
    m.OffAtErrors: {"on": _live, "arrives": _live, "both": _rare, "positions": _some},
    m.ReadsNothingAtErrors: {"live": _live, "arrives": _live},
    m.Symmetric: {"units": st.integers(2, 10**6), "gain": _known(st.floats(0, 10**-1.5))},
    m.QuietOutput: _quiet,
    m.QuietPart: _quiet,
    m.Silenced: {"place": _places},
    m.SomeWeightlessPositions: {"part": st.floats(0, 1, exclude_min=True, exclude_max=True)},
    m.UnscaledInput: {"input_rms": st.floats(10, 1e30)},
    m.WaitingWeight: {"zero": st.just("lora_b")},
    m.WeightlessPositions: {"part": st.just(1.0)},
    m.ZeroScale: {"rms": st.floats(0, 1e-3)},
}
#: Of one class, more than one way to be made.
ALSO: dict[type[m.Mechanism], Mapping[str, Field]] = {
    m.Disconnected: {"where": st.just("operation"), "place": _places},
    m.Exploding: {"growth": st.floats(100, 1e30, exclude_min=True), "grows": st.just(True)},
}


def fields_of(kind: type[m.Mechanism]) -> list[str]:
    """Names of a class's fields."""
    return [field.name for field in dataclasses.fields(kind)]


def is_described(kind: type[m.Mechanism]) -> bool:
    """Whether every field of a class has a strategy."""
    if issubclass(kind, m.OutputMismatch | m.AppliedTwice):
        return True
    return all(name in FIELDS or name in SPECIAL.get(kind, {}) for name in fields_of(kind))


@st.composite
def mechanisms_of(draw: st.DrawFn, kind: type[m.Mechanism]) -> m.Mechanism:
    """Any mechanism of a class, from figures that it can have."""
    if issubclass(kind, m.OutputMismatch | m.AppliedTwice):
        return draw(broken_rules(kind))
    special = draw(st.sampled_from([table[kind] for table in (SPECIAL, ALSO) if kind in table] or [{}]))
    given = {name: draw({**FIELDS, **special}[name]) for name in fields_of(kind)}
    assume(_is_consistent(kind, given))
    try:
        return kind(**given)
    except AssertionError:  # the class excludes it
        assume(False)
        raise


def _is_consistent(kind: type[m.Mechanism], given: dict) -> bool:
    """What makers keep between fields."""
    if issubclass(kind, OffUnits):
        return (given["off"] == 1.0) >= (given["dead"] == given["units"]) and given["bias_rms"] != 0
    if issubclass(kind, m.ZeroWeights):  # near zero against its scale
        return given["rms"] <= 1e-3 * (1.0 if given["role"] == "table" else given["healthy_weight"])
    if issubclass(kind, m.VanishingSignal):  # by small kernels
        return not given["by_kernels"] or given["kernel_rms"] < 0.1 * given["healthy_weight"]
    if issubclass(kind, m.HeldSmall):
        return given["rms"] < 0.1 * given["healthy_weight"] and given["penalty"] > 10 * given["healthy"]
    if issubclass(kind, m.ZeroLossGradient):
        return math.isnan(given["constant_loss"]) == math.isnan(given["left"])
    if issubclass(kind, m.ZeroInput):
        whole = given["zero"] == given["inputs"]
        return bool(given["named"]) >= bool(given["zero"]) and (given["near_zero"] == 1) == whole
    return True
