"""The front door: check a model on a batch, or a recorded step."""

from __future__ import annotations

import keras
import numpy as np

from trainobs.capture import capture_batch, updated_weights, updating_optimizer
from trainobs.errors import InvalidArgument
from trainobs.health._gradients import Moved
from trainobs.health._parts import whole_gradients
from trainobs.health._report import HealthReport, report_of
from trainobs.health._samples import samples_of
from trainobs.health._verdict import explained
from trainobs.recorder import Recorder
from trainobs.recording import Recording
from trainobs.records import StepRecord
from trainobs.statistics import Statistics
from trainobs.thresholds import NearZero, Thresholds


def check_health(
    source: keras.Model | Recorder | Recording,
    x: object = None,
    y: object = None,
    *,
    thresholds: Thresholds | None = None,
    near_zero: NearZero | None = None,
    step: int | None = None,
) -> HealthReport:
    """Check the health of a training: gradients, activations, weights and updates.

    Parameters
    ----------
    source : keras.Model, Recorder or Recording
        A compiled model, which is run on one batch without training it; or what was recorded, with
        ``keep="tensors"``.
    x, y : array or structure of arrays, first axis n, optional
        The batch for a model.
    thresholds : Thresholds, optional
        What figures are compared with.
    near_zero : NearZero, optional
        Short for ``Thresholds(near_zero=near_zero)``: only its `slope_atol` matters here.
    step : int, optional
        Which recorded step; by default the last.

    Returns
    -------
    HealthReport

    Raises
    ------
    InvalidArgument
        If an argument does not fit the source; the message says which.
    ModelNotReady
        If the model is not compiled, has no loss, or no weight.
    NotRecorded
        If nothing was recorded, or not that step.

    Notes
    -----
    The findings are those of `explain_near_zero_gradients` for the same batch or step, and those of the rules
    (docs/health.md): one verdict. The update ratio is ‖ΔW‖ / ‖W‖, where the next step was recorded too; of a
    model, what its optimizer makes of the gradients, tried on copies; otherwise it is not known. Activations
    are compared with those of the step recorded before. A model's weights are taken as initial ones while
    its optimizer has done no step, a recording's in step 0.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> report = check_health(model, np.zeros((8, 4)), np.ones((8, 1)))
    >>> report.findings.cause.tolist()[:3]
    ['zero_input', 'vanishing', 'vanishing']
    """
    thresholds = Thresholds.of(thresholds, near_zero)
    if isinstance(source, (Recorder, Recording)):
        recording = source.recording if isinstance(source, Recorder) else source
        return _of_recording(recording, x, step, thresholds)
    if step is not None:
        raise InvalidArgument(
            f"`step` goes with a Recorder or Recording. Received: step={step!r} and a model."
        )
    if isinstance(source, keras.Model) and x is None:
        raise InvalidArgument("A model needs data: pass a batch as `x` and `y`.")
    record = capture_batch(source, x, y)
    moved = Moved(_updated(source, record))
    return report_of(
        record,
        thresholds,
        step=None,
        first=_steps_done(source.optimizer) == 0,
        moved=moved,
        ask=lambda found: explained(record, thresholds),
    )


def _updated(model: keras.Model, record: StepRecord) -> dict[str, np.ndarray] | None:
    """The weights as the optimizer's next step would make them, as far as that can be told."""
    gradients = whole_gradients(record)
    return None if gradients is None else updated_weights(model, gradients)


def _of_recording(recording: Recording, x: object, step: int | None, thresholds: Thresholds) -> HealthReport:
    if x is not None:
        raise InvalidArgument("A recording has its own data: call without `x` and `y`, or pass the model.")
    record = _with_tensors(recording.at(step))
    others = [other for other in recording if isinstance(other, StepRecord)]
    earlier = [other for other in others if other.step < record.step]
    following = next((other for other in others if other.step == record.step + 1), None)
    return report_of(
        record,
        thresholds,
        step=record.step,
        first=record.step == 0,
        moved=Moved(None if following is None else _weights_of(following)),
        before=samples_of(earlier[-1].sites) if earlier else None,
        ask=lambda found: explained(record, thresholds),
    )


def _with_tensors(record: StepRecord | Statistics) -> StepRecord:
    """What was recorded of a step, if that is all of it."""
    if isinstance(record, StepRecord):
        return record
    raise InvalidArgument(
        f"The recording has only statistics of step {record.step}, not its tensors. Record with "
        f'`Recorder(keep="tensors")`, or use `GradientHealth` in `fit`.'
    )


def _weights_of(record: StepRecord) -> dict[str, np.ndarray]:
    """The weights before a step, by path: of those that are one piece."""
    return {site.weight: site.kernel for site in record.sites if not site.part and site.rows is None}


def _steps_done(optimizer: keras.Optimizer | None) -> int:
    return 0 if optimizer is None else int(np.asarray(updating_optimizer(optimizer).iterations.value))
