"""Which remedies fit which findings: the catalogue, by cause.

An entry looks at a finding and prescribes a `Treatment`, or none where it does not fit. The order in
the catalogue is the order in which they are tried; trials decide which of them is best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from trainobs.errors import InvalidArgument
from trainobs.records import sums_of
from trainobs.remedies import _data, _models
from trainobs.remedies._background import BackgroundLift
from trainobs.remedies._surgery import rebuilt

if TYPE_CHECKING:
    from trainobs.report import Report

#: A model and its data.
Case = tuple[Any, Any, Any]
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Treatment:
    """A remedy for a finding, ready to be applied.

    Attributes
    ----------
    cause, layer : str
        The finding.
    remedy : str
        The remedy's name, such as "swap activation (gelu)".
    changes : str
        What it changes, in a sentence.
    call : str
        The same as code, with `trainobs.remedies` as `remedies`.
    apply : callable
        From (model, x, y) to new ones; what is given stays as it is.
    """

    cause: str
    layer: str
    remedy: str
    changes: str
    call: str
    apply: Callable[[Case], Case]


@dataclasses.dataclass(frozen=True)
class Situation:
    """A finding, and what the report knows of the layers that it speaks of."""

    report: Report
    cause: str
    layer: str

    @property
    def same(self) -> list[str]:
        """The layers that have this finding, or a more severe one of the same cause."""
        findings = self.report.findings
        shown = findings[(findings["cause"] == self.cause) & (findings["severity"] != "info")]
        return list(dict.fromkeys([self.layer, *shown["layer"]]))

    @property
    def targets(self) -> list[str]:
        """The layers to treat: those of the finding; all hidden ones where it has no fixed place."""
        return self.hidden if self.cause == "vanishing" else [n for n in self.same if n in self.kernels]

    @property
    def kernels(self) -> list[str]:
        """All layers with a kernel, input first."""
        return list(dict.fromkeys(info.layer for info in self._kernel_infos()))

    @property
    def hidden(self) -> list[str]:
        """Those of them that another one reads."""
        return list(dict.fromkeys(info.layer for info in self._kernel_infos() if info.consumers))

    def activations(self) -> list[str]:
        """The layers that hold the activation functions of the targets."""
        infos = [info for info in self._kernel_infos() if info.layer in self.targets]
        return list(dict.fromkeys(i.activation.layer for i in infos if i.activation.name != "linear"))

    def is_recurrent(self) -> bool:
        """Whether a target has gates: their activations and preactivations are inside of it."""
        return any(info.part or info.role == "recurrent" for info in self._kernel_infos(self.targets))

    def is_normalised(self, layer: str) -> bool:
        """Whether a normalisation stands between a layer's kernel and its activation already."""
        return any(info.normalised for info in self._kernel_infos([layer]))

    def dead_units(self) -> dict[str, np.ndarray]:
        """Of each target with dead units, which of its units are."""
        masks = {name: self.report.units(name)["dead"].to_numpy(bool) for name in self.targets}
        dead = {name: mask for name, mask in masks.items() if mask.any()}
        behind = {norm: mask for name, mask in dead.items() for norm in self._normalisations_of([name])}
        return dead | behind

    def redrawn(self) -> list[str]:
        """The layers of the finding, with the normalisations between their kernels and activations."""
        return list(dict.fromkeys([*self.same, *self._normalisations_of(self.same)]))

    def _normalisations_of(self, layers: Iterable[str]) -> list[str]:
        nodes = {info.activation_node for info in self._kernel_infos(layers) if info.normalised}
        sites = [site.info for site in self.report.statistics.sites.values()]
        shifts = [info for info in sites if info.role in ("bias", "scale") and info.activation_node in nodes]
        return list(dict.fromkeys(info.layer for info in shifts if info.layer not in self.kernels))

    def too_large(self) -> list[str]:
        """The layers whose kernel is larger than He's scale."""
        sites = self.report.statistics.sites.values()
        found = [
            site.info.layer
            for site in sites
            if site.info.role == "kernel"
            and sums_of(site.kernel).rms > 2 * site.info.op.healthy_weight(site.kernel.shape)
        ]
        return list(dict.fromkeys(found))

    def _kernel_infos(self, layers: Iterable[str] | None = None) -> list[Any]:
        sites = self.report.statistics.sites.values()
        found = [site.info for site in sites if site.info.role in ("kernel", "recurrent", "table")]
        return [info for info in found if layers is None or info.layer in layers]


