"""The front door: explain the near-zero gradients of a model, a recording or a recorder."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from trainobs.analysis import TakeLook, WeightInfo, condensed
from trainobs.counterfactuals import TryOut
from trainobs.errors import InvalidArgument, ModelNotReady
from trainobs.recording import Recording
from trainobs.report import Report
from trainobs.selection import Layers, Selection
from trainobs.statistics import Statistics, gather
from trainobs.thresholds import NearZero, Thresholds

if TYPE_CHECKING:
    import keras

    from trainobs.recorder import Recorder
    from trainobs.records import StepRecord

_BACKPROPS = ("tape", "pinv")


def explain_near_zero_gradients(
    source: keras.Model | Recorder | Recording,
    x: object = None,
    y: object = None,
    *,
    step: int | None = None,
    layers: Layers = None,
    batch_size: int = 256,
    near_zero: NearZero | None = None,
    thresholds: Thresholds | None = None,
    backprop: str = "tape",
) -> Report:
    """Explain why gradients of a model's kernels are near zero.

    Parameters
    ----------
    source : keras.Model, Recorder or Recording
        A compiled model (then `x` and `y` are needed), or what a `Recorder` recorded.
    x : array or structure of arrays of shape (samples, …), or dataset, optional
        Data for a model: arrays of any length, or a `tf.data.Dataset`, `keras.utils.PyDataset` or
        generator of batches ``(x, y)`` or ``(x, y, sample_weight)``.
    y : array or structure of arrays of shape (samples, …), optional
        Targets; none with a dataset.
    step : int, optional
        Which recorded step. Default: the last one.
    layers : str, type, or list of them, optional
        Show only these layers: names, patterns such as "conv*", or layer classes. Causes are looked
        for in all of them. Default: all.
    batch_size : int, default 256
        Arrays longer than this are cut into batches, whose statistics are added; memory does not
        grow with the data. The gradient explained is that of the mean loss.
    near_zero : NearZero, optional
        What counts as near zero, where the other thresholds stay as they are. Default: that of `thresholds`;
        without it, what a Recorder counted its statistics with.
    thresholds : Thresholds, optional
        When figures become findings, and what counts as near zero.
    backprop : {"tape", "pinv"}, default "tape"
        Measure backprop on the tape, or compute the whole report from A_{l-1}, W_l, A_l, dJ/dW_l
        and dJ/dW_{l+1} alone, with backprop estimated by pseudo-inverse (the theory's way).

    Returns
    -------
    Report

    Raises
    ------
    ModelNotReady
        If the model is not compiled, has no loss, or no kernel.
    InvalidArgument
        If an argument does not fit; the message says which and what was expected. If a Recorder's statistics
        were counted with another `near_zero` than the one given.
    NotRecorded
        If the step was not recorded, or nothing was.

    Notes
    -----
    The gradient of a weight is a sum over terms, dJ/dw = Σ a·s·g: input, slope, output gradient. A
    set of these factors is a *sufficient* cause if it alone, with the others at their healthy
    reference, keeps the gradient near zero: ``rms over the terms of Π f/f* <= rtol``. A near-zero
    weight belongs to its minimal sufficient sets (docs/theory.md).

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> report = explain_near_zero_gradients(model, np.zeros((8, 4)), np.ones((8, 1)))
    >>> report.findings[["cause", "share"]].iloc[0].cause
    'zero_input'
    """
    _check(backprop, batch_size)
    selection = Selection(layers)
    record = _recorded(source, step, x)
    thresholds = _thresholds_for(record, thresholds, near_zero)
    if record is None:
        statistics, take_look, trial = _of_model(source, x, y, batch_size, thresholds.near_zero, backprop)
    else:
        take_look = trial = None
        statistics = _of_record(record, thresholds.near_zero, backprop)
    _check_weights(statistics, selection)
    report = Report(statistics, thresholds, selection=selection, take_look=take_look, try_out=trial)
    if take_look is not None:
        _ = report.diagnosis  # now, while the model is what was explained
    return report


def _check_weights(statistics: Statistics, selection: Selection) -> None:
    """Refuse a step without weights, and a selection that matches none."""
    sites, others = statistics.sites.values(), statistics.others.values()
    infos: list[WeightInfo] = [*(site.info for site in sites), *(weight.info for weight in others)]
    if not infos:
        raise ModelNotReady(
            "The train step met no kernel that can be recorded: those it has are used inside a loop or a "
            "tf.function of their own. Call the layers outside of it."
        )
    selection.check({info.weight: (info.layer, info.bases or (info.kind,)) for info in infos})


def _check(backprop: str, batch_size: object) -> None:
    if backprop not in _BACKPROPS:
        raise InvalidArgument(f"`backprop` must be one of {_BACKPROPS}. Received: {backprop!r}.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise InvalidArgument(f"`batch_size` must be a positive integer. Received: {batch_size!r}.")


def _recorded(
    source: keras.Model | Recorder | Recording, step: int | None, x: object
) -> StepRecord | Statistics | None:
    """The record to explain, or None if the source is a model."""
    # a Recorder has a recording; its class would load Keras, which a recording is explained without
    recording = getattr(source, "recording", source)
    if isinstance(recording, Recording):
        if x is not None:
            raise InvalidArgument(
                "A recording has its own data: call without `x` and `y`, or pass the model."
            )
        return recording.at(step)
    if step is not None:
        raise InvalidArgument(
            f"`step` goes with a Recorder or Recording. Received: step={step!r} and a model."
        )
    return None


def _thresholds_for(
    record: StepRecord | Statistics | None, thresholds: Thresholds | None, near_zero: NearZero | None
) -> Thresholds:
    """What to explain with: what the user gave; else what statistics were counted with, or the default."""
    if isinstance(record, Statistics) and thresholds is None and near_zero is None:
        return Thresholds(near_zero=record.near_zero)
    return Thresholds.of(thresholds, near_zero)


def _of_record(record: StepRecord | Statistics, near_zero: NearZero, backprop: str) -> Statistics:
    if not isinstance(record, Statistics):
        return gather(record, near_zero, backprop=backprop, condense=condensed)
    if backprop == "pinv":
        raise InvalidArgument('backprop="pinv" needs the tensors: record with keep="tensors".')
    return record


def _of_model(
    model: keras.Model, x: object, y: object, batch_size: int, near_zero: NearZero, backprop: str
) -> tuple[Statistics, TakeLook | None, TryOut | None]:
    """Capture every batch and add the statistics up; and what looks at one again, and what runs it again.

    That is the first with NaN or infinite values, or the first of all. An estimate knows nothing of the
    model's own backprop, so nothing is looked for there.
    """
    from trainobs.batches import Batches
    from trainobs.capture import BatchCapture, check_model, second_look, try_out
    from trainobs.progress import progress

    check_model(model)
    if x is None:
        raise InvalidArgument("A model needs data: pass `x` and `y`, or a dataset of batches as `x`.")
    capture, batches = BatchCapture(model), Batches(x, y, batch_size)
    condense = condensed if batches.length == 1 else None
    total: Statistics | None = None
    looked_at: tuple[object, object, object] = (None, None, None)
    for batch in progress(batches, batches.length):
        part = gather(capture(*batch), near_zero, pinv=total is None, backprop=backprop, condense=condense)
        if total is None or (_is_broken(part) and not _is_broken(total)):
            looked_at = batch
        total = part if total is None else total + part
    if total is None:
        raise InvalidArgument("The data is empty: there is no batch to explain. Pass at least one sample.")
    total = dataclasses.replace(total, step=None)
    if backprop != "tape":
        return total, None, None
    look = functools.partial(second_look, model, *looked_at)
    return total, look, functools.partial(try_out, model, looked_at)


def _is_broken(statistics: Statistics) -> bool:
    """Whether a value or a gradient at a node is NaN or infinite."""
    known = (scalars for node in statistics.nodes for scalars in (node.output, node.output_gradient))
    return any(scalars is not None and scalars.non_finite for scalars in known)
