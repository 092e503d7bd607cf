"""Why units are off, and why what a kernel reads is near zero: the walk towards the data.

The two ask each other: units are off for want of input, and input is near zero where units are off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from trainobs.analysis import Case, SiteFigures
from trainobs.diagnosis._at_kernel import (
    has_shrunk,
    liveness,
    mostly_off,
    own_fault,
    scale_before,
    silencing_scale,
)
from trainobs.diagnosis._factors import is_joint
from trainobs.diagnosis._origin import Origin, at_its_layer, origin_of
from trainobs.mechanisms import (
    DeadActivation,
    Key,
    Masked,
    OffAtErrors,
    SaturatedActivation,
    VanishingSignal,
    ZeroInput,
    forgotten_state,
    levels_its_input,
    rectifies,
    weights_at_fault,
)
from trainobs.records import DATA


@dataclasses.dataclass(frozen=True)
class Question:
    """Why the units of a kernel are off, or why what it multiplies is near zero.

    Attributes
    ----------
    of : {"units", "input"}
    weight : str
        Key of the kernel.
    """

    of: str
    weight: str


@dataclasses.dataclass(frozen=True)
class Onward:
    """The answer to one question is that to another one, further towards the data.

    Attributes
    ----------
    to : Question
    step : str
        What is seen on the way there; "" for nothing.
    besides : tuple of (str, str)
        What alone would do the same.
    """

    to: Question
    step: str = ""
    besides: tuple[Key, ...] = ()


Reply = Origin | Onward


class Upstream:
    """Walks from kernels to the data. Each question is answered once, whoever asks.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._answers: dict[Question, Origin] = {}

    def why_off(self, figures: SiteFigures) -> Origin:
        """Why the units of a layer are off."""
        return self._answer(self._of_units(figures))

    def why_zero(self, figures: SiteFigures) -> Origin:
        """Why what a kernel multiplies is near zero."""
        return self._answer(Question("input", figures.info.key))

    def silent_input(self, node: int) -> Origin | None:
        """Why one of the inputs of a node is near zero, if one is: a product passes nothing on.

        A state that is not carried on is one, too.
        """
        reply = self._of_product(node)
        return self._followed(reply) if isinstance(reply, Onward) else reply

    # ---- from one question to the next -------------------------------------------------------

    def _answer(self, question: Question) -> Origin:
        asked: dict[Question, Onward] = {}
        passed: set[str] = set()
        now = question
        while now not in self._answers:
            reply = self._reply(now, passed)
            passed.add(now.weight)
            if isinstance(reply, Origin):
                self._answers[now] = reply
            else:
                asked[now], now = reply, reply.to
        for before, onward in reversed(asked.items()):
            self._answers[before] = self._followed(onward)
        return self._answers[question]

    def _followed(self, onward: Onward) -> Origin:
        origin = self._answer(onward.to).beside(onward.besides)
        return origin.after(onward.step) if onward.step else origin

    def _reply(self, question: Question, passed: Collection[str]) -> Reply:
        """What is known at a kernel itself; `passed` are keys of those before it on the same walk."""
        figures = self._case.sites[question.weight]
        if question.of == "units":
            return self._units_of(figures, figures.info.key in passed)
        return self._input_of(figures, passed)

    def _of_units(self, figures: SiteFigures) -> Question:
        owner = self._case.flow.site_of_activation(figures.info.activation_node) or figures
        return Question("units", owner.info.key)

    # ---- why units are off -------------------------------------------------------------------

    def _units_of(self, figures: SiteFigures, again: bool) -> Reply:
        case = self._case
        silencing = silencing_scale(case, figures)
        if silencing is not None:
            return at_its_layer(silencing)
        apart = OffAtErrors.at(case, figures)
        if apart is not None:
            return at_its_layer(apart)
        reason, _ = figures.main_off_reason(case.thresholds.firing)
        step = f"{figures.info.activation.layer} off: {reason}"
        at_fault = own_fault(case, figures, reason)
        if at_fault is not None:
            return origin_of(at_fault, step)
        if rectifies(case, figures) and reason == "input" and not again:
            pushed = DeadActivation.pushed_off(case, figures)
            besides = ((DeadActivation.cause, figures.info.layer),) if pushed else ()
            return Onward(Question("input", figures.info.key), step, besides)
        kind = DeadActivation if rectifies(case, figures) else SaturatedActivation
        return origin_of(kind.of(case, figures), step)

    # ---- why what a kernel reads is near zero ------------------------------------------------

    def _input_of(self, figures: SiteFigures, passed: Collection[str]) -> Reply:
        case = self._case
        if levels_its_input(case, figures):
            return at_its_layer(Masked.at(case, figures.info.node))
        makers = [site for site in self._makers(figures) if site.info.key not in passed]
        if not makers:
            return origin_of(ZeroInput.of(figures), "data")
        source = min(makers, key=liveness)
        stopping = scale_before(case, figures.info.node) or silencing_scale(case, source)
        mechanism = stopping or weights_at_fault(case, source)
        return self._through(figures, source) if mechanism is None else at_its_layer(mechanism)

    def _makers(self, figures: SiteFigures) -> Collection[SiteFigures]:
        """The kernels that make what one reads; the gates, for a recurrent one."""
        node, flow = figures.info.node, self._case.flow
        return flow.gates(node) if figures.info.role == "recurrent" else flow.upstream_sites(node)

    def _through(self, figures: SiteFigures, source: SiteFigures) -> Reply:
        """Why a kernel before another one gives it nothing, if its weights are as they should be."""
        case = self._case
        if mostly_off(case, source):
            return Onward(self._of_units(source))
        if case.shrinks(source):
            return _vanishing(case, source)
        if case.is_near_zero(source.input_rms) and source.info.role == "kernel":
            return Onward(Question("input", source.info.key), source.info.layer)
        if has_shrunk(case, case.output_rms(source)) or is_joint(figures) or figures.info.role == "recurrent":
            return _vanishing(case, source)
        return self._stopped_between(figures)

    def _stopped_between(self, figures: SiteFigures) -> Reply:
        """A layer without a kernel, between two live ones, puts out near-zero values."""
        case = self._case
        node = case.flow.records[figures.info.node].producers[0]
        maker = None if node == DATA else self._of_product(node)
        if maker is not None:
            return maker
        if node == DATA or not case.is_near_zero(case.flow.records[node].output.rms):
            own = "" if figures.carries else figures.info.weight.rsplit("/")[-1]
            return at_its_layer(ZeroInput.of(figures, multiplied_by=own))
        return at_its_layer(Masked.at(case, node))

    # ---- what a node multiplies with ---------------------------------------------------------

    def _of_product(self, node: int) -> Reply | None:
        """Why one of the inputs of a node is near zero; None where none is."""
        case = self._case
        forgotten = forgotten_state(case, node)
        if forgotten is not None:
            return at_its_layer(forgotten)
        if len(case.flow.records[node].producers) < 2:
            return None
        maker = min(case.flow.upstream_sites(node), key=case.output_rms, default=None)
        if maker is None or not case.is_near_zero(case.output_rms(maker)):
            return None
        return self._of_silent(maker)

    def _of_silent(self, maker: SiteFigures) -> Reply | None:
        """Why a kernel gives next to nothing."""
        case = self._case
        at_fault = weights_at_fault(case, maker)
        if at_fault is not None:
            return at_its_layer(at_fault)
        if mostly_off(case, maker):
            return Onward(self._of_units(maker))
        if has_shrunk(case, maker.input_rms):
            return Onward(Question("input", maker.info.key), maker.info.layer)
        return _vanishing(case, maker) if case.shrinks(maker) else None


def _vanishing(case: Case, source: SiteFigures) -> Origin:
    return origin_of(VanishingSignal.before(case, source), source.info.layer)