Entry = Callable[[Situation], Iterator[Treatment]]


def treatments(report: Report) -> list[Treatment]:
    """All treatments of a report's findings, the worst finding's first; each once."""
    found: dict[tuple[str, str], Treatment] = {}
    for finding in report.findings.itertuples():
        if finding.severity == "info" and finding.cause != "frozen":
            continue
        situation = Situation(report, str(finding.cause), str(finding.layer))
        for entry in CATALOGUE.get(situation.cause, ()):
            for treatment in entry(situation):
                found.setdefault((situation.cause, treatment.call), treatment)
    return list(found.values())


# ---- entries -------------------------------------------------------------------------------------


def _on_model(
    of: Situation, remedy: str, changes: str, change: Callable[..., Any], *given: Any, **options: Any
) -> Treatment:
    """A remedy that changes the model; the call that is shown is the one that is made."""
    arguments = [*map(repr, given), *(f"{name}={value!r}" for name, value in options.items())]
    call = f"remedies.{change.__name__}({', '.join(['model', *arguments])})"
    return Treatment(
        of.cause,
        of.layer,
        remedy,
        changes,
        call,
        lambda case: (change(case[0], *given, **options), *case[1:]),
    )


def _on_data(
    of: Situation, remedy: str, changes: str, call: str, change: Callable[[Any, Any], tuple[Any, Any]]
) -> Treatment:
    """A remedy that changes x, y or both; the model is copied, for it will be trained."""
    return Treatment(
        of.cause, of.layer, remedy, changes, call, lambda case: (rebuilt(case[0]), *change(*case[1:]))
    )


def _reinitialise_units(of: Situation) -> Iterator[Treatment]:
    masks = of.dead_units() if not of.is_recurrent() else {}
    if masks:
        many = ", ".join(f"{int(mask.sum())} of {name}" for name, mask in masks.items())
        changes = f"Draws the incoming weights of dead units anew, biases 0: {many}."
        treatment = _on_model(of, "re-initialise dead units", changes, _models.reinitialise_units, masks)
        call = f"remedies.reinitialise_units(model, dead)  # {_named(list(masks))}"  # masks are long
        yield dataclasses.replace(treatment, call=call)


def _reinitialise(of: Situation) -> Iterator[Treatment]:
    names = (
        of.too_large() if of.cause == "exploding" else of.kernels if of.cause == "vanishing" else of.redrawn()
    )
    if names:
        changes = f"Draws kernels anew (He; Glorot before sigmoid and tanh), biases 0: {_named(names)}."
        yield _on_model(of, "re-initialise", changes, _models.reinitialise, layers=names)


def _swap_activations(of: Situation) -> Iterator[Treatment]:
    names = of.activations()
    if names and not of.is_recurrent():
        for to in _models.ACTIVATIONS:
            changes = f"Gives {_named(names)} the activation {to}."
            yield _on_model(of, f"swap activation ({to})", changes, _models.swap_activation, to, layers=names)


def _insert_normalisations(of: Situation) -> Iterator[Treatment]:
    names = [name for name in of.targets if not of.is_normalised(name)]
    if names and not of.is_recurrent():
        for kind, class_name in (("batch", "BatchNormalization"), ("layer", "LayerNormalization")):
            changes = f"Puts a {class_name} between kernel and activation of {_named(names)}."
            yield _on_model(
                of, f"insert {class_name}", changes, _models.insert_normalisation, kind, layers=names
            )


def _wrap_residual(of: Situation) -> Iterator[Treatment]:
    names = of.targets
    if names:
        changes = f"Adds what a layer reads to what it puts out, where shapes allow: {_named(names)}."
        yield _on_model(of, "residual wrap", changes, _models.wrap_residual, layers=names)


def _fix_head(of: Situation) -> Iterator[Treatment]:
    changes = "Changes the last activation, the loss, or both, so that they fit each other and the targets."
    yield _on_model(of, "fix the head", changes, _models.fix_head)


def _clip_gradients(of: Situation) -> Iterator[Treatment]:
    changes = "Scales gradients down to a global norm of 1."
    yield _on_model(of, "clip gradients", changes, _models.clip_gradients)


def _lower_learning_rate(of: Situation) -> Iterator[Treatment]:
    changes = "Divides the learning rate by 10."
    yield _on_model(of, "lower learning rate", changes, _models.lower_learning_rate)


def _warm_up(of: Situation) -> Iterator[Treatment]:
    changes = "Lets the learning rate grow from 0 to its value over 100 steps."
    yield _on_model(of, "warm-up", changes, _models.warm_up)


def _scale_loss(of: Situation) -> Iterator[Treatment]:
    yield _on_model(of, "loss scaling", "Wraps the optimizer in a LossScaleOptimizer.", _models.scale_loss)


def _unfreeze(of: Situation) -> Iterator[Treatment]:
    yield _on_model(of, "unfreeze", f"Trains {of.layer}.", _models.unfreeze, layers=[of.layer])


def _standardise_inputs(of: Situation) -> Iterator[Treatment]:
    changes, call = "Brings every feature to zero mean and unit variance.", "x = remedies.standardise(x)"
    yield _on_data(of, "standardise inputs", changes, call, lambda x, y: (_data.standardise(x), y))


def _standardise_targets(of: Situation) -> Iterator[Treatment]:
    changes, call = "Brings every target to zero mean and unit variance.", "y = remedies.standardise(y)"
    yield _on_data(of, "standardise targets", changes, call, lambda x, y: (x, _standardised_targets(y)))


def _standardised_targets(y: Any) -> Any:
    if not all(np.asarray(leaf).dtype.kind == "f" for leaf in keras.tree.flatten(y)):
        raise InvalidArgument("The targets are classes, not numbers: they have no scale.")
    return _data.standardise(y)


def _lift_background(of: Situation) -> Iterator[Treatment]:
    changes = "Maps inputs from [0, 1] to [0.08, 1], so that black is not 0."
    call = "x = remedies.BackgroundLift()(x)"
    yield _on_data(of, "lift the background", changes, call, lambda x, y: (_lifted(x), y))


def _lifted(x: Any) -> Any:
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    if not all(v.dtype.kind == "f" and v.min(initial=0) >= 0 and v.max(initial=0) <= 1 for v in leaves):
        raise InvalidArgument("Only images in [0, 1] have a background to lift.")
    return keras.tree.map_structure(lambda leaf: np.asarray(BackgroundLift()(np.asarray(leaf))), x)


def _drop_non_finite(of: Situation) -> Iterator[Treatment]:
    changes = "Leaves out the samples that hold NaN or infinite values."
    call = "x, y = remedies.drop_non_finite(x, y)"
    yield _on_data(of, "drop broken samples", changes, call, _data.drop_non_finite)


def _named(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


#: By cause: what may help, in the order in which it is tried.
CATALOGUE: dict[str, tuple[Entry, ...]] = {
    "dead_activation": (
        _reinitialise_units, _reinitialise, _insert_normalisations, _swap_activations, _lower_learning_rate,
        _warm_up,
    ),
    "saturated_activation": (_reinitialise, _insert_normalisations, _swap_activations, _lower_learning_rate),
    "unscaled_input": (_standardise_inputs, _insert_normalisations),
    "zero_input": (_lift_background, _standardise_inputs),
    "vanishing": (_reinitialise, _insert_normalisations, _swap_activations, _wrap_residual),
    "zero_weights": (_reinitialise,),
    "output_mismatch": (_fix_head,),
    "exploding": (
        _reinitialise, _standardise_targets, _insert_normalisations, _clip_gradients, _lower_learning_rate,
        _warm_up,
    ),
    "underflow": (_scale_loss,),
    "non_finite": (_drop_non_finite, _reinitialise),
    "frozen": (_unfreeze,),
}  # fmt: skip
